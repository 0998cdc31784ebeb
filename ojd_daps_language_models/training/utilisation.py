"""How much of what a machine can do a training uses."""

import time
from collections.abc import Sequence

import numpy as np
import torch
from transformers import Trainer, TrainerCallback

DEVICES = {"cuda"}  # of which it is said; on others a second for that is long
WARM_UP = 3  # products that are not timed


def matrix_ceiling(
    device: str | torch.device,
    dtype: torch.dtype,
    size: int = 8192,
    seconds: float = 1.0,
) -> float:
    """FLOP per second of one large matrix product, the best that training can hope for.

    Args:
        size: rows and columns of both matrices.
        seconds: to multiply for, at least.
    """
    rng = torch.Generator(device)  # that of the training stays as it is
    one, other = (
        torch.randn(size, size, dtype=dtype, device=device, generator=rng)
        for _ in range(2)
    )
    for _ in range(WARM_UP):
        one @ other
    _wait_for(device)
    count, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds or not count:
        one @ other
        _wait_for(device)
        count += 1
    return 2 * size**3 * count / spent


def flop_per_token(
    model: torch.nn.Module, lengths: Sequence[int], head_share: float = 0.0
) -> float:
    """Multiplications and additions of the matrix products of a training step, forward
    and backward, for a token that is no padding.

    Args:
        model: of transformers.
        lengths: tokens that attend to each other, of inputs as they are in training.
        head_share: of tokens that reach the head; heads with few labels hardly count.
    """
    encoder = model.base_model
    lengths = np.asarray(lengths, float)
    attended = (lengths**2).sum() / lengths.sum()  # by the average token
    config = model.config
    attention = 2 * config.num_hidden_layers * config.hidden_size * attended
    weights = _matrix_sizes(encoder)
    head = _matrix_sizes(model) - weights
    return 6 * (weights + attention + head_share * head)


class Utilisation(TrainerCallback):
    """Say at the end of a training on a GPU what share of it was used: model FLOP, with
    nothing for padding or for what is done twice, against one large matrix product.

    Evaluation is not in it; saving is, since steps wait for it.

    Args:
        trainer: whose training set tells its `lengths`, and its `stretches` where
            tokens of one input do not all attend to each other.
        name: of the training.
    """

    def __init__(self, trainer: Trainer, name: str):
        self._trainer, self._name = trainer, name
        self._seconds, self._steps = 0.0, 0

    def on_epoch_begin(self, args, state, control, **kwargs):
        _wait_for(args.device)
        self._began, self._first = time.perf_counter(), state.global_step

    def on_epoch_end(self, args, state, control, **kwargs):
        _wait_for(args.device)  # evaluation waits for this anyway
        self._seconds += time.perf_counter() - self._began
        self._steps += state.global_step - self._first

    def on_train_end(self, args, state, control, **kwargs):
        if args.device.type in DEVICES and self._steps and state.is_world_process_zero:
            try:
                print(f"{self._name}: {self._describe(args, state)}")
            except (AttributeError, torch.OutOfMemoryError) as error:
                print(f"{self._name}: its FLOP utilisation is not known: {error}")

    def _describe(self, args, state) -> str:
        trainer = self._trainer
        inputs = trainer.train_dataset
        stretches = getattr(inputs, "stretches", inputs.lengths)()
        model = trainer.accelerator.unwrap_model(trainer.model)
        epochs = self._steps / (state.max_steps / state.num_train_epochs)
        tokens = epochs * np.sum(stretches)
        flop = tokens * flop_per_token(model, stretches, trainer.head_share)
        name, dtype = ("bf16", torch.bfloat16) if args.bf16 else ("fp32", torch.float32)
        achieved = flop / args.world_size / self._seconds
        ceiling = matrix_ceiling(args.device, dtype)
        of_each = " on each GPU" if args.world_size > 1 else ""
        return (
            f"{tokens / self._seconds:,.0f} tokens/s, model FLOP utilisation "
            f"{achieved / ceiling:.0%}: {achieved / 1e12:.3g} of the "
            f"{ceiling / 1e12:.3g} TFLOP/s of a matrix product in {name}{of_each}"
        )


def _matrix_sizes(model: torch.nn.Module) -> int:
    """Weights that are multiplied with each token."""
    return sum(
        module.weight.numel()
        for module in model.modules()
        if isinstance(module, torch.nn.Linear)
    )


def _wait_for(device: str | torch.device) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
