"""A run on the sample: seconds of each step, and what they are spent on.

    python benchmarks/run_overhead.py [--epochs 0]

With `--epochs 0` nothing is trained: what is left is what a run costs beside training.
`starting` is Python, Metaflow, the imports of the flow and the storing of artifacts.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from results import state

ROOT = Path(__file__).parent.parent
IMPORTS = "import ojd_daps_language_models.training.{}"
READ_COSTS = (
    "import json, metaflow; metaflow.namespace(None);"
    "run = metaflow.Run('MLMFlow/{}');"
    "print(json.dumps([[s.id, (s.task.finished_at - s.task.created_at).total_seconds(),"
    " run['push_to_hub'].task['costs'].data.get(s.id, {{}}).get('seconds', 0)]"
    " for s in run]))"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", default="0")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {"METAFLOW_DATASTORE_SYSROOT_LOCAL": home}
        environment.setdefault("METAFLOW_USER", "benchmark")

        def python(*command: str) -> str:
            return subprocess.run(
                [sys.executable, *command],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            ).stdout

        start = time.perf_counter()
        said = python(
            str(ROOT / "flows/mlm_flow.py"), "run", "--epochs", arguments.epochs
        )
        total = time.perf_counter() - start
        run_id = re.search(r"run-id (\d+)", said)[1]
        steps = json.loads(python("-c", READ_COSTS.format(run_id)))[::-1]
        imports = {}
        for name, code in (("nothing", "pass"), ("torch", IMPORTS.format("masked_lm"))):
            start = time.perf_counter()
            python("-c", code)
            imports[name] = time.perf_counter() - start

    print(f"{'step':12} {'whole':>7} {'its work':>9} {'starting':>9}  (seconds)")
    for step, whole, work in steps:
        print(f"{step:12} {whole:7.1f} {work:9.1f} {whole - work:9.1f}")
    print(f"{'run':12} {total:7.1f}")
    cost = imports["torch"] - imports["nothing"]
    state(
        "seconds of a run on the sample beside training",
        "none",
        f"{total:.0f} s",
        f"importing torch and the Trainer takes {cost:.1f} s of train and of evaluate",
    )


if __name__ == "__main__":
    main()
