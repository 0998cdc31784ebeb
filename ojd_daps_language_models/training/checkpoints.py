"""Where training checkpoints are kept, and of which training each is."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ojd_daps_language_models.stores import Store

SUFFIX = ".safetensors"
LIBRARIES = ("torch", "transformers", "accelerate")


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
            if name.suffix == SUFFIX:
                steps.setdefault(name.parent.name, []).append(int(name.stem))
        return steps

    def delete(self) -> None:
        """Remove what is kept of all trainings."""
        for name in self.store.names():
            self.store.delete(name)


def checkpoint_name(key: str, step: int) -> str:
    """The name of a checkpoint in its store."""
    return f"{key}/{step:09}{SUFFIX}"
