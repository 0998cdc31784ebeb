"""A saved model folder as bytes, so that it can be an artifact."""

import io
import tarfile
from pathlib import Path


def pack_folder(folder: Path) -> bytes:
    """The files of a folder as a tar; the same files give the same bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                member = tarfile.TarInfo(path.relative_to(folder).as_posix())
                member.size = path.stat().st_size
                with path.open("rb") as file:
                    archive.addfile(member, file)
    return buffer.getvalue()


def unpack_folder(packed: bytes, folder: Path) -> Path:
    """Write the files of `pack_folder` into `folder`, never outside of it.

    Not with tarfile's own filter, which Python 3.11 has from 3.11.4 on only.

    Raises:
        tarfile.TarError: the bytes are damaged, or hold anything but files inside.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        for member in archive:
            path = folder / member.name
            inside = path.resolve().is_relative_to(folder.resolve())
            if not (member.isfile() and inside):
                raise tarfile.ExtractError(f"{member.name}: no file inside the folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.extractfile(member).read())
    return folder
