"""A run on the sample: seconds of each step, and what they are spent on.

    python benchmarks/run_overhead.py [--batch] [--epochs 0]

With `--epochs 0` nothing is trained: what is left is what a run costs beside training.
`starting` is Python, Metaflow, the imports of the flow and the reading and storing of
artifacts. With `--batch` each step is a job of the stand-ins for AWS Batch and S3 that
the tests use, and comes with what only such jobs have: `package`, to fetch and unpack
the code package; `ending`, to store the card and what was printed; `queue`, until the
run has seen that and submitted the next job. What AWS itself adds, to find a machine
and to pull an image, is not in it.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from results import state

ROOT = Path(__file__).parent.parent
IMPORTS = "import ojd_daps_language_models.training.{}"
READ_COSTS = (
    "import json, metaflow; metaflow.namespace(None);"
    "run = metaflow.Run('MLMFlow/{}');"
    "costs = run['push_to_hub'].task['costs'].data;"
    "print(json.dumps([[s.id, s.task.created_at.timestamp(),"
    " s.task.finished_at.timestamp(), costs.get(s.id, {{}}).get('seconds', 0)]"
    " for s in run]))"
)


def run_flow(
    environment: dict[str, str], *command: str
) -> tuple[float, list[tuple[str, float, float, float]]]:
    """Run the MLM flow: its seconds; of each step the name, when it began and ended,
    and the seconds of its work."""

    def python(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command], env=environment, capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(f"{command} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    start = time.perf_counter()
    said = python(str(ROOT / "flows/mlm_flow.py"), *command)
    total = time.perf_counter() - start
    run_id = re.search(r"run-id (\d+)", said)[1]
    return total, json.loads(python("-c", READ_COSTS.format(run_id)))[::-1]


def time_imports(environment: dict[str, str]) -> float:
    """Seconds for torch and the Trainer, beyond those of Python alone."""
    seconds = []
    for code in ("pass", IMPORTS.format("masked_lm")):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], env=environment, check=True)
        seconds.append(time.perf_counter() - start)
    return seconds[1] - seconds[0]


def measure_here(environment: dict[str, str], epochs: str) -> None:
    """Print what a run of which each step is a process of this machine takes."""
    total, steps = run_flow(environment, "run", "--epochs", epochs)
    print(f"{'step':12} {'whole':>7} {'its work':>9} {'starting':>9}  (seconds)")
    for step, began, ended, work in steps:
        whole = ended - began
        print(f"{step:12} {whole:7.1f} {work:9.1f} {whole - work:9.1f}")
    print(f"{'run':12} {total:7.1f}")
    state(
        "seconds of a run on the sample beside training",
        "none",
        f"{total:.0f} s",
        f"importing torch and the Trainer takes {time_imports(environment):.1f} s of "
        "train and of evaluate",
    )


def measure_on_batch(environment: dict[str, str], epochs: str, folder: Path) -> None:
    """Print what a run of which each step is a job on Batch takes."""
    sys.path.insert(0, str(ROOT / "tests"))
    from batch_stand_in import make_image, serve_batch
    from s3_stand_in import make_bucket, serve_s3

    image = make_image(folder / "image")
    config = folder / "mlm.yaml"
    asked = (ROOT / "configs/mlm.yaml").read_text()
    config.write_text(re.sub(r"(?m)^  gpu: \d+", "  gpu: 0", asked))
    with ExitStack() as servers:
        s3 = make_bucket(servers.enter_context(serve_s3()))
        batch, profile = servers.enter_context(serve_batch(folder / "hosts", image, s3))
        environment |= s3.environment | profile | {"PYTHONPATH": str(ROOT)}
        options = ("--epochs", epochs, "--with", "batch")
        total, steps = run_flow(
            environment, "--config", "config", str(config), "run", *options
        )
        url = batch.jobs[0].environment["METAFLOW_CODE_URL"]
        key = url.removeprefix(f"s3://{s3.bucket}/")
        size = s3.client.head_object(Bucket=s3.bucket, Key=key)["ContentLength"]
    samples = ROOT.glob("ojd_daps_language_models/sample_data/*.gz")
    sample_size = sum(path.stat().st_size for path in samples)
    names = ("package", "starting", "its work", "ending", "queue")
    print(f"{'step':12}", *(f"{name:>9}" for name in names), " (seconds)")
    jobs = pairwise([*batch.jobs, None])
    rows = [phases(*pair, *step[2:]) for pair, step in zip(jobs, steps, strict=True)]
    for job, row in zip(batch.jobs, rows, strict=True):
        print(f"{job.step:12}", *(f"{seconds:9.1f}" for seconds in row))
    print(f"{'run':12} {total:9.1f}")
    means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    spent = dict(zip(names, means, strict=True))
    del spent["its work"]
    state(
        "seconds of a job on Batch beside its work and what AWS itself takes",
        "none",
        f"{sum(spent.values()):.1f} s",
        ", ".join(f"{name} {seconds:.1f}" for name, seconds in spent.items())
        + f"; the code package has {size / 1e6:.2f} MB, the samples among them "
        f"{sample_size / 1e6:.2f}",
    )


def phases(job, following, finished: float, work: float) -> list[float]:
    """Seconds of package, starting, work, ending and queue; the last job has no queue.

    Args:
        finished: when the task was done, by Metaflow.
        work: its seconds.
    """
    began, ended = (job.facts[name] / 1000 for name in ("startedAt", "stoppedAt"))
    (log,) = job.folder.rglob("mflog_stdout")
    (stamp,) = re.findall(r"\|([^|]+)Z\|.*\]Task is starting", log.read_text())
    starting = datetime.fromisoformat(stamp).replace(tzinfo=UTC).timestamp()
    queue = following.facts["createdAt"] / 1000 - ended if following else 0.0
    return [
        starting - began,
        finished - starting - work,
        work,
        ended - finished,
        queue,
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", default="0")
    parser.add_argument("--batch", action="store_true", help="each step is a job")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {
            "METAFLOW_DATASTORE_SYSROOT_LOCAL": home,
            "METAFLOW_HOME": home,
        }
        environment.setdefault("METAFLOW_USER", "benchmark")
        if arguments.batch:
            measure_on_batch(environment, arguments.epochs, Path(home))
        else:
            measure_here(environment, arguments.epochs)


if __name__ == "__main__":
    main()
