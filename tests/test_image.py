"""The image of a job has what the package requires and no more, and is not root."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

from batch_stand_in import image_environment

from ojd_daps_language_models import PROJECT_DIR

LINES = (PROJECT_DIR / "Dockerfile").read_text(encoding="utf-8")
INSTRUCTIONS = re.findall(
    r"^([A-Z]+) (.*)", re.sub(r"#.*\n", "", LINES).replace("\\\n", " "), re.MULTILINE
)


def said(name: str) -> list[str]:
    """What follows an instruction, each time that it is there."""
    return [text for instruction, text in INSTRUCTIONS if instruction == name]


def test_its_requirements_are_those_of_setup(monkeypatch):
    given = {}
    monkeypatch.setattr("setuptools.setup", lambda **settings: given.update(settings))
    read = runpy.run_path(str(PROJECT_DIR / "setup.py"))["read_requirements"]
    source, target = said("COPY")[0].split()
    (install,) = [line for line in said("RUN") if "pip install" in line]
    command, _, installed = install.partition("--requirement ")
    assert command.split() == ["pip", "install", "--no-cache-dir"]
    assert installed.strip() == target
    assert read(source) == given["install_requires"]


def test_nothing_else_of_this_checkout_is_in_it():
    assert [line.split()[0] for line in said("COPY")] == ["requirements.txt"]
    assert not said("ADD")
    ignored = (PROJECT_DIR / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in ignored if line and not line.startswith("#")]
    assert rules == ["*", "!requirements.txt"]


def test_its_base_has_cuda_at_one_version():
    (base,) = said("FROM")
    assert re.fullmatch(r"nvidia/cuda:\d+\.\d+\.\d+-base-ubuntu\d\d\.\d\d", base)


def test_jobs_are_not_root_and_install_nothing():
    assert int(said("USER")[-1]) > 0
    assert "USER" in [instruction for instruction, _ in INSTRUCTIONS[-2:]]
    assert image_environment()["METAFLOW_SKIP_INSTALL_DEPENDENCIES"] == "1"


def test_the_linter_has_nothing_to_say():
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run(
        [hadolint, PROJECT_DIR / "Dockerfile"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_make_builds_it_under_the_name_that_is_given():
    command = ["make", "--dry-run", "image", "IMAGE=registry.example/jobs:1"]
    printed = subprocess.check_output(command, cwd=PROJECT_DIR, text=True)
    assert "docker build --platform linux/amd64 --tag registry.example/jobs:1 ." in (
        printed
    )
