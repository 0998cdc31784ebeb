"""Publishes a folder as a model of the Hugging Face hub: checked first, in one commit.

`check_push` finds before training what would otherwise be found after it.

`push_folder` makes its commit with `create_commit`. `upload_folder` of huggingface_hub
2.4 would divide a folder whose commit fails into several commits, so that half a model
can be seen, and would repeat a commit of which only the answer was lost (its
`_upload_pipeline.py`). The client itself repeats the requests that move files, but not
those that create the repository, the commit and the tag. Here all of them are repeated
in rounds; each begins with what the hub has by then, so that nothing is made twice.
"""

import hashlib
import json
import random
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from huggingface_hub import HfApi, ModelInfo

TRIES = 6  # rounds of a push, then it is given up
TRIES_BEFORE_TRAINING = 3  # rounds of the check: somebody waits for it
FIRST_WAIT = 1.0  # seconds before the second round, doubled before each further one
LONGEST_WAIT = 300.0  # seconds: the hub counts requests over five minutes
# Seconds: to connect, for the next bytes in and out, for a free connection.
TIMEOUT = (10.0, 120.0, 120.0, 10.0)

LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
KEPT = ".gitattributes"  # says which files are large; the hub writes it


def check_push(
    repository: str,
    private: bool,
    licence: str | None = None,
    language: str | None = None,
    tags: Sequence[str] = (),
) -> dict[str, Any]:
    """Make sure that a push can work, and print what it will do.

    Args:
        repository: OWNER/NAME on the hub.
        private: whether the repository has to be private.
        licence: of the model, by the hub's name for it.
        language: of the texts, ISO 639.
        tags: of the card that have to be on one that is there, see `push_folder`.

    Returns:
        repository, user, exists, private, and of what exists `files` (their number) and
        `last_modified` (ISO 8601).

    Raises:
        ValueError: the name is not valid, the hub does not know the licence or the
            language, or the repository has another model, or is public and has to be
            private.
        PermissionError: there is no token, the hub does not take it, it may not write
            to this repository, or the repository is gated or disabled.
        ConnectionError: the hub cannot be reached.
    """
    api = _client(repository)
    said = {"license": licence or "unknown"}
    said |= {"language": language} if language else {}

    def look() -> tuple[dict, "ModelInfo | None"]:
        user = api.whoami()
        _check_rights(api, repository, user)
        found = _find(api, repository)
        if found:
            _check_found(found, repository, private)
            _check_model(found, repository, tags)
            api.auth_check(repository, write=True)
        api._validate_yaml(f"---\n{yaml.safe_dump(said)}---\n")  # as a commit does
        return user, found

    user, found = _insist(
        api,
        repository,
        look,
        TRIES_BEFORE_TRAINING,
        "check the connection (or HF_ENDPOINT), or run without --push-to",
    )
    facts = {
        "repository": repository,
        "user": user["name"],
        "exists": found is not None,
        "private": found.private if found else private,
        "files": sum(file.rfilename != KEPT for file in found.siblings) if found else 0,
        "last_modified": found.last_modified.isoformat() if found else None,
    }
    visibility = "private" if facts["private"] else "public"
    if found:
        print(
            f"{repository}: the model will replace the {facts['files']} files of this "
            f"{visibility} repository, last changed {found.last_modified:%Y-%m-%d}; "
            "its earlier commits stay"
        )
    else:
        print(f"{repository}: the model will go to a new {visibility} repository")
    return facts


