"""Recent runs, what was published, and what would be.

python -m ojd_daps_language_models runs
python -m ojd_daps_language_models models
python -m ojd_daps_language_models export MLMFlow/ID FOLDER
python -m ojd_daps_language_models publish MLMFlow/ID OWNER/NAME
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ojd_daps_language_models import PROJECT_DIR
from ojd_daps_language_models.flow_utils import list_scores
from ojd_daps_language_models.getters.checkpoints import collect_private_texts
from ojd_daps_language_models.getters.runs import (
    flow_file,
    get_described_run,
    get_training_rows,
    iter_published,
    iter_recent_runs,
    split_run,
)
from ojd_daps_language_models.publishing.publish import (
    check_publishing,
    export,
    publish,
)
from ojd_daps_language_models.resume import kill_command_of, resume_command_of

SCORES = 4  # that a list shows of each model


def list_models() -> None:
    """Print what was published from which run, with its first scores."""
    nothing = True
    for entry in iter_published(_is_ours):
        nothing = False
        published = entry["published"]
        print(f"{published['url']}  {entry['flow']}/{entry['run_id']}")
        print(f"    commit {published['commit'][:12]}, tag {published['tag']}")
        for line in list_scores(entry["metrics"]["scores"])[:SCORES]:
            print(f"    {line}")
    if nothing:
        print("No run that is known here has published a model; --push-to does.")


def list_runs(limit: int) -> None:
    """Print the newest runs of each flow, and how to continue those that failed."""
    nothing = True
    for run in iter_recent_runs(limit, _is_ours):
        nothing = False
        name = f"{run['flow']}/{run['run_id']}"
        print(f"{name:42}{run['begun']:%F %R}  {run['user']}  {_state(run)}")
        if run["state"] in ("failed", "silent") and run["step"] not in (None, "start"):
            script = flow_file(run["flow"])
            if run["state"] == "silent" and run["on_batch"]:
                end = kill_command_of(run["run_id"], script)
                print(f"    its jobs may go on; this ends them: {end}")
            command = resume_command_of(run["run_id"], script, run["engine"])
            print(f"    {command}")
    if nothing:
        print("No run is known here; look at METAFLOW_PROFILE, and at .metaflow.")


def _is_ours(flow: str) -> bool:
    return (PROJECT_DIR / flow_file(flow)).is_file()


def _state(run: dict) -> str:
    """State of a run in a few words, with its first score."""
    step, last_sign = run["step"], run["last_sign"]
    words = {
        "successful": "successful",
        "failed": f"failed in {step}",
        "running": f"running {step}",
        "silent": f"running {step}, or killed: last sign of life at {last_sign:%F %R}",
    }[run["state"]]
    return f"{words}  {_first_score(run['scores'])}" if run["scores"] else words


def _first_score(scores: dict, group: str = "") -> str:
    name, inner = next(iter(scores.items()))
    if "after" in inner:
        return f"{group}{name} {inner['after']['value']:,.3f}"
    return _first_score(inner, f"{group}{name}, ")


def export_run(name: str, folder: Path) -> None:
    """Write the folder that a run publishes."""
    run = get_described_run(*split_run(name))
    export(run, _private_texts(name, run), folder)
    print(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")


def publish_run(name: str, push_to: str, settings: dict[str, Any]) -> None:
    """Publish the model of a finished run.

    Args:
        settings: keys of `publishing` that are not to be as in the run's configuration.
    """
    run = get_described_run(*split_run(name))
    publishing = run["config"]["publishing"] | settings
    run["config"] = run["config"] | {"publishing": publishing}
    test_data = run["lineage"]["test data"]
    check_publishing(push_to, run["task"], run["config"], test_data)
    publish(run, lambda: _private_texts(name, run), push_to)


def _private_texts(name: str, run: dict[str, Any]) -> Iterable[str]:
    rows = get_training_rows(*split_run(name))
    return collect_private_texts(rows, run["lineage"]["checkpoint"])


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ojd_daps_language_models",
        description=__doc__.partition("\n")[0],
    )
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("runs", help="recent runs, and how to continue them")
    listing.add_argument("--limit", type=int, default=10, help="runs of each flow")
    commands.add_parser("models", help="what was published from which run")
    exporting = commands.add_parser("export", help="write what a run publishes")
    exporting.add_argument("run", help="FLOW/ID or FLOW/latest")
    exporting.add_argument("folder", type=Path, help="empty, or new")
    publishing = commands.add_parser("publish", help="publish what a run has trained")
    publishing.add_argument("run", help="FLOW/ID or FLOW/latest")
    publishing.add_argument("push_to", metavar="OWNER/NAME", help="on the hub")
    settings = publishing.add_argument_group("instead of `publishing` of the run")
    settings.add_argument("--private", action=argparse.BooleanOptionalAction)
    settings.add_argument("--licence", help="by the hub's name, such as apache-2.0")
    settings.add_argument("--language", help="of the texts, ISO 639 code")
    arguments = parser.parse_args()
    try:
        if arguments.command == "runs":
            list_runs(arguments.limit)
        elif arguments.command == "models":
            list_models()
        elif arguments.command == "export":
            export_run(arguments.run, arguments.folder)
        else:
            names = ("private", "licence", "language")
            said = {name: getattr(arguments, name) for name in names}
            given = {name: value for name, value in said.items() if value is not None}
            publish_run(arguments.run, arguments.push_to, given)
    except (ValueError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
