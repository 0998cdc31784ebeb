"""Who may import whom, and the five files of every task."""

import ast
from pathlib import Path

import pytest

from flows import FLOWS as TASK_FLOWS
from ojd_daps_language_models import PROJECT_DIR

PACKAGE = PROJECT_DIR / "ojd_daps_language_models"
MODULES = sorted(PACKAGE.rglob("*.py"))
FLOWS = [
    path.stem
    for path in sorted((PROJECT_DIR / "flows").glob("*_flow.py"))
    if path.stem != "distributed_mlm_flow"  # mlm_flow but for where it trains
]
# These import nothing of the project, so every layer may use them.
LEAVES = {"archive", "configs", "energy", "progress"}
MAY_IMPORT = {
    "getters": LEAVES | {"getters"},
    "preprocessing": LEAVES | {"preprocessing", "stores"},
    "training": LEAVES | {"training", "preprocessing", "stores"},
    "tasks": LEAVES | {"tasks", "preprocessing", "stores", "training"},
    "publishing": LEAVES | {"publishing", "preprocessing", "cards"},
    "stores": {"getters"},
    "archive": set(),
    "configs": set(),
    "energy": set(),
    "progress": set(),
}


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_layers(path):
    layer = path.relative_to(PACKAGE).with_suffix("").parts[0]
    ours = {
        name.split(".")[1]
        for name in imports(path)
        if name.startswith(f"{PACKAGE.name}.")
    }
    assert ours <= MAY_IMPORT.get(layer, ours)


def test_metaflow_stays_at_the_edge():
    cards = {f"cards/{path.name}" for path in (PACKAGE / "cards").glob("*.py")}
    # failures.py raises what Metaflow prints plainly; resume.py is where flows begin;
    # preflight.py asks AWS what Metaflow will, with its client and its settings.
    # stores.py and getters/storage.py take its client of S3 and its settings likewise.
    edge = {"failures.py", "flow_utils.py", "preflight.py", "resume.py", "stores.py"}
    edge |= {"getters/runs.py", "getters/storage.py"}
    users = {
        path.relative_to(PACKAGE).as_posix()
        for path in MODULES
        if any(name.split(".")[0] == "metaflow" for name in imports(path))
    }
    assert users <= edge | cards


@pytest.mark.parametrize("flow", FLOWS)
def test_a_flow_has_configurations_tests_and_a_page(flow):
    name = flow.removesuffix("_flow")
    for path in (
        f"configs/{name}.yaml",
        f"configs/production/{name}.yaml",
        f"tests/test_{name}_flow.py",
        f"docs/{name}.md",
    ):
        assert (PROJECT_DIR / path).is_file(), path


@pytest.mark.parametrize("flow", TASK_FLOWS)
def test_a_task_is_five_files_of_one_name(flow):
    task = flow.removesuffix("_flow")
    assert (PACKAGE / f"tasks/{task}.py").is_file()
    assert list((PACKAGE / "sample_data").glob(f"{task}.*"))
    functions = [
        node.name
        for node in ast.parse((PACKAGE / f"tasks/{task}.py").read_text()).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    ]
    assert functions == ["tokenize", "train", "evaluate"]


def test_importing_the_package_loads_no_model_library():
    import subprocess
    import sys

    code = """
import importlib, pkgutil, sys
import ojd_daps_language_models as package
for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if ".training." not in found.name:
        importlib.import_module(found.name)
heavy = {"torch", "transformers", "spacy", "datasets", "sentence_transformers"}
print(heavy & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT_DIR
    )
    assert done.stdout.strip() == "set()", done.stderr
