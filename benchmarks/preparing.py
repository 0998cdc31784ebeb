"""Prepare adverts shard by shard, and read them for a training: peak memory of any
process, and how time grows.

    python benchmarks/preparing.py [--sizes 10000 40000 160000] [--workers 2]

Synthetic adverts, written by the generator of the sample. At the smallest size one
worker is held against all of them, alternating.
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
# The more adverts a generator invents, the more sentences it repeats.
CONFIG = "split: {max_verbatim_overlap: 1, max_near_overlap: 1}\n"
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


def prepare(data: Path, workers: int, home: Path) -> tuple[float, dict, dict]:
    """Seconds of a whole run, which is kept at `home`; the costs of its steps, and what
    reading what it has made takes."""
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
    start = time.perf_counter()
    done = subprocess.run(
        [*command, "--max-workers", str(workers)],
        env=environment,
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    (manifest,) = home.glob(".metaflow/prepared_adverts/*/*/manifest.json")
    costs, read = (
        json.loads(subprocess.check_output(command, env=environment).splitlines()[-1])
        for command in (
            [sys.executable, "-c", READ_COSTS],
            [sys.executable, __file__, "--read", str(manifest.parent)],
        )
    )
    return seconds, costs, read


def read_prepared(folder: Path) -> dict:
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
        "tokens": sum(int(part["lengths"].sum()) for part in files.values()),
        "tokenize": seconds,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[10_000, 40_000, 160_000]
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=3, help="of one worker")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        print(json.dumps(read_prepared(arguments.read)))
        return

    sizes = sorted(arguments.sizes)
    totals, reading = [], []
    for size in sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name, "adverts")
            folder.mkdir()
            write_adverts(size, folder)

            def run(workers: int, folder: Path = folder) -> tuple[float, dict, dict]:
                with tempfile.TemporaryDirectory() as home:
                    return prepare(folder, workers, Path(home))

            if not totals and arguments.repetitions:
                ratios = [
                    run(1)[0] / run(arguments.workers)[0]
                    for _ in range(arguments.repetitions)
                ]
                report(
                    f"flows/prepare_adverts_flow.py, {size:,} adverts, "
                    f"{arguments.workers} workers",
                    "one worker",
                    ratios,
                )
            seconds, costs, read = run(arguments.workers)
        totals.append(seconds)
        reading.append(read["tokenize"])
        step = max(costs, key=lambda step: costs[step]["peak_memory_mb"])
        print(
            f"{size:9,} adverts: {seconds:7.1f} s, {size / seconds:6,.0f} adverts/s, "
            f"{read['adverts']:,} kept, peak {costs[step]['peak_memory_mb']:,} MB in "
            f"{step}; "
            + ", ".join(f"{name} {cost['seconds']:.0f}" for name, cost in costs.items())
            + f"\n          read for MLM: {read['tokenize']:.1f} s for "
            f"{read['tokens']:,} tokens, peak {read['peak_mb']:,.0f} MB",
            flush=True,
        )
    if len(sizes) > 1:
        power, power_of_reading = exponent(sizes, totals), exponent(sizes, reading)
        state(
            f"flows/prepare_adverts_flow.py, {sizes[0]:,} to {size:,} adverts",
            "itself at other sizes",
            f"time grows as adverts to the power of {power:.2f}",
            f"at most {costs[step]['peak_memory_mb']:,} MB in any task; "
            f"{size / seconds:,.0f} adverts/s on {arguments.workers} workers",
        )
        state(
            "tokenizing prepared adverts into files, and reading all blocks",
            "itself at other sizes",
            f"time grows as adverts to the power of {power_of_reading:.2f}",
            f"at most {read['peak_mb']:,.0f} MB; {read['tokens']:,} tokens in "
            f"{read['tokenize']:.0f} s",
        )


if __name__ == "__main__":
    main()
