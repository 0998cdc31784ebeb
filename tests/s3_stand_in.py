"""S3 on 127.0.0.1 for tests: moto's server, and a connection to it that gets cut."""

import itertools
import logging
import socket
import struct
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest


class S3StandIn(NamedTuple):
    """A bucket of its own for whoever asks."""

    endpoint: str
    bucket: str
    client: Any

    def put(self, key: str, content: bytes) -> str:
        """Store an object and return its URL."""
        self.client.put_object(Bucket=self.bucket, Key=key, Body=content)
        return f"s3://{self.bucket}/{key}"

    @property
    def environment(self) -> dict[str, str]:
        """With which every S3 client finds it."""
        return {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": self.endpoint,
        }


@contextmanager
def serve_s3() -> Iterator[str]:
    """The address of a server that is there for the time being."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The address of a server that runs as long as the tests do."""
    with serve_s3() as endpoint:
        yield endpoint


def make_bucket(endpoint: str) -> S3StandIn:
    """A new one, whose client needs no environment."""
    import boto3

    bucket = f"adverts-{uuid.uuid4().hex}"
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    client.create_bucket(Bucket=bucket)
    return S3StandIn(endpoint, bucket, client)


@pytest.fixture
def s3(s3_endpoint, monkeypatch) -> S3StandIn:
    """An empty bucket, and an environment in which every S3 client finds it."""
    bucket = make_bucket(s3_endpoint)
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)  # it keeps credentials
    return bucket


class Cuts:
    """How many answers were cut off, and how many still will be."""

    def __init__(self, endpoint: str, left: int):
        self.endpoint, self.left, self.made = endpoint, left, 0


@contextmanager
def cut_connection(endpoint: str, after_bytes: int, times: int) -> Iterator[Cuts]:
    """A way to a server on which long answers break off, the first `times` of them."""
    target = urlsplit(endpoint)
    listener = socket.create_server(("127.0.0.1", 0))
    cuts = Cuts(f"http://127.0.0.1:{listener.getsockname()[1]}", times)

    def accept() -> None:
        with suppress(OSError):  # the listener is closed at the end
            while True:
                client, _ = listener.accept()
                server = socket.create_connection((target.hostname, target.port))
                relay(client, server, send_request)
                relay(server, client, send_answer)

    def relay(source: socket.socket, sink: socket.socket, send) -> None:
        threading.Thread(target=send, args=(source, sink), daemon=True).start()

    def send_request(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(2**16):
                sink.sendall(data)

    def send_answer(source: socket.socket, sink: socket.socket) -> None:
        sent = 0
        with suppress(OSError):
            while data := source.recv(2**14):
                sent += len(data)
                if sent > after_bytes and cuts.left:
                    cuts.left -= 1
                    cuts.made += 1
                    break
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield cuts
    finally:
        listener.close()


@contextmanager
def busy_server(
    endpoint: str, times: int, every: int = 1, resets: bool = False
) -> Iterator[Cuts]:
    """A way to a server that answers some connections `503 Slow Down` at first.

    Args:
        times: how many of them.
        every: one in so many, counted from the first.
        resets: every other of them is reset instead.
    """
    target = urlsplit(endpoint)
    listener = socket.create_server(("127.0.0.1", 0))
    cuts = Cuts(f"http://127.0.0.1:{listener.getsockname()[1]}", times)
    connections = itertools.count()
    error = b"<Error><Code>SlowDown</Code><Message>slow down</Message></Error>"
    answer = (
        b"HTTP/1.1 503 Slow Down\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    )
    at_once = struct.pack("ii", 1, 0)  # closed without a farewell

    def accept() -> None:
        with suppress(OSError):  # the listener is closed at the end
            while True:
                client, _ = listener.accept()
                threading.Thread(target=serve, args=(client,), daemon=True).start()

    def serve(client: socket.socket) -> None:
        with suppress(OSError):
            asked = client.recv(2**16)
            if cuts.left and next(connections) % every == 0:
                cuts.left -= 1
                cuts.made += 1
                if resets and cuts.made % 2:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
                else:
                    client.sendall(answer % len(error) + error)
                client.close()
                return
            server = socket.create_connection((target.hostname, target.port))
            server.sendall(asked)
            back = threading.Thread(target=relay, args=(server, client), daemon=True)
            back.start()
            relay(client, server)

    def relay(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(2**16):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield cuts
    finally:
        listener.close()
