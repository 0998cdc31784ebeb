"""Prepare adverts shard by shard: peak memory of any process, and how time grows.

    python benchmarks/preparing.py [--sizes 10000 40000 160000] [--workers 2]

Synthetic adverts, written by the generator of the sample. At the smallest size one
worker is held against all of them, alternating.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

from memory import exponent

from ojd_daps_language_models import PROJECT_DIR

FILES = 16
# The more adverts a generator invents, the more sentences it repeats.
CONFIG = "split: {max_verbatim_overlap: 1, max_near_overlap: 1}\n"
READ_RUN = """
import json, metaflow
metaflow.namespace(None)
(flow,) = metaflow.Metaflow().flows
task = flow.latest_successful_run["end"].task
funnel = task["data_report"].data["funnel"]
print(json.dumps([task["costs"].data, funnel[-1]["adverts"]]))
"""


def write_adverts(count: int, folder: Path) -> None:
    from ojd_daps_language_models.sample_data.generate_adverts import generate_adverts

    adverts = iter(generate_adverts(count, seed=1))
    for number in range(FILES):
        with open(folder / f"{number:02}.jsonl", "w", encoding="utf-8") as file:
            for advert in islice(adverts, -(-count // FILES)):
                file.write(json.dumps(advert) + "\n")


def prepare(data: Path, workers: int) -> tuple[float, dict, int]:
    """Seconds of the whole run, the costs of its steps, and adverts that are kept."""
    with tempfile.TemporaryDirectory() as home:
        config = Path(home, "config.yaml")
        config.write_text(CONFIG)
        environment = os.environ | {
            "METAFLOW_DEFAULT_DATASTORE": "local",
            "METAFLOW_DEFAULT_METADATA": "local",
            "METAFLOW_DATASTORE_SYSROOT_LOCAL": home,
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
        read = subprocess.run(
            [sys.executable, "-c", READ_RUN],
            env=environment,
            stdout=subprocess.PIPE,
            check=True,
        )
        return seconds, *json.loads(read.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[10_000, 40_000, 160_000]
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=3, help="of one worker")
    arguments = parser.parse_args()

    totals = []
    for size in sorted(arguments.sizes):
        with tempfile.TemporaryDirectory() as folder:
            write_adverts(size, Path(folder))
            if not totals:
                ratios = [
                    prepare(Path(folder), 1)[0]
                    / prepare(Path(folder), arguments.workers)[0]
                    for _ in range(arguments.repetitions)
                ]
            seconds, costs, kept = prepare(Path(folder), arguments.workers)
        totals.append(seconds)
        step = max(costs, key=lambda step: costs[step]["peak_memory_mb"])
        print(
            f"{size:9,} adverts: {seconds:7.1f} s, {size / seconds:6,.0f} adverts/s, "
            f"{kept:,} kept, peak {costs[step]['peak_memory_mb']:,} MB in {step}; "
            + ", ".join(
                f"{name} {cost['seconds']:.0f}" for name, cost in costs.items()
            ),
            flush=True,
        )
    print(
        f"{arguments.workers} workers at {min(arguments.sizes):,} adverts: "
        f"{statistics.median(ratios):.2f} times one ({min(ratios):.2f} to "
        f"{max(ratios):.2f})"
    )
    if len(totals) > 1:
        power = exponent(sorted(arguments.sizes), totals)
        print(f"time grows as adverts to the power of {power:.3f}")


if __name__ == "__main__":
    main()
