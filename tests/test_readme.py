"""What the README tells people to type works as it stands there."""

import ast
import importlib
import os
import re
import shlex
import subprocess
import sys

import pandas as pd
import pytest
from conftest import SAMPLE

from flows import FLOWS
from ojd_daps_language_models import PROJECT_DIR

README = (PROJECT_DIR / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(bash|python)\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line
    for language, block in BLOCKS
    if language == "bash"
    for line in block.replace("\\\n", " ").splitlines()
] + re.findall(r"`(python flows/[^`]+)`", README)
SNIPPETS = [block for language, block in BLOCKS if language == "python"]


@pytest.fixture(scope="module")
def typed(tmp_path_factory, tiny_bert):
    """Type a command as a user would, in a folder with a file of adverts."""
    home = tmp_path_factory.mktemp("reader")
    adverts = pd.read_json(SAMPLE, lines=True)[:200]
    adverts.to_csv(home / "adverts.csv", index=False)
    (home / "flows").symlink_to(PROJECT_DIR / "flows")
    (home / "configs").symlink_to(PROJECT_DIR / "configs")
    environment = os.environ | {
        "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(home),
        "PYTHONPATH": str(PROJECT_DIR),
        "BROWSER": "true",
    }

    def run(*command):
        return subprocess.run(
            [sys.executable, *command],
            cwd=home,
            env=environment,
            capture_output=True,
            text=True,
        )

    first = run(*shlex.split(COMMANDS_ON_DATA[0])[1:], "--checkpoint", str(tiny_bert))
    assert first.returncode == 0, first.stdout
    return run


COMMANDS_ON_DATA = [command for command in COMMANDS if "--data adverts.csv" in command]


def test_the_readme_shows_a_run_on_one_s_own_adverts():
    assert len(COMMANDS_ON_DATA) == 1


def test_the_report_opens(typed):
    (command,) = [command for command in COMMANDS if "card view" in command]
    done = typed(*shlex.split(command)[1:])
    assert done.returncode == 0, done.stderr


def test_the_snippet_uses_the_trained_model(typed):
    package = ("-m", "ojd_daps_language_models")
    done = typed(*package, "export", "MLMFlow/latest", "OWNER/MLM")
    assert done.returncode == 0, done.stderr
    done = typed("-c", SNIPPETS[0])
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 5


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_every_snippet_imports_what_exists(snippet):
    compile(snippet, "README.md", "exec")
    imports = [
        (node.module, alias.name)
        for node in ast.parse(snippet).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    assert imports
    for module, name in imports:
        assert hasattr(importlib.import_module(module), name), (module, name)


def test_there_are_five_lines_for_each_model():
    assert len(SNIPPETS) == len(FLOWS)
    assert all(len(code.replace("\n\n", "\n").splitlines()) <= 5 for code in SNIPPETS)


def test_every_other_command_names_what_exists(typed):
    """Runs on AWS and with models of the hub cannot be typed here; options can."""
    options = typed("flows/mlm_flow.py", "run", "--help").stdout
    known = set(re.findall(r"--[a-z-]+", options))
    known |= {"--config", "--origin-run-id"}
    for command in COMMANDS:
        if not command.startswith("python flows/"):
            continue
        words = shlex.split(command)
        assert (PROJECT_DIR / words[1]).is_file()
        assert {word for word in words if word.startswith("--")} <= known, command
        for word in words:
            if word.startswith("configs/"):
                assert (PROJECT_DIR / word).is_file()
