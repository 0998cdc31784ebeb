"""What the hub's stand-in keeps: repositories with their commits, and accounts."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

LARGE = 10_000_000  # bytes; what is larger, or binary, is not kept by git itself


class Commit(NamedTuple):
    """What a repository had at one time: contents by file name."""

    sha: str
    title: str
    date: str
    files: dict[str, bytes]


class Repository(Mapping):
    """The files of the branch main, by name, and how they came to be."""

    def __init__(self, files: Mapping[str, bytes], private: bool = False):
        self.private = private
        self.disabled = False
        self.tags: dict[str, str] = {}
        self.commits: list[Commit] = []
        self.commit("initial commit", files)

    @property
    def head(self) -> Commit:
        return self.commits[-1]

    def commit(self, title: str, files: Mapping[str, bytes]) -> Commit:
        """Make these the files of main."""
        facts = [str(len(self.commits)), title, *(map(str, sorted(files.items())))]
        sha = "c0ffee" + hashlib.sha1("\n".join(facts).encode()).hexdigest()[:34]
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.000Z}"
        self.commits.append(Commit(sha, title, now, dict(files)))
        return self.head

    def find(self, revision: str) -> Commit | None:
        """The commit of a branch, a tag or a SHA."""
        sha = self.tags.get(revision, revision)
        named = {commit.sha: commit for commit in self.commits} | {"main": self.head}
        return named.get(sha)

    def __getitem__(self, name: str) -> bytes:
        return self.head.files[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.head.files)

    def __len__(self) -> int:
        return len(self.head.files)


class Repositories(dict):
    """By `owner/name` (models) or `datasets/owner/name`; plain files become one."""

    def __setitem__(self, name: str, files: Mapping[str, bytes]):
        new = files if isinstance(files, Repository) else Repository(files)
        super().__setitem__(name, new)


@dataclass
class Account:
    """What a token stands for.

    orgs: the user's roles in organisations (admin, write, contributor, read), by name.
    role: of the token: write, read or fineGrained.
    scoped: of a fine-grained token, permissions by user, organisation or repository.
    """

    user: str
    orgs: dict[str, str] = field(default_factory=dict)
    role: str = "write"
    scoped: dict[str, list[str]] = field(default_factory=dict)

    def may(self, verb: str, repository: str) -> bool:
        """Whether it may read or write a repository that is not public."""
        owner = repository.removeprefix("datasets/").partition("/")[0]
        in_org = self.orgs.get(owner)
        member = owner == self.user or in_org is not None
        if verb == "write" and in_org == "read":
            return False
        if self.role == "fineGrained":
            granted = self.scoped.get(owner, []) + self.scoped.get(repository, [])
            needed = {"read": "repo.content.read", "write": "repo.write"}[verb]
            return member and needed in granted
        return member and (verb == "read" or self.role == "write")

    def describe(self) -> dict:
        """The answer of `/api/whoami-v2`."""
        token = {"displayName": "a token for tests", "role": self.role}
        if self.role == "fineGrained":
            kinds = {self.user: "user"} | dict.fromkeys(self.orgs, "org")
            token["fineGrained"] = {
                "global": [],
                "scoped": [
                    {
                        "entity": {"type": kinds.get(name, "model"), "name": name},
                        "permissions": permissions,
                    }
                    for name, permissions in self.scoped.items()
                ],
            }
        return {
            "type": "user",
            "name": self.user,
            "orgs": [
                {"type": "org", "name": name, "roleInOrg": role}
                for name, role in self.orgs.items()
            ],
            "auth": {"type": "access_token", "accessToken": token},
        }


def describe_file(name: str, content: bytes) -> dict:
    """Size and hashes of a file, as the hub lists them; `lfs` if git has a pointer."""
    facts = {"path": name, "size": len(content), "oid": git_hash(content)}
    if is_large(content[:512], len(content)):
        sha256 = hashlib.sha256(content).hexdigest()
        pointer = (
            "version https://git-lfs.github.com/spec/v1\n"
            f"oid sha256:{sha256}\nsize {len(content)}\n"
        ).encode()
        lfs = {"oid": sha256, "size": len(content), "pointerSize": len(pointer)}
        facts |= {"oid": git_hash(pointer), "lfs": lfs}
    return facts


def is_large(sample: bytes, size: int) -> bool:
    """Whether a file is kept beside git, judged by its first bytes and its size."""
    return size > LARGE or b"\0" in sample


def git_hash(content: bytes) -> str:
    """What git calls a content."""
    return hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest()
