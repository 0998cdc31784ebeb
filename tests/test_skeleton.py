"""The repository installs as its files say, and its documents speak of what exists."""

import ast
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PACKAGE = "ojd_daps_language_models"
DOCUMENTS = [
    *(ROOT / "README.md", ROOT / "CONTRIBUTING.md"),
    *ROOT.glob("docs/**/*.md"),
]


def read_requirements(name: str) -> dict[str, Requirement]:
    """Return what a requirements file asks for, by distribution."""
    lines = (ROOT / name).read_text().splitlines()
    bare = (line.partition("#")[0].strip() for line in lines)
    found = [Requirement(line) for line in bare if line]
    return {canonicalize_name(requirement.name): requirement for requirement in found}


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A fresh folder with the package installed from a wheel of this checkout."""
    checkout = tmp_path_factory.mktemp("checkout")
    for name in ("setup.py", "pyproject.toml", "requirements.txt", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    for name in (PACKAGE, "configs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, checkout / name, symlinks=True, ignore=ignored)
    target = tmp_path_factory.mktemp("target")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    offline = ["--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run(
        [*pip, "wheel", *offline, "--wheel-dir", target, checkout], check=True
    )
    # Metaflow would package them in place of what is installed.
    assert not list(checkout.glob("*.egg-info"))
    (wheel,) = target.glob("*.whl")
    install = [*pip, "install", *offline, "--no-compile", "--target", target, wheel]
    subprocess.run(install, check=True)
    return target


def test_the_wheel_carries_every_module_recipe_and_sample(installed):
    expected = {
        path.relative_to(ROOT)
        for pattern in ("**/*.py", "sample_data/*")
        for path in (ROOT / PACKAGE).glob(pattern)
        if path.is_file()
    } | {
        Path(PACKAGE) / "recipes" / path.relative_to(ROOT / "configs")
        for path in (ROOT / "configs").rglob("*.yaml")
    }
    missing = {str(path) for path in expected if not (installed / path).is_file()}
    assert not missing


def test_the_wheel_brings_no_flows_tests_or_docs(installed):
    folders = {path.name for path in installed.iterdir() if path.is_dir()}
    assert {name for name in folders if not name.endswith(".dist-info")} == {PACKAGE}


def test_what_is_installed_can_be_imported(installed):
    code = f"import {PACKAGE} as package; print(package.__file__)"
    command = [sys.executable, "-c", code]
    printed = subprocess.check_output(
        command, cwd=installed, env={"PYTHONPATH": str(installed)}, text=True
    )
    assert Path(printed.strip()).is_relative_to(installed)


def test_the_wheel_requires_what_requirements_txt_lists(installed):
    (metadata,) = installed.glob(f"{PACKAGE}*.dist-info/METADATA")
    lines = metadata.read_text().splitlines()
    found = [
        Requirement(line.removeprefix("Requires-Dist: "))
        for line in lines
        if line.startswith("Requires-Dist: ")
    ]
    assert set(found) == set(read_requirements("requirements.txt").values())


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_requirement_has_bounds_and_a_reason(name):
    for line in (ROOT / name).read_text().splitlines():
        requirement, _, reason = line.partition("#")
        if requirement.strip():
            operators = {item.operator for item in Requirement(requirement).specifier}
            assert operators in ({"=="}, {">=", "<"}), line
            assert reason.strip(), f"no reason given: {line}"


@pytest.mark.parametrize(
    ("folders", "files"),
    [
        ((PACKAGE, "flows"), ["requirements.txt"]),
        (("tests", "benchmarks"), ["requirements.txt", "requirements-dev.txt"]),
    ],
    ids=["runtime", "development"],
)
def test_what_is_imported_is_required(folders, files):
    required = {name for file in files for name in read_requirements(file)}
    providers = packages_distributions()
    local = {path.stem for folder in folders for path in (ROOT / folder).rglob("*.py")}
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            for module in imported_modules(path) - sys.stdlib_module_names - local:
                names = {canonicalize_name(name) for name in providers.get(module, [])}
                assert module == PACKAGE or names & required, f"{path}: {module}"


def imported_modules(path: Path) -> set[str]:
    """Return the top-level names of what a Python file imports, anywhere in it."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules.add(node.module)
    return {module.split(".")[0] for module in modules}


