"""Pages that MkDocs makes from the sources: one for each flow and each module."""

from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent
PACKAGE = "ojd_daps_language_models"


def _modules() -> dict[str, list[str]]:
    """Return the dotted names of what gets a page, by section of the navigation."""
    flows = sorted(path.stem for path in (ROOT / "flows").glob("*_flow.py"))
    paths = sorted((ROOT / PACKAGE).rglob("*.py"))
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in paths
        if path.name != "__init__.py" and (path.parent / "__init__.py").exists()
    ]
    return {"Flows": flows, "API": modules}


def on_config(config):
    """Add the generated pages to the navigation."""
    for section, names in _modules().items():
        if names:
            pages = [
                {name.removeprefix(f"{PACKAGE}."): f"api/{name}.md"} for name in names
            ]
            config.nav.append({section: pages})
    return config


def on_files(files, config):
    """Write the generated pages.

    What is declared rather than computed (flows, configurations) is shown as it is, any
    other module by its docstrings.
    """
    for section, names in _modules().items():
        for name in names:
            if section == "Flows":
                page = _source_page(name, f"flows/{name}.py")
            elif name == f"{PACKAGE}.configs":
                page = _source_page(name, f"{PACKAGE}/configs.py")
            else:
                page = f"::: {name}\n"
            files.append(File.generated(config, f"api/{name}.md", content=page))
    return files


def _source_page(title: str, path: str) -> str:
    return f'# {title}\n\n```python\n--8<-- "{path}"\n```\n'
