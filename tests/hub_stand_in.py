"""The Hugging Face hub on 127.0.0.1, for tests: what huggingface_hub 2.4 asks of it.

Files go up and down as on the hub, but for Xet. It can be told to fail.
"""

import base64
import hashlib
import json
import re
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import yaml
from hub_repositories import (
    Account,
    Commit,
    Repositories,
    Repository,
    describe_file,
    is_large,
)

# Some of those that the hub knows.
LICENCES = ("apache-2.0", "cc-by-4.0", "gpl-3.0", "mit", "other", "unknown")
TOKEN = "hf_" + "Tester" * 6  # of the user tester, who may write
HEAD = re.compile("---\n(.*?\n)---\n", re.S)  # of a card
NAME = "((?:datasets/)?(?:[^/]+/)?[^/]+)"
MODEL = "/api/(?:models/)?((?:datasets/)?(?:[^/]+/)??[^/]+)"
# The first that matches; what is in brackets becomes the arguments of the method.
ROUTES = [
    ("GET", "/api/whoami-v2", "whoami"),
    ("POST", "/api/repos/create", "create"),
    ("POST", "/api/validate-yaml", "validate"),
    ("POST", f"{MODEL}/preupload/(.+)", "preupload"),
    ("POST", f"{MODEL}/commit/(.+)", "commit"),
    ("POST", f"{MODEL}/tag/(.+)", "tag"),
    ("GET", f"{MODEL}/refs", "refs"),
    ("GET", f"{MODEL}/commits/(.+)", "history"),
    ("GET", f"{MODEL}/tree/([^/]+)", "tree"),
    ("GET", f"{MODEL}/auth-check(/write)?", "check"),
    ("GET", f"{MODEL}(?:/revision/(.+))?", "describe"),
    ("POST", f"/{NAME}.git/info/lfs/objects/batch", "offer"),
    ("PUT", "/lfs/([0-9a-f]{64})", "store"),
    ("POST", "/lfs/([0-9a-f]{64})/verify", "verify"),
    ("GET", f"/{NAME}/resolve/([^/]+)/(.+)", "file"),
]


@dataclass
class Fault:
    """How the next `times` requests that match the pattern fail; see `fail`."""

    pattern: str
    times: int
    status: int | None
    headers: dict[str, str]
    message: str
    cut: str | None
    delay: float


