"""Files of a run beside Metaflow's own, on the local disk or on S3."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from ojd_daps_language_models.getters.storage import explained_faults

PART = ".part"  # folder of what is being written, with the number of its process


def open_store(url: str) -> "Store":
    """The store at a folder or an S3 prefix."""
    return Bucket(url) if url.startswith("s3://") else Folder(Path(url))


class Store(Protocol):
    """Files under names such as `folder/file`, each there as a whole or not at all."""

    def names(self) -> list[str]:
        """The names of all files."""

    def write(self, name: str, fill: Callable[[Path], None]) -> None:
        """Let `fill` write a file, and put it in the place of what had that name."""
        with self.writing(name) as path:
            fill(path)

    def writing(self, name: str) -> AbstractContextManager[Path]:
        """Where to write a file; it is there once the context ends without an error.

        What the writer leaves beside it, such as a temporary file, is not kept. Files
        that are written at the same time are in different folders.
        """

    def read(self, name: str) -> AbstractContextManager[Path]:
        """The path of a file, while the context lasts; FileNotFoundError if none."""

    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""


class Folder(Store):
    """A store on the local disk."""

    def __init__(self, root: Path):
        self._root = root

    def names(self) -> list[str]:
        """See `Store`."""
        return [
            path.relative_to(self._root).as_posix()
            for path in self._root.rglob("*")
            if path.is_file() and path.parent.suffix != PART
        ]

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """See `Store`."""
        path = self._root / name
        for cut_off in filter(is_cut_off, path.parent.glob(f"*{PART}")):
            shutil.rmtree(cut_off, ignore_errors=True)
        part = path.with_suffix(f".{os.getpid()}{PART}")
        part.mkdir(parents=True)
        try:
            yield part / path.name
            (part / path.name).replace(path)
        finally:
            shutil.rmtree(part, ignore_errors=True)

    @contextmanager
    def read(self, name: str) -> Iterator[Path]:
        """See `Store`."""
        path = self._root / name
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
        yield path

    def delete(self, name: str) -> None:
        """See `Store`; folders without files go too, and what was cut off there."""
        path = self._root / name
        path.unlink(missing_ok=True)
        for folder in path.relative_to(self._root).parents:
            if not all(map(is_cut_off, (self._root / folder).glob("*"))):
                break
            shutil.rmtree(self._root / folder, ignore_errors=True)


class Bucket(Store):
    """A store on S3; Metaflow's client brings endpoint, role, and ten attempts each."""

    def __init__(self, url: str):
        self._url = url
        self._bucket, _, self._prefix = url.removeprefix("s3://").partition("/")
        from metaflow.plugins.datatools.s3.s3 import S3Client

        self._client = S3Client().client

    def __reduce__(self):  # in another process it needs a client of its own
        return Bucket, (self._url,)

    def names(self) -> list[str]:
        """See `Store`."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._key("")
        )
        with explained_faults(self._url):
            return [
                entry["Key"].removeprefix(self._key(""))
                for page in pages
                for entry in page.get("Contents", [])
            ]

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """See `Store`."""
        from metaflow.metaflow_config import S3_SERVER_SIDE_ENCRYPTION as encryption

        more = {"ServerSideEncryption": encryption} if encryption else None
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "file"
            yield path
            with explained_faults(self._url):
                self._client.upload_file(str(path), self._bucket, self._key(name), more)

    @contextmanager
    def read(self, name: str) -> Iterator[Path]:
        """See `Store`."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "file"
            with explained_faults(f"{self._url}/{name}"):
                self._client.download_file(self._bucket, self._key(name), str(path))
            yield path

    def delete(self, name: str) -> None:
        """See `Store`."""
        with explained_faults(self._url):
            self._client.delete_object(Bucket=self._bucket, Key=self._key(name))

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}"


def is_cut_off(path: Path) -> bool:
    """Whether this is of a file whose process is gone, or is this one."""
    if path.suffix != PART:
        return False
    process = int(path.suffixes[-2][1:])
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # of another user
        return False
    return process == os.getpid()
