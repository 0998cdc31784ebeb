"""Run flows on their samples, and write their scores for the pages of the tasks.

    python docs/sample_scores.py              # every flow
    python docs/sample_scores.py mlm nsp      # these; the others keep what they have

`docs/hooks.py` shows what stands in `docs/sample_scores.json` on the page of each task.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
FILE = ROOT / "docs" / "sample_scores.json"
TASKS = sorted(
    path.stem for path in ROOT.glob("ojd_daps_language_models/tasks/[a-z]*.py")
)
READ_RUN = """
import json, metaflow
metaflow.namespace(None)
(flow,) = metaflow.Metaflow().flows
task = flow.latest_successful_run["push_to_hub"].task
names = ("checkpoint", "epochs", "seed", "metrics")
print(json.dumps({"flow": flow.id, **{name: task[name].data for name in names}}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", metavar="task", help=", ".join(TASKS))
    wanted = parser.parse_args().tasks or TASKS
    if unknown := set(wanted) - set(TASKS):
        parser.error(f"no flow for {sorted(unknown)}; found {', '.join(TASKS)}")
    for task in wanted:
        print(f"running {task} on its sample", flush=True)
        found = score_sample(task)
        # Read only now: another run of this script may have added to it.
        known = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
        known[task] = found
        kept = {name: known[name] for name in TASKS if name in known}
        FILE.write_text(as_text(kept), encoding="utf-8")
    print(f"written: {FILE}")


def score_sample(task: str) -> dict:
    """Run a flow as it is shipped, on this machine.

    Returns:
        `flow`: its class; `checkpoint`, `epochs` and `seed` of the run; `scored`:
        counts of what was scored; `scores`: groups, if any, then measure -> system ->
        value, low, high, of which each is a number or None where it is undefined.
    """
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {
            "METAFLOW_DEFAULT_DATASTORE": "local",
            "METAFLOW_DEFAULT_METADATA": "local",
            "METAFLOW_DATASTORE_SYSROOT_LOCAL": home,
        }
        environment.setdefault("METAFLOW_USER", "docs")

        def python(*command: str) -> str:
            done = subprocess.run(
                [sys.executable, *command],
                cwd=home,
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
            )
            if done.returncode:
                sys.exit(f"{done.stdout}\n{task}: the run failed, see above")
            return done.stdout

        python(str(ROOT / "flows" / f"{task}_flow.py"), "run")
        run = json.loads(python("-c", READ_RUN))
    metrics = run.pop("metrics")
    counts = {name: n for name, n in metrics.items() if isinstance(n, int)}
    return run | {"scored": counts, "scores": _rounded(metrics["scores"])}


def as_text(scores: dict) -> str:
    """JSON with a line for each score, so that a change can be read."""
    text = json.dumps(scores, indent=2, allow_nan=False)
    return re.sub(r'\{\s*"value"[^}]*\}', lambda m: " ".join(m[0].split()), text) + "\n"


def _rounded(scores: dict | float) -> dict | float | None:
    """Scores with four decimals; JSON knows no NaN."""
    if isinstance(scores, dict):
        return {name: _rounded(inner) for name, inner in scores.items()}
    return None if scores != scores else round(scores, 4)


if __name__ == "__main__":
    main()
