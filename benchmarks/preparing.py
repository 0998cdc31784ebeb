"""Prepare adverts shard by shard, and read them for a training: peak memory of any
process, and how time grows.

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
from itertools import islice
from pathlib import Path

from memory import exponent
from results import report, state

from ojd_daps_language_models import PROJECT_DIR

FILES = 16
READ_PAIRS = 1_000_000
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


def read_apart(folder: Path, task: str) -> dict:
    """What `READ` says of a task, measured in a process of its own."""
    command = [sys.executable, __file__, "--read", str(folder), "--task", task]
    worked = of_children()
    found = json.loads(subprocess.check_output(command).splitlines()[-1])
    return found | {"core": of_children() - worked}


def read_for_mlm(folder: Path) -> dict:
    """Tokenize prepared adverts into files, and read blocks of them in random order."""
    import numpy as np

    from ojd_daps_language_models.advert_data import texts_by_part
    from ojd_daps_language_models.getters.checkpoints import get_checkpoint
    from ojd_daps_language_models.getters.prepared import find_prepared
    from ojd_daps_language_models.preprocessing.packing import pack
    from ojd_daps_language_models.preprocessing.token_files import (
        open_tokens,
        read_tokens,
    )
    from ojd_daps_language_models.stores import Folder
    from ojd_daps_language_models.tasks import mlm

    texts = texts_by_part(find_prepared(str(folder)))
    store = Folder(folder / "tokens")
    start = time.perf_counter()
    files = mlm.tokenize(texts, get_checkpoint("embedded"), store)
    seconds = time.perf_counter() - start
    with open_tokens(files, store) as tokens:
        blocks = pack(read_tokens(tokens["train"]), 128, 0)
        order = np.random.default_rng(0).permutation(len(blocks))
        for batch in range(0, len(blocks), 1024):
            blocks[order[batch : batch + 1024]]
    return {
        "adverts": sum(map(len, texts.values())),
        "made": sum(int(part["lengths"].sum()) for part in files.values()),
        "seconds": seconds,
    }


def read_for_nsp(folder: Path) -> dict:
    """Pair the sentences of prepared adverts, tokenize them into a file, and read pairs
    in the order of a training."""
    import numpy as np

    from ojd_daps_language_models.advert_data import advert_table, sentences_of
    from ojd_daps_language_models.configs import NSPConfig
    from ojd_daps_language_models.getters.checkpoints import get_checkpoint
    from ojd_daps_language_models.getters.prepared import find_prepared
    from ojd_daps_language_models.preprocessing.pair_tokens import join_pairs
    from ojd_daps_language_models.preprocessing.pairs import make_pairs
    from ojd_daps_language_models.preprocessing.token_files import (
        open_tokens,
        read_tokens,
    )
    from ojd_daps_language_models.stores import Folder
    from ojd_daps_language_models.tasks import nsp
    from ojd_daps_language_models.training.classification import (
        JoinedSequences,
        TwinSampler,
    )

    prepared, config = find_prepared(str(folder)), NSPConfig()
    checkpoint, store = get_checkpoint("embedded"), Folder(folder / "tokens")
    start = time.perf_counter()
    sentences, pairs, _ = make_pairs(
        advert_table(prepared), config.pairs, sentences_of(prepared)
    )
    files, *_ = nsp.tokenize(sentences, pairs, checkpoint, config, store)
    seconds = time.perf_counter() - start
    with open_tokens(files, store) as tokens:
        training = pairs.loc[pairs["part"] == "train", ["first", "second", "label"]]
        labels = training["label"].to_numpy()
        twins = np.roll(np.arange(len(training), dtype=np.int32), len(training) // 2)
        joined = join_pairs(
            read_tokens(tokens["sentences"]),
            training,
            checkpoint,
            config.training.max_length,
        )
        del training  # a flow's training does not keep it either
        made = JoinedSequences(joined, labels, checkpoint, twins)
        order = islice(TwinSampler(made.inputs.lengths, twins, BATCH), READ_PAIRS)
        while batch := list(islice(order, BATCH)):
            made.__getitems__(batch)
    return {"adverts": len(sentences), "made": len(pairs), "seconds": seconds}


def repeat(folder: Path, copies: int) -> None:
    """Let prepared adverts be read as if there were so many times as many."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"] *= copies
    for part in manifest["report"]["parts"].values():
        part["adverts"] *= copies
    path.write_text(json.dumps(manifest))


READ = {"mlm": (read_for_mlm, "tokens"), "nsp": (read_for_nsp, "pairs")}


def powers(sizes: list[int], times: list[dict]) -> str:
    """How time grows, in words: on a busy machine that of the cores says more."""
    wall, core = (exponent(sizes, [row[kind] for row in times]) for kind in times[0])
    return (
        f"time grows as adverts to the power of {wall:.2f}, that of cores of {core:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[10_000, 40_000, 160_000]
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=1, help="of one worker")
    parser.add_argument("--copies", type=int, default=1, help="of all, to be read")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--task", choices=READ, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        found = READ[arguments.task][0](arguments.read)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(found | {"peak_mb": peak}))
        return

    sizes = sorted(arguments.sizes)
    totals, reading = [], {task: [] for task in READ}
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
            for task, (_, unit) in READ.items():
                found = read_apart(made, task)
                reading[task].append(found)
                print(
                    f"          {task}: {found['adverts']:,} adverts kept, "
                    f"{found['seconds']:.1f} s to make {found['made']:,} {unit}, peak "
                    f"{found['peak_mb']:,.0f} MB",
                    flush=True,
                )
    if len(sizes) > 1:
        state(
            f"flows/prepare_adverts_flow.py, {sizes[0]:,} to {size:,} adverts",
            "itself at other sizes",
            powers(sizes, totals),
            f"at most {costs[step]['peak_memory_mb']:,} MB in any task; "
            f"{size / seconds['wall']:,.0f} adverts/s on {arguments.workers} workers",
        )
        for task, found in reading.items():
            times = [{"wall": row["seconds"], "core": row["core"]} for row in found]
            state(
                f"reading prepared adverts for {task}_flow.py",
                "itself at other sizes",
                powers(sizes, times),
                f"at most {found[-1]['peak_mb']:,.0f} MB; {found[-1]['made']:,} "
                f"{READ[task][1]} in {found[-1]['seconds']:.0f} s",
            )


if __name__ == "__main__":
    main()
