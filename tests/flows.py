"""How tests run a flow as a user would, and read what it left behind."""

import os
import pickle
import re
import subprocess
import sys

from ojd_daps_language_models import PROJECT_DIR
from ojd_daps_language_models.cards.alive import INCOMPLETE

STEPS = ["start", "load", "tokenize", "train", "evaluate", "push_to_hub", "end"]
NO_TASKS = {"distributed_mlm_flow", "prepare_adverts_flow"}
# For runs whose cards nobody reads: to render those of one takes 6 s of CPU time.
WITHOUT_CARDS = ("--with", "tests.faults.without_cards")
FLOWS = {  # of tasks: file in flows/ -> class
    path.stem: re.search(r"^class (\w+)\(FlowSpec\)", path.read_text(), re.M)[1]
    for path in sorted(PROJECT_DIR.glob("flows/*_flow.py"))
    if path.stem not in NO_TASKS
}


def run_flow(flow, home, *arguments, before=()):
    """Run a flow from a folder that is not the repository.

    Args:
        flow: file in `flows/`, without its ending.
        home: where it keeps its runs.
        arguments: `run` or another command, and its options.
        before: options of the flow itself.
    """
    command = [*before, *map(str, arguments)]
    done = subprocess.run(**_command(flow, home, command), capture_output=True)
    assert INCOMPLETE not in done.stdout, errors_of(done)  # it fails tests, no flow
    return done


def start_flow(flow, home, *arguments, said) -> subprocess.Popen:
    """Start a flow in a group of processes of its own, and go on.

    Args:
        said: open file for all that it prints.
    """
    streams = {"stdout": said, "stderr": subprocess.STDOUT}
    return subprocess.Popen(
        **_command(flow, home, arguments), **streams, start_new_session=True
    )


def _command(flow, home, arguments) -> dict:
    file = PROJECT_DIR / "flows" / f"{flow}.py"
    return {
        "args": [sys.executable, str(file), *arguments],
        "cwd": home,
        "env": os.environ
        | {
            "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(home),
            "METAFLOW_HOME": str(home),
            "PYTHONPATH": str(PROJECT_DIR),
        },
        "text": True,
    }


def artifacts(flow, home, done) -> dict:
    """The artifacts of a run, read by Metaflow's client in a process of its own."""
    name = re.search(r"executing (\w+)", done.stdout + done.stderr)[1]
    code = (
        "import sys, pickle, metaflow\n"
        "metaflow.namespace(None)\n"
        f"run = metaflow.Run('{name}/{run_id_of(done)}')\n"
        "task = run['push_to_hub'].task\n"
        "names = {artifact.id for artifact in task} - {'config', 'name'}\n"
        "pickle.dump({n: task[n].data for n in names}, sys.stdout.buffer)"
    )
    environment = os.environ | {"METAFLOW_DATASTORE_SYSROOT_LOCAL": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=True
    )
    return pickle.loads(done.stdout)


def run_id_of(done) -> str:
    return re.search(r"run-id (\d+)", done.stdout + done.stderr)[1]


def errors_of(done) -> str:
    """What a user reads, without Metaflow's time stamps."""
    stamp = r"(?m)^\d{4}-\d\d-\d\d \S+ (\[\S+ \(pid \d+\)\] )?"
    return re.sub(stamp, "", done.stdout + done.stderr)


def report_of(done) -> str:
    """What the report of a run says, as JSON."""
    import base64
    import json

    page = re.search(r"file://(\S+\.html)", errors_of(done))[1]
    with open(page, encoding="utf-8") as file:
        packed = re.findall(r'__MF_DATA__\["[^"]+"\] = "([^"]+)"', file.read())
    return "".join(
        json.dumps(json.loads(base64.b64decode(part)), ensure_ascii=False)
        for part in packed
    )


def sentences_in(report: str, texts) -> list[str]:
    """Sentences of more than seven words that a report quotes."""
    return [
        sentence
        for text in texts
        for sentence in map(str.strip, re.split(r"[.\n]", text))
        if len(sentence.split()) > 7 and sentence in report
    ]
