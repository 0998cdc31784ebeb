"""Several processes train as one that accumulates as many batches, and go on alike."""

import os
import signal

import numpy as np
import pytest
import torch
from test_training_checkpoints import (
    SEED,
    CuttingLog,
    fall,
    kept,
    steps_in,
    train_bi_encoder,
    train_classifier,
    train_masked_lm,
    without_seconds,
)
from torch import distributed
from torch.utils.data import SequentialSampler

from ojd_daps_language_models.training import saving
from ojd_daps_language_models.training.fit import SharedBatches, TrainingLog
from ojd_daps_language_models.training.processes import (
    STOPPED,
    train_in_processes,
)

TWO = {"processes": 2}
KINDS = {
    "masked words": train_masked_lm,
    "like lengths": train_classifier,
    "pairs": train_bi_encoder,
}


OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in [*KINDS][1:]]


def train_kind(kind, folder, settings, log=None, on_row=None, checkpoints=None):
    """What each process does: weights and log of all of them, in their order."""
    if distributed.is_initialized():
        saving.COST = 1e9  # each step may be saved
    log = log or TrainingLog(on_row, seed=SEED)
    model = KINDS[kind](folder, log, checkpoints, **settings)
    own = model.state_dict(), without_seconds(log.rows)
    found = [own]
    if distributed.is_initialized():
        found = [None] * distributed.get_world_size()
        distributed.all_gather_object(found, own)
    return found


class OneStops(CuttingLog):
    """Does something in the second process only."""

    def on_step_end(self, *args, **kwargs):
        if distributed.get_rank() == 1:
            super().on_step_end(*args, **kwargs)


@pytest.mark.parametrize("inputs", [2, 3, 15, 16, 17, 18, 19, 31, 32, 33, 100])
@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("size", [1, 8])
def test_each_input_is_read_once_in_as_many_batches_of_each(inputs, processes, size):
    sampler = SequentialSampler(range(inputs))
    if inputs < processes:
        with pytest.raises(ValueError, match="2 inputs to train on"):
            SharedBatches(sampler, size, 0, processes)
        return
    shares = [SharedBatches(sampler, size, n, processes) for n in range(processes)]
    read = [list(share) for share in shares]
    assert {len(share) for share in shares} == {len(batches) for batches in read}
    steps = list(zip(*read, strict=True))
    rows = [row for step in steps for batch in step for row in batch]
    assert rows == list(range(inputs))
    assert all(len(batch) == size for step in steps[:-1] for batch in step)
    last = [len(batch) for batch in steps[-1]]
    assert min(last) >= 1 and max(last) - min(last) <= 1 and max(last) <= size + 1


@pytest.mark.parametrize("kind", ["masked words", *OTHERS])
def test_two_processes_take_the_steps_of_one_that_accumulates(kind, tiny_bert):
    seen, settings = [], {"dropout": 0.0, "batch_size": 4}
    both = train_in_processes(
        train_kind,
        *(kind, tiny_bert, settings),
        compute=TWO,
        on_row=lambda rows, steps: seen.append((len(rows), steps)),
    )
    (weights, rows), (others, other_rows) = both
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    assert rows == other_rows
    steps = max(row["step"] for row in rows)
    assert seen[-1] == (len(rows), steps) and len(seen) == len(rows)
    losses = [row["loss"] for row in rows if "loss" in row]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])

    ((expected, expected_rows),) = train_kind(
        kind, tiny_bert, settings | {"accumulation": 2}
    )
    assert steps == max(row["step"] for row in expected_rows)
    for name, values in expected.items():
        torch.testing.assert_close(weights[name], values, atol=2e-3, rtol=0)


@pytest.mark.slow
def test_cut_off_in_one_process_all_go_on_alike(tiny_bert, tmp_path):
    def train(*log, **named):
        return train_in_processes(
            train_kind,
            *("masked words", tiny_bert, {"batch_size": 4}, *log),
            compute=TWO,
            **named,
        )

    whole, checkpoints = train(), kept(tmp_path)
    steps = max(row["step"] for row in whole[0][1])
    with pytest.raises(RuntimeError, match="Cut"):
        train(OneStops(steps // 2, fall), checkpoints=checkpoints)
    assert steps_in(checkpoints)[-1] == steps // 2 - 1
    again = train(checkpoints=checkpoints)
    for (weights, rows), (expected, expected_rows) in zip(again, whole, strict=True):
        assert all(torch.equal(weights[name], expected[name]) for name in expected)
        assert rows == expected_rows


@pytest.mark.slow
def test_sigterm_to_the_parent_saves_in_the_children(tiny_bert, tmp_path):
    checkpoints, told = kept(tmp_path, minutes=60), []

    def tell(rows, steps):
        if not told:
            told.append(rows[-1]["step"])
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as ended:
        train_in_processes(
            train_kind,
            *("masked words", tiny_bert, {"batch_size": 1}),
            compute=TWO,
            checkpoints=checkpoints,
            on_row=tell,
        )
    assert ended.value.code == STOPPED
    (step,) = steps_in(checkpoints)
    assert step >= told[0]


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_training_and_says_so(tiny_bert):
    given = "masked words", tiny_bert, {}, OneStops(2, kill)
    with pytest.raises(RuntimeError, match=r"SIGKILL.*memory of the machine"):
        train_in_processes(train_kind, *given, compute=TWO)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_more_processes_than_gpus_are_refused_before_any_begins(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    compute = {"gpu": 0, "processes": 2}
    with pytest.raises(ValueError, match=r"processes: 2 .* this machine has 1"):
        train_in_processes(lambda: None, compute=compute)
