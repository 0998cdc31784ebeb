"""Publishing: what is found before training, and a push over a bad connection."""

import itertools
import re
import subprocess
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import pytest
from hub_repositories import Account, Repository
from hub_stand_in import TOKEN

from ojd_daps_language_models import PROJECT_DIR
from ojd_daps_language_models.publishing import hub as publishing
from ojd_daps_language_models.publishing.hub import check_push, push_folder

NAME = "tester/model"
COMMIT = f"POST /api/models/{NAME}/commit"
BLOB = "PUT /lfs/"


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """Nobody waits; the seconds that it would have taken."""
    seconds = []
    monkeypatch.setattr(time, "sleep", seconds.append)
    return seconds


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "model")


def write_folder(folder, words="words", **others):
    """A folder with two files that git keeps, and two that are kept beside it."""
    files = {
        "README.md": f"---\nlanguage: en\n---\n{words}\n".encode(),
        "config.json": b"{}",
        "model.safetensors": b"\0" + words.encode() * 50_000,
        "figures/loss.png": b"\x89PNG\0",
        **{name.replace("_", "."): content for name, content in others.items()},
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def contents(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def push(folder, tag="run-1", private=True, tags=()):
    return push_folder(folder, NAME, private, tag, f"Publish {tag}", tags)


def titles(hub):
    return [commit.title for commit in hub.repositories[NAME].commits]


def published(hub, commit="main"):
    files = dict(hub.repositories[NAME].find(commit).files)
    files.pop(".gitattributes", None)
    return files


def count(hub, pattern):
    return sum(bool(re.match(pattern, request)) for request in hub.requests)


# Before training


def test_what_will_happen_is_said_and_nothing_is_done(hub, capsys):
    facts = check_push(NAME, private=True)
    assert facts == {
        "repository": NAME,
        "user": "tester",
        "exists": False,
        "private": True,
        "files": 0,
        "last_modified": None,
    }
    assert capsys.readouterr().out == (
        f"{NAME}: the model will go to a new private repository\n"
    )
    hub.repositories[NAME] = Repository({"a": b"", "b": b""}, private=True)
    facts = check_push(NAME, private=True)
    assert facts["exists"] and facts["files"] == 2 and facts["last_modified"]
    assert re.search(
        r"replace the 2 files of this private .* last changed 20\d\d-\d\d-\d\d",
        capsys.readouterr().out,
    )
    asked = {request for request in hub.requests if not request.startswith("GET")}
    assert asked == {"POST /api/validate-yaml"}


@pytest.mark.parametrize("licence", ["Apache-2.0", "gpl-3.0-or-later"])
def test_a_licence_that_the_hub_does_not_know_is_refused_before_training(licence, hub):
    with pytest.raises(ValueError, match=r'"license" must be one of \[apache'):
        check_push(NAME, private=True, licence=licence)
    check_push(NAME, private=True, licence="apache-2.0")


def test_without_a_token_it_says_how_to_log_in(hub, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(PermissionError, match=r"no token .*`hf auth login`.*HF_TOKEN"):
        check_push(NAME, private=True)
    assert not hub.requests


def test_a_token_that_has_expired(hub):
    hub.tokens.clear()
    with pytest.raises(PermissionError, match=r"expired or was revoked.*hf auth login"):
        check_push(NAME, private=True)


@pytest.mark.parametrize(
    ("account", "error"),
    [
        (Account("tester", role="read"), "token 'a token for tests' may not write"),
        (Account("tester", role="fineGrained"), "may not write"),
        (
            Account("tester", {}, "fineGrained", {"tester": ["repo.content.read"]}),
            "may not write",
        ),
        (Account("tester", {}, "fineGrained", {"lab": ["repo.write"]}), "may not"),
        (Account("tester", {}, "fineGrained", {"tester": ["repo.write"]}), None),
        (Account("tester", {}, "fineGrained", {NAME: ["repo.write"]}), None),
    ],
)
def test_a_token_has_to_be_one_that_may_write(account, error, hub):
    hub.tokens[TOKEN] = account
    if error:
        with pytest.raises(PermissionError, match=error + r".*/settings/tokens.*HF_TO"):
            check_push(NAME, private=True)
    else:
        assert check_push(NAME, private=True)["user"] == "tester"


def test_only_places_of_ones_own_are_published_to(hub):
    hub.repositories["stranger/model"] = {"config.json": b"{}"}
    with pytest.raises(PermissionError, match=r"--push-to tester/model"):
        check_push("stranger/model", private=False)
    assert check_push("lab/model", private=True)["exists"] is False
    hub.tokens[TOKEN] = Account("tester", {"lab": "read"})
    with pytest.raises(PermissionError, match=r"role in 'lab' is read.*--push-to tes"):
        check_push("lab/model", private=True)
    hub.tokens[TOKEN] = Account("tester")
    with pytest.raises(PermissionError, match=r"nor one of your organisations \(none"):
        check_push("lab/model", private=True)


@pytest.mark.parametrize("name", ["model", "a/b/c", "tester/my model", "tester/a--b"])
def test_a_name_that_the_hub_would_not_take(name, hub):
    with pytest.raises(ValueError, match=f"--push-to {name}: "):
        check_push(name, private=True)
    assert not hub.requests


def test_nothing_becomes_public_by_accident(hub, folder):
    hub.repositories[NAME] = {"config.json": b"{}"}
    ways_out = rf"public.*hf repos settings {NAME} --private.*publishing.private to fal"
    with pytest.raises(ValueError, match=ways_out):
        check_push(NAME, private=True)
    with pytest.raises(ValueError, match=ways_out):
        push(folder)
    assert titles(hub) == ["initial commit"]
    assert check_push(NAME, private=False)["private"] is False


def test_a_repository_that_is_gated_or_disabled_is_refused(hub):
    hub.repositories[NAME] = Repository({}, private=True)
    hub.gated.add(NAME)
    with pytest.raises(
        PermissionError, match=r"gated.*hf repos settings .*--gated fal"
    ):
        check_push(NAME, private=True)
    hub.gated.clear()
    hub.repositories[NAME].disabled = True
    with pytest.raises(PermissionError, match="the hub has disabled it"):
        check_push(NAME, private=True)


CARDS = {
    "---\ntags: [job-adverts, mlm, metaflow]\n---\n": True,
    "---\ntags: [job-adverts, ner, metaflow]\n---\n": False,
    "---\nlicense: mit\n---\nA colleague's tagger\n": False,
    "A colleague's tagger\n": False,
    None: False,
}


@pytest.mark.parametrize("card", CARDS)
def test_only_a_model_of_the_same_task_is_replaced(card, hub, folder):
    files = {"model.safetensors": b"\0best"}
    files |= {"README.md": card.encode()} if card else {}
    hub.repositories[NAME] = Repository(files, private=True)
    tags = ("job-adverts", "mlm")
    for check in (
        lambda: check_push(NAME, private=True, tags=tags),
        lambda: push(folder, tags=tags),  # it may have come there since
    ):
        if CARDS[card]:
            check()
        else:
            with pytest.raises(
                ValueError,
                match=r"another model.* last .*expected job-adverts, mlm: use anoth",
            ):
                check()
            assert titles(hub) == ["initial commit"]


def test_a_repository_without_a_model_may_have_a_card(hub, folder):
    files = {".gitattributes": b"", "README.md": b"# Ours, soon\n"}
    hub.repositories[NAME] = Repository(files, private=True)
    check_push(NAME, private=True, tags=("job-adverts", "mlm"))
    push(folder, tags=("job-adverts", "mlm"))
    assert published(hub) == contents(folder)


def test_the_hub_has_the_last_word_on_who_may_write(hub):
    hub.repositories[NAME] = Repository({}, private=True)
    hub.fail(f"GET /api/models/{NAME}/auth-check/write", status=403, message="frozen")
    with pytest.raises(PermissionError, match=r"refuses it \(403: frozen"):
        check_push(NAME, private=True)


def test_without_a_network_it_says_so_at_once(hub, monkeypatch, waits):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        ConnectionError, match=r"no connection.*or run without --push-t"
    ):
        check_push(NAME, private=True)
    assert len(waits) == publishing.TRIES_BEFORE_TRAINING - 1
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE=1: unset it"):
        check_push(NAME, private=True)


def test_the_check_lives_through_a_moment_without_the_hub(hub, waits):
    hub.fail("GET /api/whoami-v2", status=503)
    hub.fail("GET /api/models/", cut="answer")
    assert check_push(NAME, private=True)["user"] == "tester"


# The push


def test_a_folder_becomes_one_private_commit_with_a_tag(hub, folder, capsys):
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError

    done = push(folder)
    assert titles(hub) == ["initial commit", "Publish run-1"]
    assert published(hub) == contents(folder)
    assert done == {
        "repository": NAME,
        "url": f"{hub.endpoint}/{NAME}",
        "commit": hub.repositories[NAME].head.sha,
        "tag": "run-1",
        "files": 4,
    }
    assert hub.repositories[NAME].tags == {"run-1": done["commit"]}
    assert hub.repositories[NAME].private
    assert f"{done['url']}: 4 files are published as run-1" in capsys.readouterr().out
    with pytest.raises(RepositoryNotFoundError):
        snapshot_download(NAME, token=False)


def test_it_is_public_only_where_that_was_asked_for(hub, folder):
    from huggingface_hub import snapshot_download

    push(folder, private=False)
    read_back = snapshot_download(NAME, token=False, ignore_patterns=".gitattributes")
    assert contents(type(folder)(read_back)) == contents(folder)


def test_the_same_files_are_committed_once(hub, folder):
    first = push(folder)
    assert push(folder) == first
    assert push(folder, "run-2")["commit"] == first["commit"]
    assert len(titles(hub)) == 2
    assert hub.repositories[NAME].tags == dict.fromkeys(
        ("run-1", "run-2"), first["commit"]
    )


def test_files_of_an_earlier_model_go_away_in_the_same_commit(hub, folder, tmp_path):
    old = write_folder(tmp_path / "old", "old", vocab_txt=b"old", extra_bin=b"\0")
    push(old)
    push(folder, "run-2")
    assert titles(hub) == ["initial commit", "Publish run-1", "Publish run-2"]
    assert published(hub) == contents(folder)
    assert ".gitattributes" in hub.repositories[NAME]
    assert published(hub, "run-1") == contents(old)


def test_what_a_run_published_is_not_changed(hub, folder, tmp_path):
    first = push(folder)
    other = write_folder(tmp_path / "other", "other")
    with pytest.raises(
        ValueError, match=r"run-1 names other files.*hf repos tag delete"
    ):
        push(other)
    assert len(titles(hub)) == 2
    push(other, "run-2")
    assert push(folder) == first  # a repeated step does not undo a later run
    assert published(hub) == contents(other)


def test_a_push_that_is_continued_does_not_undo_a_later_one(
    hub, folder, tmp_path, waits, capsys
):
    hub.fail("POST .*/tag/", times=publishing.TRIES, status=503)
    with pytest.raises(ConnectionError):
        push(folder)
    later = write_folder(tmp_path / "later", "later")
    push(later, "run-2")
    replaced = hub.repositories[NAME].commits[1].sha
    assert (
        f"the 4 files of commit {replaced[:7]} are replaced" in capsys.readouterr().out
    )
    assert push(folder)["commit"] == replaced
    assert titles(hub) == ["initial commit", "Publish run-1", "Publish run-2"]
    assert published(hub) == contents(later)
    assert published(hub, "run-1") == contents(folder)
    assert "these files are there already" in capsys.readouterr().out


def test_an_empty_folder_does_not_empty_a_repository(hub, tmp_path):
    with pytest.raises(ValueError, match="no files to publish"):
        push(tmp_path / "nothing")
    assert not hub.requests


# A hub that fails


@pytest.mark.parametrize(
    "request_", ["POST /api/repos/create", "GET /api/models/", COMMIT, "POST .*/tag/"]
)
def test_a_hub_that_is_down_for_two_tries(request_, hub, folder, waits, capsys):
    hub.fail(request_, times=2, status=503, message="overloaded")
    push(folder)
    assert titles(hub) == ["initial commit", "Publish run-1"]
    assert published(hub, "run-1") == contents(folder)
    assert len(waits) == 2 and waits[0] < 2 * publishing.FIRST_WAIT <= 2 * waits[1]
    printed = capsys.readouterr().out
    assert "the hub answered 503: overloaded; again in" in printed
    assert f"(round 3 of {publishing.TRIES})" in printed


def test_the_hub_says_how_long_to_wait(hub, folder, waits):
    hub.fail("POST /api/repos/create", status=429, headers={"Retry-After": "17"})
    hub.fail(COMMIT, status=429, headers={"RateLimit": '"api";r=0;t=23'})
    hub.fail("POST .*/tag/", status=503, headers={"Retry-After": "86400"})
    push(folder)
    assert waits == [17, 23, publishing.LONGEST_WAIT]
    assert len(titles(hub)) == 2


def test_a_hub_that_stays_down_is_one_clear_error(hub, folder, waits):
    hub.fail("GET /api/models/", times=99, status=500)
    with pytest.raises(
        ConnectionError, match=r"no file was changed on the hub, and `resume` or"
    ):
        push(folder)
    assert len(waits) == publishing.TRIES - 1
    assert NAME not in hub.repositories


def test_a_commit_that_stays_impossible_leaves_what_was_there(hub, folder, waits):
    hub.fail(COMMIT, times=99, status=500)
    with pytest.raises(ConnectionError, match="what it did before or the whole model"):
        push(folder)
    assert count(hub, COMMIT) == publishing.TRIES
    assert titles(hub) == ["initial commit"] and not hub.repositories[NAME].tags


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (400, ValueError, "refuses what was sent .400: too bad"),
        (401, PermissionError, "expired or was revoked"),
        (403, PermissionError, "refuses it .403: too bad.*hf auth login"),
        (404, PermissionError, "refuses it .404: too bad"),
    ],
)
def test_a_refusal_is_not_repeated(status, error, message, hub, folder, waits):
    hub.fail(COMMIT, times=99, status=status, message="too bad")
    with pytest.raises(error, match=message):
        push(folder)
    assert count(hub, COMMIT) == 1 and not waits


