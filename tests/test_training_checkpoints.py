"""A training that was cut off anywhere ends as if nothing had been."""

import gzip
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SAMPLE, sample_texts
from s3_stand_in import busy_server
from safetensors import SafetensorError
from transformers import AutoTokenizer

from flows import artifacts, errors_of, run_flow, run_id_of, start_flow
from ojd_daps_language_models.configs import FineTuning, MLMTraining, SkillTraining
from ojd_daps_language_models.preprocessing.packing import (
    encode,
    encode_inputs,
    load_tokenizer,
    pack,
)
from ojd_daps_language_models.stores import PART, Bucket, Folder
from ojd_daps_language_models.training import saving
from ojd_daps_language_models.training.bi_encoder import (
    embed,
    fit_bi_encoder,
    load_bi_encoder,
)
from ojd_daps_language_models.training.checkpoints import TrainingCheckpoints
from ojd_daps_language_models.training.classification import (
    Sequences,
    fit_classifier,
    load_classifier,
)
from ojd_daps_language_models.training.fit import (
    TrainingLog,
    run_training,
    set_dropout,
)
from ojd_daps_language_models.training.masked_lm import (
    MaskedBlocks,
    MaskedLMTrainer,
    load_masked_lm,
)
from ojd_daps_language_models.training.masking import vocabulary_of
from ojd_daps_language_models.training.text_pairs import KnownTruths, TextPairs

SETTINGS = {"batch_size": 8, "dropout": 0.1, "precision": "fp32"}
EPOCHS, SEED = 3, 7


def train_masked_lm(folder, log, checkpoints, apart=True, epochs=EPOCHS, **settings):
    model, _ = load_masked_lm(folder, 0, count_tokens=None)
    config = MLMTraining(learning_rate=2e-3, **SETTINGS | settings)
    set_dropout(model, config.dropout)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = encode(sample_texts()[:8], load_tokenizer(folder))
    blocks = pack(tokens, 64, tokenizer.pad_token_id, separate=not apart)
    more = vocabulary_of(tokenizer), 0.15, True, 0 if apart else None
    train, validation = (MaskedBlocks(blocks, *more, seed) for seed in (None, 0))
    run_training(
        MaskedLMTrainer,
        model,
        config,
        epochs,
        SEED,
        log,
        checkpoints,
        [*train.arrays(), *validation.arrays()],
        train_dataset=train,
        eval_dataset=validation,
    )
    return model


def sentences() -> list[str]:
    return [s for text in sample_texts()[:40] for s in text.split(". ")][:32]


