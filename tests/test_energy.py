"""Energy is metered offline, and never gets in the way of a step."""

import ast
import logging
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from flows import errors_of
from ojd_daps_language_models import PROJECT_DIR, energy, flow_utils
from ojd_daps_language_models.flow_utils import count_earlier_attempts, describe_code

FLOW = """
from metaflow import FlowSpec, step
from ojd_daps_language_models.flow_utils import measured

class BusyFlow(FlowSpec):
    @step
    def start(self):
        self.next(self.train)

    @measured(energy=True)
    @step
    def train(self):
        self.total = sum(number % 7 for number in range(3_000_000))
        self.next(self.end)

    @step
    def end(self):
        print(f"costs: {self.costs}")

if __name__ == "__main__":
    BusyFlow()
"""


def work(seconds: float = 1) -> int:
    """Keep the processor busy for a while."""
    end, total = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        total += sum(range(10_000))
    return total


def files_beside(*folders) -> set[Path]:
    return {path for folder in folders for path in Path(folder).iterdir()}


@pytest.fixture
def asked(monkeypatch) -> list:
    """What is asked of the network; nothing is answered."""
    asked = []

    def refuse(*arguments, **keywords):
        asked.append(arguments)
        raise OSError("no network")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in ("create_connection", "getaddrinfo", "gethostbyname"):
        monkeypatch.setattr(socket, name, refuse)
    return asked


def test_work_takes_energy_without_network_or_files(
    asked, monkeypatch, tmp_path, capfd
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in (  # settings by which codecarbon would tell others
        ("EMISSIONS_ENDPOINT", "http://127.0.0.1:9/"),
        ("ELECTRICITYMAPS_API_TOKEN", "secret"),
        ("OUTPUT_METHODS", "api,csv,logger"),
        ("ALLOW_MULTIPLE_RUNS", "false"),
        ("LOG_LEVEL", "debug"),
    ):
        monkeypatch.setenv(f"CODECARBON_{name}", value)
    lock = Path(tempfile.gettempdir(), ".codecarbon.lock")
    there = lock.exists()
    with energy.meter_energy() as little:
        pass
    with energy.meter_energy() as much:
        work()
        assert lock.exists() == there
    assert not asked
    assert not files_beside(tmp_path)
    assert capfd.readouterr() == ("", "")
    assert much["energy_kwh"] > little["energy_kwh"] > 0
    assert much["energy_kwh"] < 1e-3  # a kilowatt for three seconds
    assert {type(value) for value in much.values()} == {str, float}


def test_it_says_on_what_and_how_sure_it_is():
    with energy.meter_energy() as found:
        pass
    assert re.search(r"\d+ cores of \S.*, \d+ GB of memory$", found["hardware"])
    by = found["energy_by"]
    assert "memory: estimated" in by
    rated = re.search(r"processor: estimated from a rated power of (\d+) W", by)
    assert rated or "processor: read from its counter" in by


def test_the_users_rated_power_is_taken(monkeypatch):
    found = []
    for watts in ("1", "100000"):
        monkeypatch.setenv("CODECARBON_FORCE_CPU_POWER", watts)
        with energy.meter_energy() as metered:
            work(0.5)
        assert f"a rated power of {watts} W" in metered["energy_by"]
        found.append(metered["energy_kwh"])
    assert found[1] > 10 * found[0]


def test_an_error_of_the_step_passes_through_and_leaves_no_thread(monkeypatch):
    monkeypatch.setattr(energy, "EVERY", 0.01)
    before = set(threading.enumerate())
    error = RuntimeError("planned failure")
    for _ in range(20):  # each time a reading may be under way
        with pytest.raises(RuntimeError) as raised, energy.meter_energy() as found:
            time.sleep(0.02)
            raise error
        assert raised.value is error and error.__context__ is None
        assert found["energy_kwh"] > 0
        assert set(threading.enumerate()) <= before
    assert not logging.getLogger("codecarbon").filters


def test_an_interrupted_step_leaves_no_thread():
    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt), energy.meter_energy():
        raise KeyboardInterrupt
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize(
    "broken",
    [
        "emissions_tracker.BaseEmissionsTracker._initialize_runtime_state",
        "core.resource_tracker.ResourceTracker.set_CPU_GPU_ram_tracking",
        "emissions_tracker.BaseEmissionsTracker._prepare_emissions_data",
    ],
    ids=["made", "started", "stopped"],
)
def test_a_meter_that_breaks_does_not_fail_the_step(monkeypatch, capfd, broken):
    """Codecarbon itself catches what breaks in it, and logs it."""

    def fail(*arguments, **keywords):
        raise PermissionError("no such counter")

    before = set(threading.enumerate())
    monkeypatch.setattr(f"codecarbon.{broken}", fail)
    with energy.meter_energy() as found:
        done = work(0.1)
    assert done
    reason = "not metered: PermissionError: no such counter"
    assert found == {"hardware": None, "energy_kwh": None, "energy_by": reason}
    assert capfd.readouterr() == (f"energy: {reason}\n", "")
    assert set(threading.enumerate()) <= before


