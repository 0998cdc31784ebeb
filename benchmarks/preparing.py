"""Prepare adverts shard by shard, and train on them for some steps: peak memory of any
process, and how time grows until the training.

    python benchmarks/preparing.py [--sizes 10000 40000 160000] [--workers 2]

Synthetic adverts, written by the generator of the sample. At the largest size, where
there are shards to share, one worker is held against all of them, alternating.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from unittest import mock

from memory import exponent
from results import report, state

from ojd_daps_language_models import PROJECT_DIR

FILES = 16
MOST_READ = 1_000_000  # blocks or pairs
BATCH = 64
# The more adverts a generator invents, the more sentences it repeats.
CONFIG = "split: {max_verbatim_overlap: 1, max_near_overlap: 1}"
READ_COSTS = """
import json, metaflow
metaflow.namespace(None)
(flow,) = metaflow.Metaflow().flows
print(json.dumps(flow.latest_successful_run["end"].task["costs"].data))
"""


def write_adverts(count: int, folder: Path) -> None:
    from ojd_daps_language_models.sample_data.generate_adverts import generate_adverts

    adverts = iter(generate_adverts(count, seed=1))
    for number in range(FILES):
        with open(folder / f"{number:02}.jsonl", "w", encoding="utf-8") as file:
            for advert in islice(adverts, -(-count // FILES)):
                file.write(json.dumps(advert) + "\n")


def of_children() -> float:
    """Seconds of a core that the processes we waited for have had."""
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


def prepare(data: Path, workers: int, home: Path) -> tuple[dict, dict, Path]:
    """Seconds of a whole run, which is kept at `home`, by the clock (`wall`) and of all
    its processes (`core`); the costs of its steps, and the folder of what it made."""
    config = home / "config.yaml"
    config.write_text(CONFIG)
    environment = os.environ | {
        "METAFLOW_DEFAULT_DATASTORE": "local",
        "METAFLOW_DEFAULT_METADATA": "local",
        "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(home),
        "METAFLOW_USER": "benchmark",
    }
    command = [sys.executable, str(PROJECT_DIR / "flows/prepare_adverts_flow.py")]
    command += ["--config", "config", str(config), "run", "--data", str(data)]
    start, worked = time.perf_counter(), of_children()
    done = subprocess.run(
        [*command, "--max-workers", str(workers)],
        env=environment,
        capture_output=True,
        text=True,
    )
    seconds = {"wall": time.perf_counter() - start, "core": of_children() - worked}
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    (manifest,) = home.glob(".metaflow/prepared_adverts/*/*/manifest.json")
    command = [sys.executable, "-c", READ_COSTS]
    said = subprocess.check_output(command, env=environment)
    return seconds, json.loads(said.splitlines()[-1]), manifest.parent


def read_apart(folder: Path, task: str, steps: int) -> dict:
    """What `read` says of a task, and its peak, in a process of its own."""
    command = [sys.executable, __file__, "--read", str(folder), "--task", task]
    command += ["--steps", str(steps)]
    return json.loads(subprocess.check_output(command).splitlines()[-1])


def read(folder: Path, task: str, steps: int) -> dict:
    """Make of prepared adverts what a training reads, which is timed, and begin it."""
    from ojd_daps_language_models.getters.checkpoints import get_checkpoint
    from ojd_daps_language_models.getters.prepared import find_prepared
    from ojd_daps_language_models.preprocessing.token_files import open_tokens
    from ojd_daps_language_models.stores import Folder

    prepared, checkpoint = find_prepared(str(folder)), get_checkpoint("embedded")
    store = Folder(folder / "tokens")
    start, worked = time.perf_counter(), time.process_time()
    files, train, found = MAKE[task][0](prepared, checkpoint, store)
    found |= {
        "wall": time.perf_counter() - start,
        "core": time.process_time() - worked,
    }
    with open_tokens(files, store) as tokens:
        begin(train, tokens, steps)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found | {"peak_mb": peak}


def shipped(task: str, kind: type):
    """The configuration for the sample, which a laptop can train by."""
    from ojd_daps_language_models.configs import parse_config

    return parse_config((PROJECT_DIR / f"configs/{task}.yaml").read_text(), kind)


def make_for_mlm(prepared, checkpoint: Path, store) -> tuple[dict, Callable, dict]:
    """Tokenize the adverts into files."""
    from ojd_daps_language_models.advert_data import texts_by_part
    from ojd_daps_language_models.configs import MLMConfig
    from ojd_daps_language_models.tasks import mlm

    config = MLMConfig(training=shipped("mlm", MLMConfig).training)
    texts = texts_by_part(prepared)
    files = mlm.tokenize(texts, checkpoint, store)
    made = sum(int(part["lengths"].sum()) for part in files.values())

    def train(tokens: dict) -> None:
        mlm.train(tokens, checkpoint, config, 1, 0)

    return files, train, {"adverts": sum(map(len, texts.values())), "made": made}


def make_for_nsp(prepared, checkpoint: Path, store) -> tuple[dict, Callable, dict]:
    """Pair the sentences of the adverts, and tokenize these into a file."""
    from ojd_daps_language_models.advert_data import advert_table, sentences_of
    from ojd_daps_language_models.configs import NSPConfig
    from ojd_daps_language_models.preprocessing.pairs import make_pairs
    from ojd_daps_language_models.tasks import nsp

    config = NSPConfig(training=shipped("nsp", NSPConfig).training)  # and all pairs
    sentences, pairs, _ = make_pairs(
        advert_table(prepared), config.pairs, sentences_of(prepared)
    )
    files, *_ = nsp.tokenize(sentences, pairs, checkpoint, config, store)

    def train(tokens: dict) -> None:
        nsp.train(tokens, pairs, checkpoint, config, 1, [0])

    return files, train, {"adverts": len(sentences), "made": len(pairs)}


MAKE = {"mlm": (make_for_mlm, "tokens"), "nsp": (make_for_nsp, "pairs")}


class Enough(Exception):
    """Raised to leave a training."""


def begin(train: Callable[[dict], None], tokens: dict, steps: int) -> None:
    """Train for some steps, and then only read, as many batches as would be read in
    hours: mapped files come into memory by that."""
    import numpy as np

    from ojd_daps_language_models.training.fit import TrainingLog

    def on_step_end(log, args, state, control, train_dataloader, **kwargs) -> None:
        if state.global_step < steps:
            return
        inputs, rng = train_dataloader.dataset, np.random.default_rng(0)
        for _ in range(0, min(len(inputs), MOST_READ), BATCH):
            inputs.__getitems__(rng.integers(len(inputs), size=BATCH))
        raise Enough

    with mock.patch.object(TrainingLog, "on_step_end", on_step_end), suppress(Enough):
        train(tokens)


def repeat(folder: Path, copies: int) -> None:
    """Let prepared adverts be read as if there were so many times as many."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"] *= copies
    for part in manifest["report"]["parts"].values():
        part["adverts"] *= copies
    path.write_text(json.dumps(manifest))