def push_folder(
    folder: str | Path,
    repository: str,
    private: bool,
    tag: str,
    message: str,
    tags: Sequence[str] = (),
) -> dict[str, Any]:
    """Make the files of a folder those of a repository, in one commit with a tag.

    What was published before under the same tag, or is on the hub already, is not
    committed again; files of an earlier model go away in the same commit.

    Args:
        folder: what to publish; all files in it.
        repository: OWNER/NAME; created if it does not exist.
        private: whether the repository has to be private.
        tag: names the commit; one run, one tag.
        message: of the commit; one run, one message.
        tags: a model is replaced only if its card has these.

    Returns:
        repository, url, commit (SHA), tag, files (their number).

    Raises:
        ValueError: the folder is empty, the tag names other files already, the hub
            refuses the files, or the repository has another model, or is public and
            has to be private.
        PermissionError: as `check_push`.
        ConnectionError: the hub was down or changed by others in all of `TRIES` rounds.
    """
    folder = Path(folder)
    names = _names(folder)
    if not names:
        raise ValueError(f"{folder}: there are no files to publish")
    api = _client(repository)
    without_training = "and `resume` or `make publish` publishes without training again"
    start = _insist(
        api,
        repository,
        lambda: _find_or_create(api, repository, private).sha,
        TRIES,
        f"no file was changed on the hub, {without_training}",
    )
    commit = _insist(
        api,
        repository,
        lambda: _publish(api, folder, repository, private, tag, message, start, tags),
        TRIES,
        f"the hub shows what it did before or the whole model, {without_training}",
    )
    url = f"{api.endpoint}/{repository}"
    print(f"{url}: {len(names)} files are published as {tag}, commit {commit[:7]}")
    return {
        "repository": repository,
        "url": url,
        "commit": commit,
        "tag": tag,
        "files": len(names),
    }


def _client(repository: str) -> "HfApi":
    """A client with a token, for a repository whose name is valid."""
    from huggingface_hub import HfApi, get_token, is_offline_mode
    from huggingface_hub.utils import validate_repo_id

    if repository.count("/") != 1:
        raise ValueError(f"--push-to {repository}: expected OWNER/NAME")
    try:
        validate_repo_id(repository)
    except ValueError as error:
        raise ValueError(f"--push-to {repository}: {error}") from None
    if is_offline_mode():
        raise ConnectionError(
            f"{repository}: the hub is switched off by HF_HUB_OFFLINE=1: unset it"
        )
    token = get_token()
    if not token:
        raise PermissionError(
            f"{repository}: there is no token for the hub: {LOG_IN}, with a token that "
            "may write"
        )
    # The HTTP client would quote a header that cannot be sent, with the token in it.
    if not re.fullmatch("[!-~]+", token):
        raise PermissionError(
            f"{repository}: the token has characters that no token has: {LOG_IN}"
        )
    return HfApi(token=token)


def _check_rights(api: "HfApi", repository: str, user: dict) -> None:
    """Raise PermissionError if the token may not write to the repository.

    Args:
        user: the answer of `/api/whoami-v2`.
    """
    owner, name = repository.split("/")
    own = f"--push-to {user['name']}/{name}"
    roles = {org["name"]: org.get("roleInOrg") for org in user.get("orgs", [])}
    if owner != user["name"] and owner not in roles:
        raise PermissionError(
            f"{repository}: '{owner}' is neither you ('{user['name']}') nor one of "
            f"your organisations ({', '.join(sorted(roles)) or 'none'}): use {own}"
        )
    if roles.get(owner) == "read":
        raise PermissionError(
            f"{repository}: your role in '{owner}' is read: ask for the role write, or "
            f"use {own}"
        )
    token = user.get("auth", {}).get("accessToken") or {}
    may_write = token.get("role") != "read"
    if token.get("role") == "fineGrained":
        may_write = any(
            scope["entity"].get("name") in (owner, repository)
            and "repo.write" in scope["permissions"]
            for scope in token.get("fineGrained", {}).get("scoped", [])
        )
    if not may_write:
        raise PermissionError(
            f"{repository}: the token '{token.get('displayName')}' may not write to "
            f"it: make one that may at {api.endpoint}/settings/tokens, then {LOG_IN}"
        )