def test_without_codecarbon_a_step_goes_on(monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "codecarbon", None)
    with energy.meter_energy() as found:
        pass
    assert found["energy_kwh"] is None
    assert found["energy_by"].startswith("not metered: ModuleNotFoundError")
    assert len(capfd.readouterr().out.splitlines()) == 1


def test_a_step_that_fails_without_a_meter_keeps_its_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "codecarbon", None)
    with pytest.raises(ValueError, match="of the step"), energy.meter_energy():
        raise ValueError("of the step")


def test_it_is_imported_only_when_it_is_needed():
    code = (
        "import sys, ojd_daps_language_models.flow_utils\n"
        "print('codecarbon' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_the_costs_of_a_step_have_its_energy(tmp_path):
    (tmp_path / "busy_flow.py").write_text(FLOW)
    environment = os.environ | {
        "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(tmp_path),
        "METAFLOW_HOME": str(tmp_path),
        "PYTHONPATH": str(PROJECT_DIR),
    }
    done = subprocess.run(
        [sys.executable, "busy_flow.py", "run"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    said = errors_of(done)
    assert done.returncode == 0, said
    (costs,) = re.findall(r"^costs: (.+)$", said, re.M)
    train = ast.literal_eval(costs)["train"]  # of plain values alone
    assert train["energy_kwh"] > 0
    assert set(train) >= {"seconds", "hardware", "energy_by"}
    assert "codecarbon" not in said


def test_a_training_that_went_on_has_the_seconds_of_all_its_attempts():
    cost = {"seconds": 30.0, "energy_kwh": 0.1, "energy_by": "measured"}
    log = pd.DataFrame({"seed": [1, 1, 2], "seconds": [5.0, 20.0, 25.0]})
    assert count_earlier_attempts(cost, log[:2]) == cost
    assert count_earlier_attempts(cost, log[:0]) == cost
    found = count_earlier_attempts(cost, log)
    assert found["seconds"] == 45 and found["energy_kwh"] is None
    assert count_earlier_attempts(cost, log[["seconds"]]) == cost


@pytest.mark.parametrize(
    ("checkout", "resumed", "revision"),
    [
        ("abc", None, "abc"),
        (None, None, "begun"),  # on a machine that has the code package alone
        (None, "12", "package"),  # whose code may be another one's
    ],
)
def test_a_run_says_which_code_its_training_ran(
    monkeypatch, checkout, resumed, revision
):
    monkeypatch.setattr(flow_utils, "_checkout", lambda: checkout)
    monkeypatch.setattr(flow_utils, "current", SimpleNamespace(origin_run_id=resumed))
    monkeypatch.setenv("METAFLOW_CODE_SHA", "package")
    found = describe_code({"revision": "begun", "python": "2.7", "torch": "0"})
    assert found["revision"] == revision
    assert found["python"] != "2.7" and found["torch"] != "0"
