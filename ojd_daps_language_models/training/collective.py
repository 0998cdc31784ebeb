"""What processes that train together say to each other; one alone hears itself."""

from typing import Any

import torch
from torch import distributed


def rank() -> int:
    """Number of this process, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def count() -> int:
    """How many there are."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def any_of(*values: bool) -> list[bool]:
    """Which of the values are true in any process."""
    if count() == 1:
        return list(values)
    found = torch.tensor(values, dtype=torch.uint8)  # on the CPU, so no GPU waits
    distributed.all_reduce(found, distributed.ReduceOp.MAX)
    return found.bool().tolist()


def gather(value: Any) -> list[Any]:
    """The values of all processes in their order."""
    values = [value] * count()
    if count() > 1:
        distributed.all_gather_object(values, value)
    return values


def from_first(value: Any) -> Any:
    """The value of the first process."""
    values = [value]
    if count() > 1:
        distributed.broadcast_object_list(values)
    return values[0]


def wait_for_all() -> None:
    """Go on when all processes have come here."""
    any_of(False)


def take_from_first(module: torch.nn.Module) -> None:
    """Give a module the weights that it has in the first process."""
    if count() > 1:
        for weights in module.state_dict().values():
            distributed.broadcast(weights, 0)