def growth(sizes: list[int], times: list[dict]) -> str:
    """Seconds, and how those grow that come on top of the smallest size, in words.

    The smallest is mostly starts of processes, which would hide how the rest grows:
    from three sizes on it is taken off the others. On a busy machine the time of the
    cores says more than that of the clock.
    """
    seconds = {kind: [row[kind] for row in times] for kind in times[0]}
    said = f"{seconds['wall'][-1]:.0f} s, {seconds['core'][-1]:.0f} of a core"
    more = {
        kind: [spent - own[0] for spent in own[1:]] for kind, own in seconds.items()
    }
    if len(sizes) < 3 or min(map(min, more.values())) <= 0:
        return said
    added = [size - sizes[0] for size in sizes[1:]]
    wall, core = (exponent(added, more[kind]) for kind in ("wall", "core"))
    return (
        f"{said}; what comes on top of {sizes[0]:,} grows as adverts to the power of "
        f"{wall:.2f}, that of cores of {core:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[10_000, 40_000, 160_000]
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=1, help="of one worker")
    parser.add_argument(
        "--copies", type=int, default=1, help="of all, to be trained on"
    )
    parser.add_argument("--steps", type=int, default=20, help="of each training")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--task", choices=MAKE, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        print(json.dumps(read(arguments.read, arguments.task, arguments.steps)))
        return

    sizes = sorted(arguments.sizes)
    totals, reading = [], {task: [] for task in MAKE}
    for size in sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name, "adverts")
            folder.mkdir()
            write_adverts(size, folder)

            def run(workers: int, folder: Path = folder) -> float:
                with tempfile.TemporaryDirectory() as home:
                    took, *_ = prepare(folder, workers, Path(home))
                    return took["wall"]

            if size == sizes[-1] and arguments.repetitions:
                ratios = [
                    run(1) / run(arguments.workers)
                    for _ in range(arguments.repetitions)
                ]
                report(
                    f"flows/prepare_adverts_flow.py, {size:,} adverts, "
                    f"{arguments.workers} workers",
                    "one worker",
                    ratios,
                )
            seconds, costs, made = prepare(folder, arguments.workers, Path(name))
            totals.append(seconds)
            step = max(costs, key=lambda step: costs[step]["peak_memory_mb"])
            print(
                f"{size:9,} adverts: {seconds['wall']:.1f} s, {seconds['core']:.1f} of "
                f"a core, peak {costs[step]['peak_memory_mb']:,} MB in {step}; "
                + ", ".join(
                    f"{key} {cost['seconds']:.0f}" for key, cost in costs.items()
                ),
                flush=True,
            )
            repeat(made, arguments.copies)
            for task, (_, unit) in MAKE.items():
                found = read_apart(made, task, arguments.steps)
                reading[task].append(found)
                print(
                    f"          {task}: {found['adverts']:,} adverts kept, "
                    f"{found['wall']:.1f} s to make {found['made']:,} {unit}, peak "
                    f"{found['peak_mb']:,.0f} MB",
                    flush=True,
                )
    if len(sizes) > 1:
        state(
            f"flows/prepare_adverts_flow.py, {sizes[0]:,} to {size:,} adverts",
            "itself at other sizes",
            growth(sizes, totals),
            f"at most {costs[step]['peak_memory_mb']:,} MB in any task; "
            f"{size / seconds['wall']:,.0f} adverts/s on {arguments.workers} workers",
        )
        for task, found in reading.items():
            times = [{kind: row[kind] for kind in ("wall", "core")} for row in found]
            state(
                f"from prepared adverts to a training of {task}_flow.py",
                "itself at other sizes",
                growth(sizes, times),
                f"at most {found[-1]['peak_mb']:,.0f} MB, training included; "
                f"{found[-1]['made']:,} {MAKE[task][1]} in {found[-1]['wall']:.0f} s",
            )


if __name__ == "__main__":
    main()
