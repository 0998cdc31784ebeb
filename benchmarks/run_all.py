"""Run the benchmarks of speed, each as short as it may be, into one table.

    python benchmarks/run_all.py [--gpu] [[--only mlm_training] --write FILE]

Each has a process of its own, one after the other. What they are and why their peers
are fair stands in benchmarks/README.md.
"""

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from results import FILE

HERE = Path(__file__).parent
SETS: dict[str, dict[str, list[str]]] = {
    "cpu": {
        "preprocessing_speed": ["--adverts", "60", "--repetitions", "3"],
        "tokenizing": ["--adverts", "3000"],
        "near_duplicates": ["--adverts", "8000", "--rounds", "2"],
        "memory": ["--sizes", "1000", "4000", "10000"],
        "preparing": [
            *("--sizes", "2000", "10000", "30000", "--repetitions", "0"),
            *("--steps", "5"),
        ],
        "mlm_training": [
            *("--steps", "4", "--loss-steps", "20", "--use-batch-size", "32"),
        ],
        "classification_training": ["--steps", "10", "--loss-steps", "16"],
        "ner_training": [
            *("--max-length", "128", "--steps", "5", "--repetitions", "2"),
            *("--loss-steps", "20"),
        ],
        "skill_similarity": ["--steps", "10"],
        "training_parts": ["--steps", "3", "--repetitions", "2"],
        "checkpoints": ["--kills", "0", "--repetitions", "1"],
        "run_overhead": [],
    },
    "gpu": {
        "mlm_training": [
            *("--encoder", "bert-base", "--block-size", "512", "--batch-size", "32"),
            *("--steps", "20", "--loss-steps", "20"),
        ],
        "ner_training": ["--encoder", "bert-base", "--loss-steps", "60"],
        "training_parts": ["--encoder", "bert-base", "--steps", "30"],
    },
}
HEADER = "| benchmark | what | result | peer | note |\n| --- | --- | --- | --- | --- |"


def describe_machine(gpu: bool) -> str:
    """Processor, cores, memory, GPU, versions, revision."""
    import torch

    cpu = platform.processor() or platform.machine()
    if (file := Path("/proc/cpuinfo")).exists():  # which on ARM has no name
        cpu = next(iter(re.findall(r"model name\s*: (.*)", file.read_text())), cpu)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    found = [f"{cpu}, {os.cpu_count()} cores, {memory:.0f} GB"]
    if gpu:
        found.append(torch.cuda.get_device_name())
    revision = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=HERE,
        capture_output=True,
        text=True,
    ).stdout.strip()
    found.append(f"Python {platform.python_version()}, torch {torch.__version__}")
    found.append(f"{datetime.date.today()}, revision {revision or 'unknown'}")
    return "; ".join(found)


def run(name: str, options: list[str]) -> list[str]:
    """Rows of the table that a benchmark gives."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder, "rows")
        rows.touch()
        print(f"== {name}.py {' '.join(options)}", flush=True)
        start = time.monotonic()
        done = subprocess.run(
            [sys.executable, HERE / f"{name}.py", *options],
            env=os.environ | {FILE: str(rows)},
        )
        print(f"{time.monotonic() - start:.0f} s", flush=True)
        found = [json.loads(line) for line in rows.read_text().splitlines()]
    if done.returncode:
        print(f"{name}.py failed, see above; the others go on", file=sys.stderr)
        found.append({"what": "failed", "result": "", "peer": "", "note": ""})
    command = f"`{' '.join([f'{name}.py', *options])}`"
    columns = ("what", "result", "peer", "note")
    return [
        f"| {' | '.join([command, *(row[column] for column in columns)])} |"
        for row in found
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpu", action="store_true", help="those of a GPU instead")
    parser.add_argument("--only", nargs="+", help="names; needs --write")
    parser.add_argument("--write", type=Path, help="instead of RESULTS.md beside this")
    arguments = parser.parse_args()
    chosen = SETS["gpu" if arguments.gpu else "cpu"]
    path = HERE / ("RESULTS_GPU.md" if arguments.gpu else "RESULTS.md")
    if arguments.only and not arguments.write:
        parser.error(f"--only needs --write FILE: {path.name} holds the rows of all")
    path = arguments.write or path
    if unknown := set(arguments.only or ()) - set(chosen):
        parser.error(
            f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(chosen)}"
        )
    start = time.monotonic()
    machine = describe_machine(arguments.gpu)
    lines = []
    for name, options in chosen.items():
        if not arguments.only or name in arguments.only:
            lines += run(name, options)
    minutes = (time.monotonic() - start) / 60
    path.write_text(
        "# Results\n\n"
        f"Written by `make benchmark{'-gpu' if arguments.gpu else ''}` in "
        f"{minutes:.0f} minutes. A result is the median over repetitions that "
        "alternate with the peer, beside the least and the greatest. "
        "[README.md](README.md) says what each is held against and why.\n\n"
        f"{machine}\n\n" + "\n".join([HEADER, *lines]) + "\n",
        encoding="utf-8",
    )
    print(f"{path}: {len(lines)} rows, {minutes:.1f} minutes")
    if any("| failed |" in line for line in lines):
        sys.exit(1)


if __name__ == "__main__":
    main()
