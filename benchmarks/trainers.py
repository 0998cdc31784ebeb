"""What benchmarks of training share: the plain Trainer, and how both are timed."""

import statistics
import time
from argparse import Namespace
from collections.abc import Callable

import numpy as np
import torch
from results import report
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from ojd_daps_language_models.training.classification import (
    Sequences,
    SequenceTrainer,
)
from ojd_daps_language_models.training.fit import has_bf16

BATCH = 16
KINDS = ("plain Trainer, fp32", "plain Trainer, bf16", "ours")
# From kind, steps, and whether to score, to tokens per second and loss.
Run = Callable[..., tuple[float, float | None]]


class Plain(torch.utils.data.Dataset):
    """Sequences as the plain Trainer reads them, one by one."""

    def __init__(self, sequences: Sequences):
        self.rows = [
            without_padding(sequences.__getitems__([row]))
            for row in range(len(sequences))
        ]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, row):
        return self.rows[row]


def without_padding(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The one input of a batch."""
    real = batch["attention_mask"][0] > 0
    return {
        name: values[0][real] if values.dim() > 1 else values[0]
        for name, values in batch.items()
    }


class AnyStretch(SequenceTrainer):
    """Ours, with the whole batches of an epoch in any order.

    They come in stretches that go from the longest batch to the shortest, of which the
    few steps that are timed would be the beginning: longer inputs than the peer's.
    """

    def _get_train_sampler(self, train_dataset=None):
        rows = np.array(list(super()._get_train_sampler(train_dataset)))
        size = self.args.train_batch_size
        batches = rows[: len(rows) // size * size].reshape(-1, size)
        return np.random.default_rng(0).permutation(batches).ravel().tolist()


class Counted:
    """A collator that counts the real tokens of each batch.

    Args:
        collate: from rows to a batch; ours come as one.
        real: from a batch to its tokens without padding.
    """

    def __init__(self, collate=lambda batch: batch, real=None):
        self._collate = collate
        self._real = real or (lambda batch: batch["attention_mask"].sum())
        self.tokens: list[int] = []

    def __call__(self, rows):
        batch = self._collate(rows)
        self.tokens.append(int(self._real(batch)))
        return batch


class Clock(TrainerCallback):
    """Starts after the first step, which makes room for what all others use again."""

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 1:
            self._start = self._now()

    def seconds(self) -> float:
        return self._now() - self._start

    def _now(self) -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()


def training_settings(
    out: str, kind: str, steps: int, learning_rate: float, batch_size: int = BATCH
) -> TrainingArguments:
    """What all kinds have in common, and bf16 for all but the first."""
    return TrainingArguments(
        output_dir=out,
        max_steps=steps,
        per_device_train_batch_size=batch_size,
        learning_rate=learning_rate,
        bf16="fp32" not in kind and has_bf16(),
        use_cpu=not torch.cuda.is_available(),
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
    )


def train_timed(trainer: Trainer, counted: Counted) -> float:
    """Train; tokens per second of all steps but the first, which is not timed."""
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(clock := Clock())
    trainer.train()
    return sum(counted.tokens[1 : trainer.state.global_step]) / clock.seconds()


def describe(
    train: Sequences, held_out: int, unit: str, batch_size: int = BATCH
) -> str:
    """What is trained on, and what losses are of."""
    lengths = train.inputs.lengths
    return (
        f"{len(train):,} {unit} of {lengths.mean():.1f} tokens (the longest "
        f"{lengths.max()}), batches of {batch_size}, {torch.get_num_threads()} "
        f"threads; losses on {held_out:,} others"
    )


def alternate(
    run: Run,
    what: str,
    arguments: Namespace,
    loss_steps: int,
    own_loss_steps: int | None = None,
) -> float:
    """Train in the three ways by turns, and report ours against the others.

    Args:
        what: is measured, in which unit.
        arguments: with `steps`, 2 at least, and `repetitions`.
        loss_steps: after which the losses are taken.
        own_loss_steps: the same of ours, where its steps are larger or smaller.

    Returns:
        Tokens per second of ours.
    """
    speeds = {kind: [] for kind in KINDS}
    for _ in range(arguments.repetitions):
        for kind in KINDS:
            speeds[kind].append(run(kind, arguments.steps)[0])
    lasting = dict.fromkeys(KINDS, loss_steps)
    lasting["ours"] = own_loss_steps or loss_steps
    losses = {kind: run(kind, n, score=True)[1] for kind, n in lasting.items()}
    ours = statistics.median(speeds["ours"])
    for kind in KINDS[:-1]:
        ratios = [a / b for a, b in zip(speeds["ours"], speeds[kind], strict=True)]
        note = (
            f"{ours:,.0f} against {statistics.median(speeds[kind]):,.0f}; loss "
            f"{losses['ours']:.3f} after {lasting['ours']} steps against "
            f"{losses[kind]:.3f} after {loss_steps}"
        )
        report(what, kind, ratios, note)
    return ours