def _check_found(found: "ModelInfo", repository: str, private: bool) -> None:
    """Raise an error if an existing repository is not one to publish to."""
    if private and not found.private:
        raise ValueError(
            f"{repository}: it is public, but publishing.private is true: make it "
            f"private with `hf repos settings {repository} --private`, or, if everyone "
            "may read the model, set publishing.private to false"
        )
    if found.disabled:
        raise PermissionError(
            f"{repository}: the hub has disabled it: use another name"
        )
    if found.gated:
        raise PermissionError(
            f"{repository}: it is gated, its readers have to ask for access: open it "
            f"with `hf repos settings {repository} --gated false`, or use another name "
            "for --push-to"
        )


def _check_model(found: "ModelInfo", repository: str, tags: Sequence[str]) -> None:
    """Raise ValueError if there is a model whose card has not all of the tags."""
    own = [str(tag) for tag in getattr(found.card_data, "tags", None) or []]
    files = {file.rfilename for file in found.siblings} - {KEPT, "README.md"}
    if files and not set(tags) <= set(own):
        raise ValueError(
            f"{repository}: another model stands there, last changed "
            f"{found.last_modified:%Y-%m-%d}, and would be replaced: the tags of its "
            f"card are {', '.join(own) or 'none'}, expected "
            f"{', '.join(tags)}: use another name"
        )


def _look(api: "HfApi", repository: str, commit: str | None = None) -> "ModelInfo":
    """What a repository is, with its files and their hashes."""
    return api.model_info(
        repository, revision=commit, files_metadata=True, timeout=TIMEOUT
    )


def _find(api: "HfApi", repository: str) -> "ModelInfo | None":
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        return _look(api, repository)
    except GatedRepoError:  # a kind of the next one, but it exists
        raise
    except RepositoryNotFoundError:
        return None


def _find_or_create(api: "HfApi", repository: str, private: bool) -> "ModelInfo":
    found = _find(api, repository)
    if not found:
        api.create_repo(repository, private=private, exist_ok=True)
        found = _look(api, repository)
    _check_found(found, repository, private)
    return found


