"""Where training checkpoints are kept, and of which training each is."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np

SUFFIX = ".safetensors"
LIBRARIES = ("torch", "transformers", "accelerate")


class Store(Protocol):
    """Files under names such as `folder/file`, each there as a whole or not at all."""

    def names(self) -> list[str]:
        """The names of all files."""

    def write(self, name: str, fill: Callable[[Path], None]) -> None:
        """Let `fill` write a file, and put it in the place of what had that name."""

    def read(self, name: str) -> AbstractContextManager[Path]:
        """The path of a file, while the context lasts; FileNotFoundError if none."""

    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""


class Folder:
    """A store on the local disk."""

    def __init__(self, root: Path):
        self._root = root

    def names(self) -> list[str]:
        """See `Store`."""
        found = self._root.rglob(f"*{SUFFIX}")
        return [path.relative_to(self._root).as_posix() for path in found]

    def write(self, name: str, fill: Callable[[Path], None]) -> None:
        """See `Store`."""
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for cut_off in path.parent.glob("*.part"):  # its process was killed
            cut_off.unlink(missing_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        try:
            fill(part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    @contextmanager
    def read(self, name: str) -> Iterator[Path]:
        """See `Store`."""
        path = self._root / name
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
        yield path

    def delete(self, name: str) -> None:
        """See `Store`; with the last file of a folder what was cut off goes too."""
        path = self._root / name
        path.unlink(missing_ok=True)
        if not any(path.parent.glob(f"*{SUFFIX}")):
            shutil.rmtree(path.parent, ignore_errors=True)


@dataclass(frozen=True)
class TrainingCheckpoints:
    """Where the trainings of one run are kept while they go on.

    Args:
        store: for this run alone.
        decided_by: what all its trainings depend on, in values that JSON knows.
        minutes: between two checkpoints.
        notice: a file that is there as soon as the machine is to be taken away.
    """

    store: Store
    decided_by: Mapping[str, Any]
    minutes: float = 10
    notice: Path | None = None

    def key(self, name: str, arrays: Iterable[np.ndarray], **decided_by: Any) -> str:
        """What a training is kept under: it changes with all that decides the result.

        Args:
            name: of the training; comes before the last `-` of the key.
            arrays: its data.
            decided_by: beside the above and the libraries, in values that JSON knows.
        """
        values = {
            **self.decided_by,
            **decided_by,
            "libraries": {name: version(name) for name in LIBRARIES},
        }
        digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
        for array in arrays:
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(memoryview(np.ascontiguousarray(array)).cast("B"))
        return f"{re.sub(r'[^A-Za-z0-9]+', '_', name)}-{digest.hexdigest()[:24]}"

    def steps(self) -> dict[str, list[int]]:
        """Key of each training of which something is kept -> the steps, in order."""
        steps: dict[str, list[int]] = {}
        for name in sorted(map(Path, self.store.names())):
            steps.setdefault(name.parent.name, []).append(int(name.stem))
        return steps

    def delete(self) -> None:
        """Remove what is kept of all trainings."""
        for name in self.store.names():
            self.store.delete(name)


def checkpoint_name(key: str, step: int) -> str:
    """The name of a checkpoint in its store."""
    return f"{key}/{step:09}{SUFFIX}"