def test_a_card_that_the_hub_does_not_accept(hub, folder, waits):
    (folder / "README.md").write_text("---\nlicense: [\n---\n")
    with pytest.raises(ValueError, match=r"Invalid metadata .*line 2"):
        push(folder)
    assert titles(hub) == ["initial commit"] and not count(hub, BLOB)


def test_a_connection_that_breaks_in_the_middle_of_a_blob(hub, folder, waits):
    hub.fail(BLOB, times=2, cut="body")
    push(folder)
    assert published(hub) == contents(folder)
    assert len(titles(hub)) == 2


def test_a_blob_that_the_client_gives_up_is_begun_again(hub, folder, waits, capsys):
    (folder / "figures/loss.png").unlink()
    hub.fail(BLOB, times=6, cut="body")  # as often as the client tries
    push(folder)
    assert published(hub) == contents(folder)
    assert "no connection to the hub" in capsys.readouterr().out


@pytest.mark.parametrize("cut", ["body", "answer"])
@pytest.mark.parametrize("request_", ["POST /api/repos/create", COMMIT, "POST .*/tag/"])
def test_a_connection_that_breaks_makes_nothing_twice(
    request_, cut, hub, folder, waits
):
    hub.fail(request_, cut=cut)
    done = push(folder)
    assert titles(hub) == ["initial commit", "Publish run-1"]
    assert hub.repositories[NAME].tags == {"run-1": done["commit"]}
    assert published(hub, "run-1") == contents(folder)