def _publish(
    api: "HfApi",
    folder: Path,
    repository: str,
    private: bool,
    tag: str,
    message: str,
    start: str,
    tags: Sequence[str],
) -> str:
    """One round of a push: make the commit and the tag where the hub has none.

    Args:
        start: the head of the repository when the push began.

    Returns:
        The commit.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    head = _find_or_create(api, repository, private)
    refs = {ref.name: ref.target_commit for ref in api.list_repo_refs(repository).tags}
    if tag in refs:
        if not _holds(api, repository, refs[tag], folder):
            raise ValueError(
                f"{repository}: {tag} names other files there (commit {refs[tag][:7]}),"
                " and what a run published is not changed: delete the tag with "
                f"`hf repos tag delete {repository} {tag}` if it is wrong"
            )
        print(f"{repository}: {tag} is there already")
        return refs[tag]
    # An earlier round, or push, may have got no further, and others gone on from it.
    commits = api.list_repo_commits(repository)
    own = (commit.commit_id for commit in commits if commit.title == message)
    since = dict.fromkeys((start, head.sha, *own))
    commit = next((c for c in since if _holds(api, repository, c, folder)), None)
    if commit:
        print(f"{repository}: these files are there already")
    else:
        _check_model(head, repository, tags)
        names = _names(folder)
        old = {file.rfilename for file in head.siblings} - {KEPT}
        gone = sorted(old.difference(names))
        commit = api.create_commit(
            repository,
            [
                *(CommitOperationDelete(name, is_folder=False) for name in gone),
                *(CommitOperationAdd(name, folder / name) for name in names),
            ],
            commit_message=message,
            parent_commit=head.sha,
        ).oid
        if old:
            print(
                f"{repository}: the {len(old)} files of commit {head.sha[:7]} are "
                "replaced; it stays"
            )
    api.create_tag(repository, tag=tag, revision=commit)
    return commit


def _names(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file()
    )


def _holds(api: "HfApi", repository: str, commit: str, folder: Path) -> bool:
    """Whether a commit has the files of a folder, and no others."""
    files = {file.rfilename: file for file in _look(api, repository, commit).siblings}
    files.pop(KEPT, None)
    return files.keys() == set(_names(folder)) and all(
        file.size == (folder / name).stat().st_size
        and _hash(folder / name, large=bool(file.lfs))
        == (file.lfs.sha256 if file.lfs else file.blob_id)
        for name, file in files.items()
    )


def _hash(path: Path, large: bool) -> str:
    """What the hub calls a content: by LFS if it is large, else as git does."""
    if large:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest()


def _insist(
    api: "HfApi", repository: str, task: Callable, tries: int, in_the_end: str
) -> Any:
    """Do a task until the hub plays along; a fault that stays is one clear sentence.

    It is raised outside of the handler: nothing that the hub or the client said, which
    might repeat the token, is chained to it.

    Args:
        task: what asks the hub, and may do so again.
        tries: rounds.
        in_the_end: how things are when all rounds failed.
    """
    from huggingface_hub import get_session
    from huggingface_hub.errors import HTTPError

    for attempt in range(1, tries + 1):
        get_session().timeout = TIMEOUT  # the client's own is to wait for ever
        try:
            return task()
        except (HTTPError, OSError, RuntimeError, ValueError) as error:
            # The client puts others around faults of an upload or of the card's head.
            inner = None if isinstance(error, HTTPError) else error.__cause__
            fault = _explain(api, repository, inner or error)
            if fault is None:
                raise
            wait = _seconds_to_wait(inner or error, attempt)
        if not isinstance(fault, ConnectionError):
            raise fault
        if attempt < tries:
            print(f"{fault}; again in {wait:.0f} s (round {attempt + 1} of {tries})")
            time.sleep(wait)
    raise ConnectionError(f"{fault}, in each of {tries} rounds: {in_the_end}")


def _explain(api: "HfApi", repository: str, error: Exception) -> Exception | None:
    """The error to raise instead; a ConnectionError if it may pass; None: as it is."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    def one_line(text: str) -> str:
        return " ".join(text.split()).replace(api.token, "…")

    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        said = error.server_message or error.response.reason_phrase
        answer = f"{status}: {one_line(said)}"
        if status == 401:
            return PermissionError(
                f"{repository}: the hub does not take the token, it has expired or was "
                f"revoked: {LOG_IN}"
            )
        if status in (409, 412):
            return ConnectionError(
                f"{repository}: somebody else changed it at the same time"
            )
        if status in (408, 429) or status >= 500:
            return ConnectionError(f"{repository}: the hub answered {answer}")
        if status in (402, 403, 404):
            return PermissionError(
                f"{repository}: the hub refuses it ({answer}): {LOG_IN}, with a token "
                "that may write there"
            )
        return ValueError(f"{repository}: the hub refuses what was sent ({answer})")
    broken = (HTTPError, ConnectionError, TimeoutError, RuntimeError)
    if isinstance(error, (*broken, json.JSONDecodeError)):
        return ConnectionError(
            f"{repository}: no connection to the hub "
            f"({type(error).__name__}: {one_line(str(error))})"
        )
    return None


def _seconds_to_wait(error: Exception, attempt: int) -> float:
    """Longer from round to round, not the same for all, and not before the hub says."""
    from huggingface_hub.utils import parse_ratelimit_headers

    # Not the seeded generator: all runs of a configuration would wait alike.
    jitter = random.SystemRandom().uniform(0.5, 1.5)
    wait = FIRST_WAIT * 2 ** (attempt - 1) * jitter
    response = getattr(error, "response", None)
    if response is not None:
        limit = parse_ratelimit_headers(response.headers)
        if limit and limit.remaining == 0:
            wait = max(wait, limit.reset_in_seconds)
        asked = response.headers.get("Retry-After", "")
        if asked.isdigit():
            wait = max(wait, int(asked))
    return min(wait, LONGEST_WAIT)