class HubStandIn(ThreadingHTTPServer):
    """A hub that knows the repositories and the tokens it is given.

    repositories: files by name, by `owner/name` (models) or `datasets/owner/name`; what
        is put in becomes a public `Repository`.
    gated: those of them to which access is refused, but to their owners.
    tokens: accounts; TOKEN is that of `tester`, a writer in the organisation `lab`.
    blobs: large files that were uploaded, by SHA-256.
    requests: all so far, as `POST /api/repos/create`.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.endpoint = f"http://127.0.0.1:{self.server_port}"
        self.repositories = Repositories()
        self.gated: set[str] = set()
        self.tokens = {TOKEN: Account("tester", {"lab": "write"})}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.faults: list[Fault] = []
        self.lock = threading.RLock()

    def fail(
        self,
        pattern: str,
        times: int = 1,
        status: int | None = None,
        headers: dict[str, str] | None = None,
        message: str = "planned failure",
        cut: str | None = None,
        delay: float = 0.0,
    ) -> None:
        """Let requests fail.

        Args:
            pattern: of the request, such as `POST /api/models/.*/commit`.
            times: how many of them.
            status: to answer with; None: as usual, after the delay or until the cut.
            headers: of that answer.
            message: of that answer.
            cut: close the connection in the middle of the `body`, which then was never
                read, or instead of the `answer`, with all done that was asked for.
            delay: seconds until anything happens.
        """
        fault = Fault(pattern, times, status, headers or {}, message, cut, delay)
        self.faults.append(fault)

    def next_fault(self, request: str) -> Fault | None:
        """The fault that is planned for a request; it counts as used."""
        with self.lock:
            self.requests.append(request)
            for fault in self.faults:
                if fault.times and re.match(fault.pattern, request):
                    fault.times -= 1
                    return fault
        return None

    def handle_error(self, request, client_address):
        """A client that goes away is part of a test."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Refusal(Exception):
    """An answer other than 200; `code` tells the client what is missing."""

    def __init__(self, status: int, error: str, code: str | None = None, **facts):
        self.status, self.code, self.facts = status, code, {"error": error, **facts}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body of an answer go separately
    server: HubStandIn

    def serve(self):
        parts = urlsplit(self.path)
        path, self.query = unquote(parts.path), parse_qs(parts.query)
        fault = self.server.next_fault(f"{self.command} {path}")
        self.cut_answer = bool(fault and fault.cut == "answer")
        size = int(self.headers.get("Content-Length", 0))
        if fault:
            threading.Event().wait(fault.delay)
            if fault.cut == "body":
                self.rfile.read(size // 2)
                self.hang_up()
                return
        self.body = self.rfile.read(size)
        try:
            if fault and fault.status:
                raise Refusal(fault.status, fault.message)
            method, arguments = self.route(path)
            with self.server.lock:
                answer = method(*arguments)
            if isinstance(answer, tuple):
                self.send(200, *answer)
            else:
                self.send(200, json.dumps(answer).encode())
        except Refusal as refusal:
            headers = dict(fault.headers) if fault else {}
            if refusal.code:
                headers["X-Error-Code"] = refusal.code
            self.send(refusal.status, json.dumps(refusal.facts).encode(), headers)

    do_GET = do_HEAD = do_POST = do_PUT = serve

    def route(self, path: str):
        command = self.command.replace("HEAD", "GET")
        for verb, pattern, name in ROUTES:
            if verb == command and (match := re.fullmatch(pattern, path)):
                return getattr(self, name), match.groups()
        raise Refusal(404, "Not found", "EntryNotFound")

    # Who asks, and what for

    def account(self) -> Account | None:
        header = self.headers.get("Authorization")
        account = self.server.tokens.get((header or "").removeprefix("Bearer "))
        if header and not account:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return account

    def repository(self, name: str, verb: str = "read") -> Repository:
        account = self.account()
        found = self.server.repositories.get(name)
        own = account is not None and account.may("read", name)
        if found is None or (found.private and not own):
            raise Refusal(404 if account else 401, "Not found", "RepoNotFound")
        if name in self.server.gated and not own:
            raise Refusal(403, "Access is restricted", "GatedRepo")
        if verb == "write" and not (account and account.may("write", name)):
            raise Refusal(403, "You don't have the rights to write to this repository")
        return found

    def revision(self, name: str, revision: str | None) -> Commit:
        commit = self.repository(name).find(revision or "main")
        if commit is None:
            raise Refusal(404, "Invalid rev id", "RevisionNotFound")
        return commit

    # What is answered: a dict or list as JSON, or a content with headers

    def whoami(self):
        account = self.account()
        if account is None:
            raise Refusal(401, "Invalid username or password.")
        return account.describe()

    def create(self):
        wanted, account = json.loads(self.body), self.account()
        owner = wanted["organization"] or account.user
        name = f"{owner}/{wanted['name']}"
        if account is None or not account.may("write", name):
            raise Refusal(403, f"You don't have the rights to create {name}")
        answer = {"name": name, "url": f"{self.server.endpoint}/{name}"}
        if name in self.server.repositories:
            raise Refusal(409, "You already created this repository", **answer)
        private = wanted.get("visibility") == "private"
        rules = {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs\n"}
        self.server.repositories[name] = Repository(rules, private)
        return answer

    def validate(self):
        head = HEAD.match(json.loads(self.body)["content"])
        if not head:
            return {"errors": [], "warnings": [{"message": "empty metadata"}]}
        try:
            said = yaml.safe_load(head[1])
        except yaml.YAMLError as error:
            errors = [{"message": str(error)}]
            raise Refusal(400, "Invalid metadata", errors=errors) from error
        if said.get("license", "unknown") not in LICENCES:
            errors = [{"message": f'"license" must be one of [{", ".join(LICENCES)}]'}]
            raise Refusal(400, "Invalid metadata", errors=errors)
        return {"errors": [], "warnings": []}

    def describe(self, name, revision):
        commit = self.revision(name, revision)
        found = self.repository(name)
        siblings = []
        for path, content in commit.files.items():
            file = describe_file(path, content)
            sibling = {"rfilename": path}
            if "blobs" in self.query:
                sibling |= {"size": file["size"], "blobId": file["oid"]}
                if lfs := file.get("lfs"):
                    sibling["lfs"] = {**lfs, "sha256": lfs["oid"]}
            siblings.append(sibling)
        card = HEAD.match(commit.files.get("README.md", b"").decode())
        return {
            "id": name.removeprefix("datasets/"),
            "cardData": yaml.safe_load(card[1]) if card else None,
            "sha": commit.sha,
            "lastModified": commit.date,
            "private": found.private,
            "disabled": found.disabled,
            "gated": "manual" if name in self.server.gated else False,
            "siblings": siblings,
        }

    def tree(self, name, revision):
        files = self.revision(name, revision).files
        return [{"type": "file", **describe_file(*item)} for item in files.items()]

    def history(self, name, revision):
        head = self.revision(name, revision)
        commits = self.repository(name).commits
        return [
            {
                "id": commit.sha,
                "title": commit.title,
                "message": "",
                "date": commit.date,
                "authors": [{"user": "tester"}],
            }
            for commit in reversed(commits[: commits.index(head) + 1])
        ]

    def refs(self, name):
        found = self.repository(name)

        def refer(kind, name, sha):
            return {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": sha}

        return {
            "branches": [refer("heads", "main", found.head.sha)],
            "converts": [],
            "tags": [refer("tags", *tag) for tag in found.tags.items()],
        }

    def check(self, name, write):
        self.repository(name, "write" if write else "read")
        return {}

    def file(self, name, revision, path):
        commit = self.revision(name, revision)
        if path not in commit.files:
            raise Refusal(404, "Entry not found", "EntryNotFound")
        content = commit.files[path]
        file = describe_file(path, content)
        etag = file.get("lfs", file)["oid"]
        headers = {
            "Content-Type": "application/octet-stream",
            "ETag": f'"{etag}"',
            "X-Repo-Commit": commit.sha,
            "X-Linked-ETag": f'"{etag}"',
            "X-Linked-Size": str(len(content)),
        }
        return content, headers

    # What changes a repository

    def preupload(self, name, revision):
        there = self.repository(name, "write").find(revision).files
        answers = []
        for file in json.loads(self.body)["files"]:
            large = is_large(base64.b64decode(file["sample"]), file["size"])
            answer = {
                "path": file["path"],
                "uploadMode": "lfs" if large else "regular",
                "shouldIgnore": False,
            }
            if file["path"] in there:
                facts = describe_file(file["path"], there[file["path"]])
                answer["oid"] = facts.get("lfs", facts)["oid"]
            answers.append(answer)
        return {"files": answers}

    def offer(self, name):
        self.repository(name, "write")
        offers = []
        for blob in json.loads(self.body)["objects"]:
            place = f"{self.server.endpoint}/lfs/{blob['oid']}"
            if blob["oid"] not in self.server.blobs:
                upload = {"upload": {"href": place}}
                blob["actions"] = upload | {"verify": {"href": f"{place}/verify"}}
            offers.append(blob)
        return {"transfer": "basic", "objects": offers}

    def store(self, sha256):
        if hashlib.sha256(self.body).hexdigest() != sha256:
            raise Refusal(400, "The content is not what was announced")
        self.server.blobs[sha256] = self.body
        return {}

    def verify(self, sha256):
        if len(self.server.blobs.get(sha256, b"")) != json.loads(self.body)["size"]:
            raise Refusal(404, "No such content")
        return {}

    def commit(self, name, revision):
        found = self.repository(name, "write")
        lines = [json.loads(line) for line in self.body.splitlines()]
        header = next(line["value"] for line in lines if line["key"] == "header")
        if header.get("parentCommit", found.head.sha) != found.head.sha:
            raise Refusal(
                412, "A commit has happened since. Please refresh and try again."
            )
        files = dict(found.head.files)
        for line in lines:
            kind, file = line["key"], line["value"]
            if kind == "file":
                files[file["path"]] = base64.b64decode(file["content"])
            elif kind == "lfsFile":
                if file["oid"] not in self.server.blobs:
                    raise Refusal(400, "LFS pointer to a file that does not exist")
                files[file["path"]] = self.server.blobs[file["oid"]]
            elif kind == "deletedFile" and not files.pop(file["path"], None):
                raise Refusal(404, "A file with this name doesn't exist")
        sha = found.commit(header["summary"], files).sha
        url = f"{self.server.endpoint}/{name}/commit/{sha}"
        return {"success": True, "commitOid": sha, "commitUrl": url}

    def tag(self, name, revision):
        found, tag = self.repository(name, "write"), json.loads(self.body)["tag"]
        if tag in found.tags:
            raise Refusal(409, "Reference already exists")
        found.tags[tag] = self.revision(name, revision).sha
        return {}

    # The connection

    def send(self, status: int, content: bytes, headers=()):
        if self.cut_answer:
            self.hang_up()
            return
        headers = {"Content-Type": "application/json"} | dict(headers)
        self.send_response(status)
        for header, value in headers.items():
            self.send_header(header, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def hang_up(self):
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *args):
        """Keep the tests' output free of requests."""


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Iterator[HubStandIn]:
    """An empty hub, found by huggingface_hub here and in processes started from here.

    There is an empty cache for its files, and the token of `tester`.
    """
    from huggingface_hub import constants

    server = HubStandIn()
    serve = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    serve.start()
    home = tmp_path / "hub_home"
    template = server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    for name, value in {
        "ENDPOINT": server.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": template,
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"),
    }.items():
        monkeypatch.setattr(constants, name, value)
    for name, value in {
        "HF_ENDPOINT": server.endpoint,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(home),
        "HF_TOKEN": TOKEN,
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("HF_HUB_CACHE", "HF_TOKEN_PATH", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    yield server
    server.shutdown()
    server.server_close()
