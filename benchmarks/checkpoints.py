"""Training checkpoints: what they cost, and what a kill costs with them.

    python benchmarks/checkpoints.py [--kills 20]

Masked language modelling on the sample with the embedded encoder, as `configs/mlm.yaml`
says. The peer is the same training without checkpoints, in the same process; both
alternate, and each ratio is taken within one repetition. Then, as many times as there
are kills, a training in a process of its own is killed (SIGKILL) at a random moment,
goes on in another, and has to end with the weights of the one that nothing interrupted.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the flow does

import argparse
import gzip
import hashlib
import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import pandas as pd
from results import state

from ojd_daps_language_models import PROJECT_DIR
from ojd_daps_language_models.advert_data import texts_by_part
from ojd_daps_language_models.archive import unpack_folder
from ojd_daps_language_models.configs import MLMConfig, parse_config
from ojd_daps_language_models.getters.checkpoints import get_checkpoint
from ojd_daps_language_models.getters.storage import sample_path
from ojd_daps_language_models.stores import Folder
from ojd_daps_language_models.tasks import mlm
from ojd_daps_language_models.training.checkpoints import TrainingCheckpoints


def prepare(adverts: int | None = None) -> tuple[dict, Path, MLMConfig]:
    """Tokens of the sample, or of its first adverts, the encoder, the configuration."""
    with gzip.open(sample_path("mlm"), "rt", encoding="utf-8") as file:
        texts = [text for line in file if (text := json.loads(line)["text"])]
    texts = texts[:adverts]
    parts = ["validation" if n % 10 == 0 else "train" for n in range(len(texts))]
    folder = get_checkpoint("embedded")
    config = parse_config((PROJECT_DIR / "configs/mlm.yaml").read_text(), MLMConfig)
    table = pd.DataFrame({"text": texts, "part": parts})
    return mlm.tokenize(texts_by_part(table), folder), folder, config


def train(prepared: tuple, epochs: int, store: Folder | None, minutes: float) -> bytes:
    """The model after a training, kept in a store if there is one."""
    tokens, folder, config = prepared
    checkpoints = store and TrainingCheckpoints(store, {}, minutes)
    return mlm.train(tokens, folder, config, epochs, 0, checkpoints=checkpoints)[0]


def train_apart(arguments: argparse.Namespace) -> None:
    """Train in this process, which may be killed; tell when it began and each step.

    Checkpoints may cost what they want, so that a short training has some.
    """
    from ojd_daps_language_models.training import saving
    from ojd_daps_language_models.training.fit import TrainingLog

    saving.COST = 1

    def on_step_end(self, args, state, control, **kwargs):
        print(f"step {state.global_step}", flush=True)

    TrainingLog.on_step_end = on_step_end
    store = Folder(Path(arguments.folder))
    prepared = prepare(arguments.adverts)
    model = train(prepared, arguments.epochs, store, arguments.minutes)
    with tempfile.TemporaryDirectory() as folder:
        unpack_folder(model, Path(folder))
        files = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in Path(folder).iterdir()
        }
    print("files", json.dumps(files, separators=(",", ":")), flush=True)


def measure_cost(arguments: argparse.Namespace) -> None:
    """Print what saving adds to the time of a training, and how often it saves."""
    from ojd_daps_language_models.training.saving import Saver

    save = Saver._save
    saves: list[tuple[float, float]] = []  # beginning and end

    def timed_save(self, state):
        start = time.perf_counter()
        save(self, state)
        saves.append((start, time.perf_counter()))

    Saver._save = timed_save
    prepared = prepare()
    epochs = arguments.cost_epochs
    train(prepare(40), 1, None, 0)  # what is loaded at first
    bare, kept, shares, each, gaps = [], [], [], [], []
    for _ in range(arguments.repetitions):
        start = time.perf_counter()
        train(prepared, epochs, None, 0)
        bare.append(time.perf_counter() - start)
        saves.clear()
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            store = Folder(Path(folder) / "run")
            train(prepared, epochs, store, arguments.minutes)
            end = time.perf_counter()
        kept.append(end - start)
        spent = [saved - began for began, saved in saves]
        each += spent
        shares.append(sum(spent) / kept[-1])
        moments = [start, *(began for began, _ in saves), end]
        gaps += [after - before for before, after in pairwise(moments)]
    ratios = [saved / plain - 1 for saved, plain in zip(kept, bare, strict=True)]
    print(f"{epochs} epochs without checkpoints: {statistics.median(bare):.1f} s")
    state(
        "what training checkpoints add to the time of a training",
        "the same training without",
        spread(ratios),
        f"to save is {spread(shares)} of it, {statistics.median(each):.2f} s each; at "
        f"most {max(gaps):.0f} s apart",
    )
    print(f"saved {len(each) / arguments.repetitions:.1f} times")


def spread(shares: list[float]) -> str:
    """Median, least and greatest, in percent."""
    middle, least, most = statistics.median(shares), min(shares), max(shares)
    return f"{middle:+.1%} ({least:+.1%} to {most:+.1%})"


class Child:
    """A training in a process of its own, and what it said."""

    def __init__(self, arguments: argparse.Namespace, folder: str):
        self._process = subprocess.Popen(
            [
                *(sys.executable, __file__, "--folder", folder),
                *("--epochs", str(arguments.epochs)),
                *("--adverts", str(arguments.adverts)),
                *("--minutes", str(arguments.minutes)),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.first = self.last = None
        self.times: dict[int, float] = {}
        self.files: dict[str, str] = {}  # of the model, and their digests

    def follow(self, until: float = math.inf) -> None:
        """Read what it says; kill it so many steps after its beginning."""
        for line in self._process.stdout:
            now = time.monotonic()
            word, _, value = line.strip().rpartition(" ")
            if word == "step":
                self.last = int(value)
                self.first = self.last if self.first is None else self.first
                self.times[self.last] = now
                if self.last > until - 1:
                    began = self.times.get(self.last - 1, now)
                    time.sleep((now - began) * (until % 1))
                    self._process.kill()
                    break
            elif word == "files":
                self.files = json.loads(value)
        self._process.wait()


def kill_often(arguments: argparse.Namespace) -> None:
    """Print what each kill cost, and whether the weights are those without it."""
    with tempfile.TemporaryDirectory() as folder:
        whole = Child(arguments, folder)
        whole.follow()
    moments = random.Random(arguments.seed)
    equal, lost = 0, []
    for number in range(1, arguments.kills + 1):
        with tempfile.TemporaryDirectory() as folder:
            killed = Child(arguments, folder)
            killed.follow(until=moments.uniform(1, whole.last))
            again = Child(arguments, folder)
            again.follow()
        differ = {name for name, _ in again.files.items() ^ whole.files.items()}
        equal += not differ
        saved = (again.first or killed.last + 1) - 1
        kept = min(saved, killed.last)  # a step may be saved and not be told any more
        began = killed.times[killed.first]
        lost.append(killed.times[killed.last] - killed.times.get(kept, began))
        print(
            f"kill {number}: at step {killed.last} of {whole.last}, went on from step "
            f"{saved}, {lost[-1]:.1f} s lost, "
            + (f"not equal: {', '.join(sorted(differ))}" if differ else "equal"),
            flush=True,
        )
    print(f"{equal} of {arguments.kills} ended with equal weights")
    print(f"lost: median {statistics.median(lost):.1f} s, most {max(lost):.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--adverts", type=int, default=160, help="trained on, killed")
    parser.add_argument("--epochs", type=int, default=6, help="of these trainings")
    parser.add_argument(
        "--minutes", type=float, default=0.1, help="between checkpoints"
    )
    parser.add_argument("--repetitions", type=int, default=3, help="of the cost")
    parser.add_argument("--cost-epochs", type=int, default=1, help="of its trainings")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.folder:
        train_apart(arguments)
        return
    if arguments.repetitions:
        measure_cost(arguments)
    if arguments.kills:
        kill_often(arguments)


if __name__ == "__main__":
    main()