def train_classifier(
    folder, log, checkpoints, twins=False, seed=SEED, shift=0, measure=None, **settings
):
    model, _ = load_classifier(folder, ("no", "yes"), 0)
    inputs = encode_inputs(sentences(), load_tokenizer(folder), 32)
    count = len(inputs.lengths)
    labels = (np.arange(count) + shift) % 2
    other = np.roll(np.arange(count), count // 2) if twins else None
    data = Sequences(inputs, labels, folder, other)
    config = FineTuning(**{"learning_rate": 3e-3} | SETTINGS | settings)
    fit_classifier(
        model, data, data, config, EPOCHS, seed, log, None, measure, checkpoints
    )
    return model


def train_bi_encoder(folder, log, checkpoints, **settings):
    model, _ = load_bi_encoder(folder)
    inputs = encode_inputs(sentences(), load_tokenizer(folder), 32)
    count = len(inputs.lengths)
    texts = Sequences(inputs, np.zeros(count), folder)
    owners = pd.DataFrame({"text": range(count), "skill": np.arange(count) % 6})
    known = KnownTruths(owners, owners[:0].assign(other=0), count, 6)
    pairs = pd.DataFrame({"text": range(count), "score": np.nan})
    pairs["other"] = (pairs["text"] + 6) % count

    def spread(model) -> float:
        vectors = embed(model, texts, np.arange(count), 16, "fp32")
        return -float(vectors.std(axis=0).mean())

    config = SkillTraining(learning_rate=1e-3, **SETTINGS | settings)
    fit_bi_encoder(
        model,
        TextPairs(texts, pairs, known),
        False,
        config,
        EPOCHS,
        SEED,
        log,
        ("mrr", spread),
        checkpoints,
    )
    return model


KINDS = {
    "masked words": (train_masked_lm, {}),
    "masked words, adverts apart": (train_masked_lm, {"apart": False}),
    "masked words, accumulated": (train_masked_lm, {"accumulation": 2}),
    "like lengths": (train_classifier, {}),
    "like lengths, accumulated": (train_classifier, {"accumulation": 2}),
    "twins": (train_classifier, {"twins": True}),
    "twins, accumulated": (train_classifier, {"twins": True, "accumulation": 3}),
    "pairs": (train_bi_encoder, {}),
    "pairs, accumulated": (train_bi_encoder, {"accumulation": 2}),
}


class Cut(Exception):
    """What a training dies of in tests."""


class CuttingLog(TrainingLog):
    """Does something when a step has ended, or when it is being scored."""

    def __init__(self, at, do, scoring=False):
        super().__init__(seed=SEED)
        self._at, self._do, self._scoring = at, do, scoring

    def on_step_end(self, args, state, control, **kwargs):
        super().on_step_end(args, state, control, **kwargs)
        if not self._scoring and state.global_step == self._at:
            self._do()

    def on_prediction_step(self, args, state, control, **kwargs):
        if self._scoring and state.global_step == self._at:
            self._at = None
            self._do()


def fall() -> None:
    raise Cut


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class WatchedFolder(Folder):
    """Notes what is there after each change."""

    def __init__(self, root):
        super().__init__(root)
        self.seen = []

    def write(self, name, fill):
        super().write(name, fill)
        self.seen.append(self.names())

    def delete(self, name):
        super().delete(name)
        self.seen.append(self.names())


@pytest.fixture
def often(monkeypatch):
    """Saving may cost what it will, so that each step can be saved."""
    monkeypatch.setattr(saving, "COST", 1e9)


@pytest.fixture(scope="module")
def whole(tiny_bert):
    """The weights and the log of a training of a kind that nothing interrupted."""
    done = {}

    def train(kind):
        if kind not in done:
            function, settings = KINDS[kind]
            log = TrainingLog(seed=SEED)
            model = function(tiny_bert, log, None, **settings)
            done[kind] = model.state_dict(), log.rows
        return done[kind]

    return train


def kept(tmp_path, minutes=0.0, **decided_by) -> TrainingCheckpoints:
    return TrainingCheckpoints(Folder(tmp_path / "kept"), decided_by, minutes)


def steps_in(checkpoints) -> list[int]:
    return sorted(step for steps in checkpoints.steps().values() for step in steps)


def is_same(model, weights) -> bool:
    return all(torch.equal(weights[k], v) for k, v in model.state_dict().items())


def without_seconds(rows) -> list[dict]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def last_step(rows) -> int:
    return max(row["step"] for row in rows)


def check_ending(kind, folder, checkpoints, whole) -> TrainingLog:
    """Train on to the end, which is that of the training that nothing interrupted."""
    function, settings = KINDS[kind]
    weights, rows = whole(kind)
    log = TrainingLog(seed=SEED)
    assert is_same(function(folder, log, checkpoints, **settings), weights)
    assert without_seconds(log.rows) == without_seconds(rows)
    seconds = [row["seconds"] for row in log.rows]
    assert seconds == sorted(seconds)
    return log


def cut(kind, folder, checkpoints, log) -> None:
    function, settings = KINDS[kind]
    with pytest.raises(Cut):
        function(folder, log, checkpoints, **settings)


def share_of(kind, whole, share) -> int:
    return max(1, round(share * last_step(whole(kind)[1])))


@pytest.mark.parametrize(
    "kind",
    [
        "masked words",
        "masked words, adverts apart",
        "like lengths, accumulated",
        "twins, accumulated",
        "pairs",
    ],
)
def test_cut_off_twice_it_ends_as_if_nothing_had_been(
    kind, tiny_bert, tmp_path, whole, often, capsys
):
    checkpoints = kept(tmp_path)
    first, second = (share_of(kind, whole, share) for share in (0.45, 0.8))
    cut(kind, tiny_bert, checkpoints, CuttingLog(first, fall))
    cut(kind, tiny_bert, checkpoints, CuttingLog(second, fall))
    check_ending(kind, tiny_bert, checkpoints, whole)
    steps = last_step(whole(kind)[1])
    said = capsys.readouterr().out
    assert f"training (seed 7) goes on from step {first - 1} of {steps}" in said
    assert f"training (seed 7) goes on from step {second - 1} of {steps}" in said


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_cut_off_after_every_step_it_ends_as_if_nothing_had_been(
    kind, tiny_bert, tmp_path, whole, often
):
    checkpoints = kept(tmp_path)
    for step in range(1, last_step(whole(kind)[1]) + 1):
        cut(kind, tiny_bert, checkpoints, CuttingLog(step, fall))
        assert steps_in(checkpoints)[-1:] == ([step - 1] if step > 1 else [])
    check_ending(kind, tiny_bert, checkpoints, whole)


@pytest.mark.parametrize("kind", ["masked words", "twins", "pairs"])
def test_where_an_epoch_ends_it_goes_on_with_the_next(
    kind, tiny_bert, tmp_path, whole, often
):
    epoch = last_step(whole(kind)[1]) // EPOCHS
    for step in (epoch, epoch + 1):  # last saved: before, or after, it was scored
        checkpoints = kept(tmp_path / str(step))
        cut(kind, tiny_bert, checkpoints, CuttingLog(step, fall))
        assert steps_in(checkpoints)[-1] == step - 1
        check_ending(kind, tiny_bert, checkpoints, whole)


def test_before_anything_was_saved_it_begins_anew(tiny_bert, tmp_path, whole, capsys):
    checkpoints = kept(tmp_path, minutes=10)
    cut("like lengths", tiny_bert, checkpoints, CuttingLog(3, fall))
    assert not steps_in(checkpoints)
    check_ending("like lengths", tiny_bert, checkpoints, whole)
    assert "goes on" not in capsys.readouterr().out


@pytest.mark.parametrize("checkpoint", ["tiny_bert", "renamed_bert"])
def test_an_epoch_that_was_best_before_the_cut_stays_the_best(
    checkpoint, tmp_path, often, request
):
    folder = request.getfixturevalue(checkpoint)

    def train(log, checkpoints, calls, sign=-1):
        def score(*_) -> float:
            return sign * float(next(calls))  # each is worse than the one before

        measure = ("f1", score)
        return train_classifier(folder, log, checkpoints, measure=measure)

    log, again = TrainingLog(seed=SEED), TrainingLog(seed=SEED)
    weights = train(log, None, itertools.count()).state_dict()
    checkpoints, calls = kept(tmp_path), itertools.count()
    steps = last_step(log.rows)
    for step in (steps // EPOCHS + 1, steps - 1):  # goes on from the best, or behind it
        with pytest.raises(Cut):
            train(CuttingLog(step, fall), checkpoints, calls)
    assert is_same(train(again, checkpoints, calls), weights)
    assert without_seconds(again.rows) == without_seconds(log.rows)
    last = train(TrainingLog(seed=SEED), None, itertools.count(), 1).state_dict()
    assert not all(torch.equal(last[name], weights[name]) for name in weights)


# SIGTERM


@pytest.mark.parametrize("scoring", [False, True])
@pytest.mark.parametrize("kind", ["masked words", "like lengths", "pairs"])
def test_on_sigterm_it_is_saved_before_the_process_ends(
    kind, scoring, tiny_bert, tmp_path, whole, capsys
):
    before = signal.getsignal(signal.SIGTERM)
    checkpoints = kept(tmp_path, minutes=1000)
    last = last_step(whole(kind)[1])
    step = last // EPOCHS + 2
    if scoring:  # of the first epoch or the last
        step = last // EPOCHS if kind == "masked words" else last
    scored = scoring and kind != "pairs"  # which are scored at once, so right before
    function, settings = KINDS[kind]
    with pytest.raises(SystemExit) as end:
        function(
            tiny_bert, CuttingLog(step, terminate, scored), checkpoints, **settings
        )
    assert end.value.code == 143
    assert steps_in(checkpoints)[-1] == step
    said = capsys.readouterr().out
    assert f"stopped by SIGTERM: training (seed 7) goes on from step {step} of" in said
    assert signal.getsignal(signal.SIGTERM) is before
    check_ending(kind, tiny_bert, checkpoints, whole)


def test_the_second_sigterm_ends_it_at_once(tiny_bert, tmp_path):
    found = []

    def twice():
        terminate()
        found.append(signal.getsignal(signal.SIGTERM))

    with pytest.raises(SystemExit):
        train_classifier(tiny_bert, CuttingLog(2, twice), kept(tmp_path))
    assert found == [signal.SIG_DFL]


def test_on_notice_it_is_saved_once_and_goes_on(tiny_bert, tmp_path, whole, capsys):
    notice = tmp_path / "notice"
    store = WatchedFolder(tmp_path / "kept")
    checkpoints = TrainingCheckpoints(store, {}, 1000, notice)
    model = train_classifier(tiny_bert, CuttingLog(3, notice.touch), checkpoints)
    assert [int(Path(name).stem) for name in store.seen[0]] == [3]
    said = capsys.readouterr().out
    assert said.count("about to be taken away; saved: step 3") == 1
    assert is_same(model, whole("like lengths")[0])


# What is taken, and what is not


def test_a_finished_training_is_not_trained_again(tiny_bert, tmp_path, whole, often):
    checkpoints = kept(tmp_path)
    weights, rows = whole("twins")
    train_classifier(tiny_bert, TrainingLog(seed=SEED), checkpoints, twins=True)
    cutting = CuttingLog(None, fall)
    cutting.on_step_end = fall
    shown = []
    cutting._on_row = lambda rows, steps: shown.append(list(rows))
    model = train_classifier(tiny_bert, cutting, checkpoints, twins=True)
    assert is_same(model, weights)
    assert without_seconds(cutting.rows) == without_seconds(rows) and shown


def test_each_of_several_trainings_has_its_own(tiny_bert, tmp_path, whole, often):
    checkpoints, rows = kept(tmp_path), []
    train_classifier(tiny_bert, TrainingLog(None, rows, seed=1), checkpoints, seed=1)
    others = list(rows)
    cut("like lengths", tiny_bert, checkpoints, CuttingLog(8, fall))
    again: list = []
    train_classifier(tiny_bert, TrainingLog(None, again, seed=1), checkpoints, seed=1)
    log = TrainingLog(None, again, seed=SEED)
    assert is_same(
        train_classifier(tiny_bert, log, checkpoints), whole("like lengths")[0]
    )
    assert again[: len(others)] == others
    expected = without_seconds(whole("like lengths")[1])
    assert without_seconds(again[len(others) :]) == expected


@pytest.mark.parametrize(
    "change", [{"seed": 8}, {"shift": 1}, {"learning_rate": 1e-3}, {"decided_by": 2}]
)
def test_after_a_change_it_begins_anew_and_says_so(
    change, tiny_bert, tmp_path, often, capsys
):
    with pytest.raises(Cut):
        checkpoints = kept(tmp_path, decided_by=1)
        train_classifier(tiny_bert, CuttingLog(5, fall), checkpoints)
    checkpoints = kept(tmp_path, decided_by=change.pop("decided_by", 1))
    with pytest.raises(Cut):  # at the first step, not at the sixth
        train_classifier(tiny_bert, CuttingLog(1, fall), checkpoints, **change)
    said = capsys.readouterr().out
    assert "no checkpoint of this training: training (seed 7) begins anew" in said


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "cut short":
        content = content[: len(content) // 2]
    elif how == "a flipped bit":
        content[len(content) * 2 // 3] ^= 1
    elif how == "a flipped bit in the header":
        content[content.index(b"global_step") + 1] ^= 1
    else:
        content = bytearray()
    path.write_bytes(content)


@pytest.mark.parametrize(
    "how", ["cut short", "a flipped bit", "a flipped bit in the header", "empty"]
)
def test_a_damaged_one_is_left_out_and_the_one_before_taken(
    how, tiny_bert, tmp_path, whole, often, capsys
):
    checkpoints = kept(tmp_path)
    cut("like lengths", tiny_bert, checkpoints, CuttingLog(9, fall))
    *_, newest = sorted((tmp_path / "kept").rglob("*.safetensors"))
    damage(newest, how)
    check_ending("like lengths", tiny_bert, checkpoints, whole)
    said = capsys.readouterr().out
    assert "checkpoint of step 8 left out: damaged (" in said
    assert "goes on from step 7 of" in said


KILLED = """
import os, sys
from pathlib import Path
from ojd_daps_language_models.stores import Folder
newest = Path(sys.argv[1])
with Folder(newest.parent).writing(newest.name) as path:
    path.with_name(".tmpXYZ").write_bytes(sys.stdin.buffer.read()[:-9])
    os.kill(os.getpid(), 9)
"""


def test_what_a_process_that_died_while_it_saved_had_written_is_not_taken(
    tiny_bert, tmp_path, whole, often
):
    checkpoints = kept(tmp_path)
    cut("like lengths", tiny_bert, checkpoints, CuttingLog(6, fall))
    *_, newest = sorted((tmp_path / "kept").rglob("*.safetensors"))
    written = newest.read_bytes()
    newest.unlink()
    killed = subprocess.run([sys.executable, "-c", KILLED, newest], input=written)
    assert killed.returncode == -signal.SIGKILL
    left = [path.name for path in newest.parent.rglob(".tmp*")]
    assert left == [".tmpXYZ"], "safetensors writes beside the file at first"
    assert steps_in(checkpoints) == [4]
    check_ending("like lengths", tiny_bert, checkpoints, whole)
    assert not list((tmp_path / "kept").rglob(".tmp*"))


def test_nothing_of_another_run_is_taken(tiny_bert, tmp_path, whole, often):
    cut("like lengths", tiny_bert, kept(tmp_path / "run 1"), CuttingLog(9, fall))
    log = CuttingLog(1, fall)  # it begins at the first step, not at the ninth
    cut("like lengths", tiny_bert, kept(tmp_path / "run 2"), log)


def test_what_a_killed_training_left_goes_when_the_next_one_begins(
    tiny_bert, tmp_path, monkeypatch
):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)

    def another_is_killed() -> None:
        (own,) = tmp_path.iterdir()
        given = tiny_bert, CuttingLog(6, kill), None
        process = get_context("spawn").Process(target=train_classifier, args=given)
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL and own.is_dir()

    train_classifier(tiny_bert, CuttingLog(6, another_is_killed), None)
    assert list(tmp_path.rglob("*.safetensors"))
    train_classifier(tiny_bert, TrainingLog(seed=SEED), None)
    assert not list(tmp_path.iterdir())


# What it costs


def test_the_last_two_are_kept_until_all_are_deleted(tiny_bert, tmp_path, often):
    store = WatchedFolder(tmp_path / "kept")
    checkpoints = TrainingCheckpoints(store, {}, 0)
    train_classifier(tiny_bert, TrainingLog(seed=SEED), checkpoints)
    assert max(map(len, store.seen)) == 3  # the oldest goes when the new one is there
    assert min(map(len, store.seen[2:])) == 2
    files = [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".safetensors"}  # no pickle
    checkpoints.delete()
    assert not list((tmp_path / "kept").rglob("*"))


@pytest.fixture
def saved_by_clock(tiny_bert, tmp_path, monkeypatch):
    """When a training was saved, in seconds from its beginning to its end, by a clock
    of our own: steps take 20 s, four are an epoch, and to save takes 0.7 s."""
    clock, saves = [0.0], []
    monkeypatch.setattr(saving.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(saving, "FIRST_SPEED", 1e9)

    class SlowFolder(Folder):
        def write(self, name, fill):
            super().write(name, fill)
            saves.append((clock[0], clock[0] + 0.7))
            clock[0] += 0.7

    class Clock(TrainingLog):
        def on_step_end(self, args, state, control, **kwargs):
            clock[0] += 20
            super().on_step_end(args, state, control, **kwargs)

    def train(minutes):
        store = SlowFolder(tmp_path)
        checkpoints = TrainingCheckpoints(store, {}, minutes)
        train_classifier(tiny_bert, Clock(seed=SEED), checkpoints)
        return saves, clock[0]

    return train


def test_saving_takes_no_more_than_its_share_of_the_time(saved_by_clock):
    saves, end = saved_by_clock(minutes=0.01)
    assert 0.015 < sum(done - began for began, done in saves) / end <= 0.03


def test_no_kill_costs_more_than_the_interval(saved_by_clock, often):
    saves, end = saved_by_clock(minutes=0.75)
    kept = [0.0, *(began for began, _ in saves)]
    ends = [*(done for _, done in saves), end]
    lost = [after - before for before, after in zip(kept, ends, strict=True)]
    assert 40 < max(lost) <= 45


def test_a_full_disk_does_not_end_a_training(
    tiny_bert, whole, often, tmp_path, monkeypatch, capsys
):
    def full(_, path, __):
        path.write_bytes(b"half")
        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr("ojd_daps_language_models.training.states.save_file", full)
    check_ending("like lengths", tiny_bert, kept(tmp_path), whole)
    assert re.search(r"checkpoint of step 1: .*No space left", capsys.readouterr().out)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


# S3


def test_on_s3_it_goes_on_although_s3_is_busy(
    s3, tiny_bert, whole, often, monkeypatch, capsys
):
    def on_s3(endpoint):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        store = Bucket(f"s3://{s3.bucket}/metaflow/training_checkpoints/MLMFlow/7")
        return TrainingCheckpoints(store, {}, 0)

    s3.put("metaflow/training_checkpoints/MLMFlow/77/key/000000009.safetensors", b"")
    with busy_server(s3.endpoint, 2) as busy:
        checkpoints = on_s3(busy.endpoint)
        cut("like lengths", tiny_bert, checkpoints, CuttingLog(4, fall))
        assert steps_in(checkpoints) == [2, 3] and busy.made == 2
    checkpoints = on_s3(s3.endpoint)
    check_ending("like lengths", tiny_bert, checkpoints, whole)
    assert "goes on from step 3 of" in capsys.readouterr().out
    checkpoints.delete()
    left = s3.client.list_objects_v2(Bucket=s3.bucket)["Contents"]
    assert [entry["Key"].split("/")[3] for entry in left] == ["77"]


def test_one_that_is_gone_from_s3_is_left_out(s3):
    store = Bucket(f"s3://{s3.bucket}/metaflow")
    with pytest.raises(FileNotFoundError, match="no such key"), store.read("a/b"):
        pass
    store.delete("a/b")


# Runs


@pytest.fixture(scope="module")
def home(tmp_path_factory, tiny_bert):
    """Where runs are kept, with a configuration of many epochs that saves often."""
    home = tmp_path_factory.mktemp("runs")
    with gzip.open(SAMPLE, "rt", encoding="utf-8") as sample:
        (home / "few.jsonl").write_text("".join(itertools.islice(sample, 120)))
    (home / "often.yaml").write_text(
        "data: {path: few.jsonl}\n"
        "training: {epochs: 12, batch_size: 16, block_size: 64, dropout: 0.1}\n"
        f"model: {{checkpoint: {tiny_bert}}}\n"
        "evaluation: {bootstrap_samples: 100, audit_adverts: 0}\n"
        "compute: {checkpoint_minutes: 0.01}\n"
    )
    return home


def on_disk(home) -> set[str]:
    folder = home / ".metaflow" / "training_checkpoints"
    return {str(p.relative_to(folder)) for p in folder.rglob("*.safetensors")}


def interrupt(home, arguments, how, saved=None, words=""):
    """Run a flow, and send a signal to it as soon as it has saved its training.

    Args:
        home: with the configuration.
        arguments: of the flow.
        how: SIGKILL is for the whole run, SIGTERM for the step that trains.
        saved: tells what was saved.
        words: that the run is given time to say: a task may save before its lines,
            which Metaflow passes on, are written.

    Returns:
        The run when it has ended: stdout, stderr, returncode.
    """
    # What is still being written is not saved.
    saved = saved or (lambda: {name for name in on_disk(home) if PART not in name})
    earlier, said = saved(), home / "said.txt"
    with said.open("w") as file:
        process = start_flow("mlm_flow", home, *arguments, said=file)
        try:
            while not (saved() - earlier and words in said.read_text()):
                assert process.poll() is None, said.read_text()
                time.sleep(0.02)
            if how == signal.SIGTERM:
                line = r"/train/\d+ \(pid (\d+)\)\] Task is starting"
                os.kill(int(re.findall(line, said.read_text())[-1]), how)
                process.wait()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return subprocess.CompletedProcess(
        arguments, process.returncode, said.read_text(), ""
    )


def begin(home, *arguments) -> list[str]:
    return ["--config", "config", str(home / "often.yaml"), "run", *arguments]


def model_of(home, done) -> bytes:
    assert done.returncode == 0, errors_of(done)
    assert not on_disk(home)
    return artifacts("mlm_flow", home, done)["model"]


@pytest.fixture(scope="module")
def uninterrupted(home):
    """The model of a run that nothing interrupted, though another had been."""
    killed = interrupt(home, begin(home), signal.SIGKILL)
    (kept,) = {str(Path(path).parents[1]) for path in on_disk(home)}
    assert kept == f"MLMFlow/{run_id_of(killed)}"
    done = run_flow("mlm_flow", home, *begin(home))
    assert "goes on from step" not in done.stdout
    assert {str(Path(path).parents[1]) for path in on_disk(home)} == {kept}
    shutil.rmtree(home / ".metaflow" / "training_checkpoints")
    return model_of(home, done)


@pytest.mark.slow
def test_a_run_that_was_killed_twice_ends_as_if_nothing_had_been(home, uninterrupted):
    first = interrupt(home, begin(home), signal.SIGKILL)
    again = ["resume", "train", "--origin-run-id", run_id_of(first)]
    second = interrupt(home, again, signal.SIGKILL, words="goes on from step")
    third = run_flow("mlm_flow", home, "resume", "--origin-run-id", run_id_of(second))
    steps = [
        int(re.search(r"training goes on from step (\d+) of", done.stdout)[1])
        for done in (second, third)
    ]
    assert 0 < steps[0] < steps[1]
    assert model_of(home, third) == uninterrupted
    # Its checkpoints are gone, so who asks for its training gets it anew.
    again = ["resume", "train", "--origin-run-id", run_id_of(third)]
    done = run_flow("mlm_flow", home, *again)
    assert "goes on from step" not in done.stdout
    assert model_of(home, done) == uninterrupted


@pytest.mark.slow
def test_a_step_that_gets_sigterm_is_saved_and_tried_again(home, uninterrupted):
    retry = ["--with", "retry:times=1,minutes_between_retries=0"]
    done = interrupt(home, begin(home, *retry), signal.SIGTERM)
    step = re.search(
        r"stopped by SIGTERM: training goes on from step (\d+)", done.stdout
    )
    assert f"training goes on from step {step[1]} of" in done.stdout
    assert "Traceback" not in done.stdout
    assert model_of(home, done) == uninterrupted


@pytest.mark.slow
def test_a_run_on_s3_goes_on_from_there(home, uninterrupted, s3, monkeypatch):
    root = f"s3://{s3.bucket}/metaflow"
    monkeypatch.setenv("METAFLOW_DEFAULT_DATASTORE", "s3")
    monkeypatch.setenv("METAFLOW_DATASTORE_SYSROOT_S3", root)
    store = Bucket(f"{root}/training_checkpoints")
    killed = interrupt(home, begin(home), signal.SIGKILL, lambda: set(store.names()))
    assert {name.split("/")[1] for name in store.names()} == {run_id_of(killed)}
    done = run_flow("mlm_flow", home, "resume", "--origin-run-id", run_id_of(killed))
    assert re.search(r"training goes on from step [1-9]", done.stdout)
    assert model_of(home, done) == uninterrupted
    assert not store.names()
