"""Who follows `docs/adding-a-task.md` to the letter gets a task that passes."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from flows import WITHOUT_CARDS
from ojd_daps_language_models import PROJECT_DIR

PAGE = (PROJECT_DIR / "docs" / "adding-a-task.md").read_text(encoding="utf-8")
BLOCK = re.compile(r'^(`{3,})(\w+)(?: title="([^"]+)")?\n(.*?)^\1$', re.M | re.S)
BLOCKS = [(title, code) for _, _, title, code in BLOCK.findall(PAGE) if title]
COMMANDS = [
    line
    for _, language, _, code in BLOCK.findall(PAGE)
    if language == "bash"
    for line in code.splitlines()
]
READ_RUN = """
import json, metaflow
metaflow.namespace(None)
data = metaflow.Flow("PayFlow").latest_successful_run.data
seen = data.data_report["seen_by_checkpoint"]
kind = type(data.model).__name__
print(json.dumps([sorted(data._artifacts), data.metrics, kind, seen]))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the repository with what the page adds."""
    root = tmp_path_factory.mktemp("copy") / "repository"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT_DIR,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if os.path.lexists(PROJECT_DIR / name):  # else it was deleted
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT_DIR / name, root / name, follow_symlinks=False)
    for title, code in BLOCKS:
        write(root, title, code)
    done = follow(root, "ojd_daps_language_models.sample_data.generate_pay")
    assert done.returncode == 0, done.stderr
    return root


def write(root, title, code):
    """Do with a block what its title says."""
    name, _, where = title.partition(", ")
    path = root / name
    gap = "\n\n" if name.endswith(".py") else ""
    # With ; in front MkDocs shows the line instead of the file that it names.
    code = code.replace(";--8<--", "--8<--")
    if not where:
        assert not path.exists(), f"{name} is there already"
        text = code
    elif where == "at the end":
        text = path.read_text(encoding="utf-8") + gap + code
    else:
        line = where.removeprefix("before the line: ")
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        (place,) = (n for n, old in enumerate(lines) if old.strip().startswith(line))
        text = "".join([*lines[:place], code, gap, *lines[place:]])
    path.write_text(text, encoding="utf-8")


def python(root, *arguments):
    """Run Python in the copy, with the package of the copy."""
    environment = os.environ | {
        "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(root.parent),
        "METAFLOW_HOME": str(root.parent),
        "NO_MKDOCS_2_WARNING": "1",
        "PYTHONPATH": str(root),
    }
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
    )


def follow(root, mention, *more):
    """Type the one command of the page that mentions something."""
    (command,) = (line for line in COMMANDS if mention in line)
    program, *arguments = command.split()
    assert program == "python"
    return python(root, *arguments, *more)


def passes(done):
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_writes_what_it_lists():
    listed = set(re.findall(r"`([\w/]+\.\w+)`", PAGE.partition("## 1.")[0]))
    written = {title.partition(", ")[0] for title, _ in BLOCKS}
    sample = "ojd_daps_language_models/sample_data/pay.jsonl.gz"  # of a command
    assert {name for name in listed if "pay" in name} - {sample} <= written


def test_what_it_writes_passes_the_linter_and_the_tests_of_every_task(copy):
    names = [title.partition(", ")[0] for title, _ in BLOCKS]
    names = [name for name in names if name.endswith(".py")]
    passes(python(copy, "-m", "ruff", "check", *names))
    passes(python(copy, "-m", "ruff", "format", "--check", *names))
    generic = "pay or importing or metaflow_stays"
    passes(follow(copy, "tests/test_layout.py", "-k", generic))


def test_its_flow_runs_and_keeps_the_names_of_all_flows(copy, tiny_bert):
    first = ("--checkpoint", tiny_bert, "--epochs", "2")
    passes(follow(copy, "pay_flow.py run", *first, *WITHOUT_CARDS))
    names, metrics, kind, seen = json.loads(python(copy, "-c", READ_RUN).stdout)
    promised = {"data_report", "training_log", "model", "metrics", "lineage"}
    assert promised | {"origin", "sentences", "kept_aside", "costs"} <= set(names)
    assert kind == "bytes"
    assert seen is None  # nobody knows what the checkpoint was trained on
    assert set(metrics["scores"]) == {"f1", "accuracy"}
    floors, own = {"majority", "tfidf"}, {"before", "after", "change", "gain"}
    for systems in metrics["scores"].values():
        assert set(systems) == floors | own
        assert all(score["low"] <= score["high"] for score in systems.values())
    again = ("--checkpoint", "run:PayFlow/latest", "--epochs", "0")
    passes(follow(copy, "pay_flow.py run", *again, *WITHOUT_CARDS))
    *_, seen = json.loads(python(copy, "-c", READ_RUN).stdout)
    assert set(seen) == {"validation", "test"}


@pytest.mark.slow
def test_its_own_test_and_those_of_all_flows_pass(copy):
    passes(follow(copy, "tests/test_pay_flow.py"))
    passes(follow(copy, "tests/test_flows.py"))
    passes(follow(copy, "tests/test_publishing_flows.py"))


@pytest.mark.slow
def test_its_scores_are_on_its_page(copy):
    passes(follow(copy, "docs/sample_scores.py"))
    passes(follow(copy, "mkdocs build"))
    passes(python(copy, "-m", "pytest", "tests/test_docs.py", "-k", "pay"))
    passes(python(copy, "-m", "pytest", "tests/test_skeleton.py", "-k", "every_recipe"))
    page = (copy / "site" / "pay.html").read_text(encoding="utf-8")
    scores = json.loads((copy / "docs" / "sample_scores.json").read_text())["pay"]
    assert f"{scores['scores']['f1']['after']['value']:.3f} (" in page
