"""What `make runs` says of runs, whichever way they ended."""

import os
import subprocess
import sys
import time
from datetime import datetime
from types import SimpleNamespace

import pytest

from flows import run_flow, run_id_of
from ojd_daps_language_models import PROJECT_DIR, __main__
from ojd_daps_language_models.getters.runs import _describe_state, flow_file

QUICK = "../tests/quick_flow"  # of the same name as the MLM flow


def list_runs(home, *options, command="runs") -> list[str]:
    """The lines that are printed, without the blanks that make columns."""
    environment = os.environ | {
        "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(home),
        "PYTHONPATH": str(PROJECT_DIR),
    }
    printed = subprocess.check_output(
        [sys.executable, "-m", "ojd_daps_language_models", command, *options],
        cwd=home,
        env=environment,
        text=True,
    )
    return [" ".join(line.split()) for line in printed.splitlines()]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def runs(home):
    """Ids of runs that ended in different ways, by way, the oldest first."""
    ways = ("well", "failing", "killed", "left alone", "refused at once")
    return {way: run_id_of(run_flow(QUICK, home, "run", "--how", way)) for way in ways}


@pytest.fixture(scope="module")
def lines(home, runs):
    """What is printed of them."""
    return list_runs(home)


def line_of(lines, run_id) -> int:
    (number,) = (
        n for n, line in enumerate(lines) if line.startswith(f"MLMFlow/{run_id} ")
    )
    return number


def test_where_there_is_no_run_it_says_so(tmp_path):
    assert list_runs(tmp_path)[-1].startswith("No run is known here")


def test_the_newest_run_comes_first(runs, lines):
    order = [line_of(lines, run_id) for run_id in runs.values()]
    assert order == sorted(order, reverse=True)
    assert time.strftime("%Y-") in lines[0] and os.environ["METAFLOW_USER"] in lines[0]


def test_only_as_many_are_listed_as_are_asked_for(home, runs):
    lines = list_runs(home, "--limit", "1")
    assert line_of(lines, runs["refused at once"]) == 0
    assert len(lines) == 1


def test_a_successful_run_has_its_first_score(runs, lines):
    line = lines[line_of(lines, runs["well"])]
    assert line.endswith("successful words, perplexity 12.250")
    assert "resume" not in "".join(lines[line_of(lines, runs["well"]) + 1 :])


@pytest.mark.parametrize("way", ["failing", "killed"])
def test_a_failed_run_has_its_step_and_the_command(runs, lines, way):
    number = line_of(lines, runs[way])
    assert lines[number].endswith("failed in train")
    command = f"python flows/mlm_flow.py resume --origin-run-id {runs[way]}"
    assert lines[number + 1] == command


def test_a_run_that_nobody_watched_has_its_last_sign_of_life(runs, lines):
    number = line_of(lines, runs["left alone"])
    assert "running train, or killed: last sign of life at 2" in lines[number]
    assert lines[number + 1].endswith(f"--origin-run-id {runs['left alone']}")


def test_a_run_that_did_nothing_is_not_to_be_continued(runs, lines):
    number = line_of(lines, runs["refused at once"])
    assert lines[number].endswith("failed in start")
    assert lines[number + 1].startswith("MLMFlow/")


def test_flows_of_others_that_are_kept_in_the_same_place_are_no_models(tmp_path):
    (tmp_path / "theirs.py").write_text("""
from metaflow import FlowSpec, step
class TheirFlow(FlowSpec):
    @step
    def start(self):
        self.published = {"url": "https://example.org"}
        self.next(self.end)
    @step
    def end(self):
        pass
TheirFlow()
""")
    assert run_flow(f"{tmp_path}/theirs", tmp_path, "run").returncode == 0
    (line,) = list_runs(tmp_path, command="models")
    assert line.startswith("No run that is known here has published a model")


@pytest.mark.parametrize("job", [True, False])
def test_jobs_that_nobody_watches_have_the_command_that_ends_them(
    job, monkeypatch, capsys
):
    monkeypatch.delenv("METAFLOW_PROFILE", raising=False)
    records = [("attempt", "0"), *([("aws-batch-job-id", "7")] if job else [])]
    run = {"flow": "NERFlow", "run_id": "12", **_describe_state(Run("train", records))}
    monkeypatch.setattr(__main__, "iter_recent_runs", lambda *_: [run])
    __main__.list_runs(10)
    end = "this ends them: python flows/ner_flow.py batch kill --run-id 12\n"
    assert (end in capsys.readouterr().out) == job


class Run(list):
    """Steps of a run, the newest first, as Metaflow's client gives them."""

    created_at = datetime(2026, 1, 1)
    system_tags = frozenset({"user:somebody", "runtime:dev"})

    def __init__(self, step, records, age=None):
        task = SimpleNamespace(
            metadata=[
                SimpleNamespace(name=name, value=value, created_at=number)
                for number, (name, value) in enumerate(records)
            ],
            loglines=lambda stream: [(None, "all is well")],
        )
        super().__init__([SimpleNamespace(id=step, task=task)])
        beat = {} if age is None else {"last_heartbeat_ts": time.time() - age}
        self._object = beat

    def __contains__(self, name):
        return False


TRIED_AGAIN = [("attempt", "0"), ("attempt_ok", "False"), ("attempt", "1")]


@pytest.mark.parametrize(
    ("step", "records", "seconds_since_heartbeat", "state"),
    [
        ("train", TRIED_AGAIN, 5, "running"),
        ("train", TRIED_AGAIN, 3600, "silent"),
        ("train", TRIED_AGAIN, None, "silent"),
        ("train", [*TRIED_AGAIN, ("attempt_ok", "False")], 5, "failed"),
        ("train", [*TRIED_AGAIN, ("attempt_ok", "True")], 5, "running"),
        ("end", [*TRIED_AGAIN, ("attempt_ok", "True")], None, "successful"),
    ],
)
def test_the_last_attempt_and_the_heartbeat_tell_the_state(
    step, records, seconds_since_heartbeat, state
):
    described = _describe_state(Run(step, records, seconds_since_heartbeat))
    assert described["state"] == state
    assert described["user"] == "somebody"


def test_flows_are_found_by_their_name():
    for path in PROJECT_DIR.glob("flows/*_flow.py"):
        (name,) = (
            line.split()[1].partition("(")[0]
            for line in path.read_text().splitlines()
            if line.startswith("class ")
        )
        assert PROJECT_DIR / flow_file(name) == path