def test_conda_installs_the_package_as_pip_does():
    environment = yaml.safe_load((ROOT / "environment.yaml").read_text())
    assert environment["name"] == PACKAGE
    *conda, pip = environment["dependencies"]
    # nothing else from conda: requirements.txt alone decides on versions
    assert conda == ["python=3.11", "pip"]
    assert pip == {"pip": ["--editable ."]}
    assert 'python_requires=">=3.11"' in (ROOT / "setup.py").read_text()


def test_the_formatter_is_the_same_before_a_commit_and_in_make_lint():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    pins = {
        pin
        for repository in hooks["repos"]
        for hook in repository["hooks"]
        for pin in hook["additional_dependencies"]
        if pin.startswith("ruff==")
    }
    (pin,) = pins
    version = pin.removeprefix("ruff==")
    assert read_requirements("requirements-dev.txt")["ruff"].specifier.contains(version)


def make_targets() -> set[str]:
    """Return the targets that README and docs tell people to make."""
    code = "\n".join(
        part
        for path in DOCUMENTS
        for part in re.findall(r"```.*?```|`[^`\n]+`", path.read_text(), re.DOTALL)
    )
    return set(re.findall(r"(?:^|[`;&|])\s*make ([a-z][a-z-]*)", code, re.MULTILINE))


@pytest.mark.parametrize("target", sorted(make_targets()))
def test_what_the_documents_make_exists(target):
    dry_run = ["make", "--dry-run", "--always-make", target]
    result = subprocess.run(dry_run, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "python" in result.stdout or target in ("help", "image")


def test_make_alone_lists_the_flows_and_what_the_documents_name():
    printed = subprocess.check_output(["make"], cwd=ROOT, text=True)
    listed = {line.split()[0] for line in printed.splitlines()}
    flows = {
        path.stem.removesuffix("_flow").replace("_", "-")
        for path in (ROOT / "flows").glob("*_flow.py")
    }
    assert listed >= flows | make_targets()


SHOW_USER = {
    "make": "printf 'show:;@echo $$METAFLOW_USER' | make -s -f Makefile -f - show",
    "direnv": "has() { false; }; dotenv_if_exists() { :; }; source ./.envrc; "
    'echo "${METAFLOW_USER:-}"',
}


@pytest.mark.parametrize("way", SHOW_USER)
@pytest.mark.parametrize("login", ["jane.doe", "root", None])
def test_runs_are_of_one_user_with_make_and_without(way, login):
    """Of two users one does not find the latest run of the other."""
    names = {"METAFLOW_USER", "SUDO_USER", "USERNAME", "USER"}
    environment = {key: os.environ[key] for key in os.environ.keys() - names}
    if login:
        environment["USER"] = login
    command = ["bash", "-c", SHOW_USER[way]]
    printed = subprocess.check_output(command, cwd=ROOT, env=environment, text=True)
    if login == "jane.doe":
        assert printed == "\n"  # Metaflow takes the login name
    else:
        assert printed.strip() not in ("", "root")


def test_every_recipe_is_in_the_docs():
    text = (ROOT / "docs" / "configuration.md").read_text()
    for path in (ROOT / "configs").rglob("*.yaml"):
        assert f'--8<-- "{path.relative_to(ROOT)}"' in text


def test_the_environment_example_sets_nothing():
    lines = (ROOT / ".env.example").read_text().splitlines()
    assert all(not line or line.startswith("#") for line in lines)


def test_the_changelog_knows_this_version():
    source = (ROOT / PACKAGE / "__init__.py").read_text()
    version = re.search(r'__version__ = "(.+)"', source)[1]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()