def test_a_lost_answer_and_somebody_who_goes_on_from_there(
    hub, folder, waits, monkeypatch
):
    hub.fail(COMMIT, cut="answer")
    monkeypatch.setattr(
        time,
        "sleep",
        lambda _: hub.repositories[NAME].commit("Somebody else", {"other": b""}),
    )
    done = push(folder)
    assert titles(hub) == ["initial commit", "Publish run-1", "Somebody else"]
    assert hub.repositories[NAME].commits[1].sha == done["commit"]
    assert published(hub, "run-1") == contents(folder)


def test_a_hub_that_does_not_answer_is_not_waited_for(hub, folder, waits, monkeypatch):
    monkeypatch.setattr(publishing, "TIMEOUT", (5.0, 0.3, 5.0, 5.0))
    hub.fail("POST .*/tag/", delay=1.0)
    push(folder)
    assert len(titles(hub)) == 2 and len(waits) == 1


def test_a_push_that_is_killed_before_its_commit_is_done_by_the_next(hub, folder):
    hub.fail("POST /lfs/.*/verify", times=2, delay=30.0)
    code = f"""
from ojd_daps_language_models.publishing.hub import push_folder
push_folder({str(folder)!r}, {NAME!r}, True, "run-1", "Publish run-1")
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT_DIR)
    deadline = time.monotonic() + 60
    while count(hub, "POST /lfs/.*/verify") < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert titles(hub) == ["initial commit"] and not published(hub)
    assert count(hub, BLOB) == 2
    push(folder)
    assert titles(hub) == ["initial commit", "Publish run-1"]
    assert published(hub, "run-1") == contents(folder)
    assert count(hub, BLOB) == 2  # what was uploaded is not uploaded again


@pytest.mark.parametrize("words", [("one", "two"), ("same", "same")])
def test_two_pushes_at_once(words, hub, tmp_path, monkeypatch, capsys):
    from huggingface_hub import HfApi

    monkeypatch.setattr(publishing, "FIRST_WAIT", 0.01)
    create_commit = HfApi.create_commit
    both, calls = threading.Barrier(2), itertools.count()

    def commit_together(*args, **kwargs):
        if next(calls) < 2:  # later ones are repeated
            both.wait(30)
        return create_commit(*args, **kwargs)

    monkeypatch.setattr(HfApi, "create_commit", commit_together)
    folders = [write_folder(tmp_path / str(n), word) for n, word in enumerate(words)]
    with ThreadPoolExecutor() as pool:
        pushes = [pool.submit(push, f, f"run-{n}") for n, f in enumerate(folders)]
        done = [push.result() for push in pushes]
    assert len(titles(hub)) == 1 + len(set(words))
    assert len({push["commit"] for push in done}) == len(set(words))
    for n, folder in enumerate(folders):
        assert published(hub, f"run-{n}") == contents(folder)
    assert "somebody else changed it at the same time; again" in capsys.readouterr().out


# The token, and the way back


@pytest.mark.parametrize("token", [TOKEN, "hf_planted\x01", "hf_planté"])
def test_the_token_is_nowhere(token, hub, folder, waits, monkeypatch, capfd, caplog):
    monkeypatch.setenv("HF_TOKEN", token)
    said = []
    for request, status in itertools.product(
        ("GET /api/whoami-v2", "GET /api/models/", "POST /api/validate", COMMIT),
        (None, 400, 401, 403, 429, 500),
    ):
        hub.faults.clear()
        if status:
            hub.fail(request, times=99, status=status, message=f"Bad {token}")
        for publish in (lambda: check_push(NAME, True), lambda: push(folder)):
            try:
                said.append(str(publish()))
            except (ValueError, OSError) as error:
                said += traceback.format_exception(error)
                while error:
                    said.append(f"{error!r} {vars(error)}")
                    error = error.__cause__ or error.__context__
    assert any("Error" in text for text in said)
    printed = capfd.readouterr()
    said += [printed.out, printed.err, caplog.text]
    assert not [text for text in said if token[3:8] in text]


def test_a_model_is_read_back_as_it_was_published(hub, tiny_bert):
    import torch
    from transformers import AutoModel, AutoTokenizer

    push(tiny_bert)
    sentence = "You will cook for our guests."
    vectors = []
    for place in ({"revision": "run-1"}, {}):
        name = NAME if place else tiny_bert
        model = AutoModel.from_pretrained(name, **place)
        tokens = AutoTokenizer.from_pretrained(name, **place)(
            sentence, return_tensors="pt"
        )
        with torch.no_grad():
            vectors.append(model(**tokens).last_hidden_state)
    assert torch.equal(*vectors)


def test_a_data_set_is_read_back(hub):
    hub.repositories["datasets/tester/adverts"] = {"train.csv": b"text\nwords\n"}
    # In a process of its own: where it reads from is decided when it is imported.
    code = """
import datasets
print(datasets.load_dataset("tester/adverts", split="train")[0])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "{'text': 'words'}\n", done.stderr
