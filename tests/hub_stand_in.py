"""The part of the Hugging Face hub that downloads need, on 127.0.0.1, for tests."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest

COMMIT = "c0ffee" + "0" * 34


class HubStandIn(ThreadingHTTPServer):
    """A hub that knows the repositories it is given.

    repositories: files by name, by `owner/name` (models) or `datasets/owner/name`.
    gated: those of them to which access is refused.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.gated: set[str] = set()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = unquote(urlsplit(self.path).path).strip("/")
        listing = re.fullmatch(
            r"api/(models/|(datasets/))((?:[^/]+/)??[^/]+)(?:/(revision|tree)/([^/]+))?",
            path,
        )
        file = re.fullmatch(r"((?:datasets/)?[^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if listing:
            _, datasets, name, form, revision = listing.groups()
            self.answer((datasets or "") + name, revision, form or "revision")
        elif file:
            self.answer(file[1], file[2], "file", file[3])
        else:
            self.refuse(404, "EntryNotFound")

    do_HEAD = do_GET

    def answer(self, repository, revision, form, file=None):
        files = self.server.repositories.get(repository)
        if files is None:
            self.refuse(401, "RepoNotFound")
        elif repository in self.server.gated:
            self.refuse(403, "GatedRepo")
        elif revision not in (None, "main", COMMIT):
            self.refuse(404, "RevisionNotFound")
        elif form == "file":
            if file in files:
                self.send(200, files[file], "application/octet-stream")
            else:
                self.refuse(404, "EntryNotFound")
        elif form == "tree":
            entries = [
                {
                    "type": "file",
                    "path": name,
                    "size": len(content),
                    "oid": oid(content),
                }
                for name, content in files.items()
            ]
            self.send(200, json.dumps(entries).encode())
        else:
            siblings = [{"rfilename": name} for name in files]
            facts = {"id": repository.removeprefix("datasets/"), "sha": COMMIT}
            self.send(200, json.dumps(facts | {"siblings": siblings}).encode())

    def refuse(self, status, code):
        self.send(status, b"{}", headers={"X-Error-Code": code})

    def send(self, status, content, kind="application/json", headers=()):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{oid(content)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *args):
        """Keep the tests' output free of requests."""


def oid(content: bytes) -> str:
    """A name for a content."""
    return hashlib.sha1(content).hexdigest()


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Iterator[HubStandIn]:
    """An empty hub, found by huggingface_hub, and an empty cache for its files."""
    from huggingface_hub import constants

    server = HubStandIn()
    serve = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    serve.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub_cache"))
    yield server
    server.shutdown()
    server.server_close()
