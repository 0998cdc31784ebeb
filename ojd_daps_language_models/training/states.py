"""The state of a training as one file, from which it goes on as if nothing had been.

The file is safetensors, so that nothing that was stored is unpickled: it holds the
tensors (weights, optimizer, random generators), and in its header all else as JSON.
"""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ojd_daps_language_models.training.checkpoints import Store


class State(NamedTuple):
    """All that a training needs to go on.

    tensors: by name, on any device.
    rest: in values that JSON knows.
    """

    tensors: dict[str, torch.Tensor]
    rest: dict[str, Any]


def save_state(store: Store, name: str, state: State) -> None:
    """Save a state as a whole, or raise OSError and leave nothing of it.

    Tensors that share their memory, such as tied weights, are saved once.
    """
    tensors, seen = {}, set()
    for key, tensor in state.tensors.items():
        place = tensor.data_ptr(), tensor.shape
        if place not in seen or not tensor.numel():
            tensors[key] = tensor.detach().cpu().contiguous()
        seen.add(place)
    rest = json.dumps(state.rest)
    header = {"rest": rest, "checksum": _checksum(rest, tensors)}

    def fill(path: Path) -> None:
        try:
            save_file(tensors, path, header)
        except SafetensorError as error:
            raise OSError(f"{path}: {error}") from error

    store.write(name, fill)


def read_state(store: Store, name: str) -> State:
    """What `save_state` saved, its tensors in main memory.

    Raises:
        FileNotFoundError: it is gone.
        ValueError: it is damaged.
    """
    with store.read(name) as path:
        try:
            with safe_open(path, "pt") as file:
                header = file.metadata() or {}
                keys = file.keys()
                tensors = {key: file.get_tensor(key) for key in keys}
        except SafetensorError as error:
            raise ValueError(f"damaged ({error})") from error
        rest = header.get("rest", "")
        if header.get("checksum") != _checksum(rest, tensors):
            raise ValueError("damaged (checksum mismatch)")
        return State(tensors, json.loads(rest))


def _checksum(rest: str, tensors: Mapping[str, torch.Tensor]) -> str:
    checksum = zlib.crc32(rest.encode())
    for key in sorted(tensors):
        content = tensors[key].reshape(-1).view(torch.uint8).numpy()
        checksum = zlib.crc32(content, zlib.crc32(key.encode(), checksum))
    return f"{checksum:08x}"
