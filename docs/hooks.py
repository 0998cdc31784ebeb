"""What MkDocs makes from the sources: pages of flows and modules, tables of scores."""

import json
from collections.abc import Iterator
from pathlib import Path

from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent
PACKAGE = "ojd_daps_language_models"
TASKS = ROOT / PACKAGE / "tasks"
SCORES = ROOT / "docs" / "sample_scores.json"  # written by sample_scores.py
MARKER = "`make docs` puts the table of `sample_scores.json` here."
LAST = ("before", "after", "change", "gain")  # columns; floors stand before them

logger = get_plugin_logger("sample_scores")


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
    """Add the generated pages to the navigation.

    A task without scores is a warning, which `--strict` does not let pass.
    """
    for section, names in _modules().items():
        if names:
            pages = [
                {name.removeprefix(f"{PACKAGE}."): f"api/{name}.md"} for name in names
            ]
            config.nav.append({section: pages})
    for task in sorted(path.stem for path in TASKS.glob("[a-z]*.py")):
        if task not in _sample_scores():
            logger.warning(f"{SCORES.name}: no '{task}'; `make scores` runs its flow")
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


def on_page_markdown(markdown, page, config, files):
    """Put the scores of its sample run into the page of each task."""
    task = page.file.src_uri.removesuffix(".md")
    if MARKER in markdown and task in (found := _sample_scores()):
        return markdown.replace(MARKER, scores_section(task, found[task]))
    return markdown


def scores_section(task: str, run: dict) -> str:
    """A table of scores, and what they were measured with.

    Args:
        run: see `sample_scores.score_sample`.
    """
    rows = list(_measures(run["scores"]))
    systems = dict.fromkeys(system for _, scores in rows for system in scores)
    systems = [name for name in systems if name not in LAST] + [
        name for name in LAST if name in systems
    ]
    lines = [["", *(f"`{system}`" for system in systems)], ["---"] * (len(systems) + 1)]
    for names, scores in rows:
        label = ", ".join(f"`{name}`" for name in names)
        lines.append([label, *(_cell(scores.get(system)) for system in systems)])
    counts = ", ".join(
        f"{count:,} {name.replace('_', ' ')}" for name, count in run["scored"].items()
    )
    return (
        f"`python flows/{task}_flow.py run` on the sample: from the checkpoint "
        f"`{run['checkpoint']}`, {run['epochs']} epochs, seed {run['seed']}. Scored on "
        f"the test part: {counts}. In brackets: 95% intervals. The sample is invented: "
        "these scores show that the flow works, and say nothing of real adverts.\n\n"
        + "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    )


def _sample_scores() -> dict[str, dict]:
    return json.loads(SCORES.read_text(encoding="utf-8"))


def _measures(scores: dict, names: tuple = ()) -> Iterator[tuple[tuple, dict]]:
    """Systems by measure, with the names of its groups before its own."""
    for name, inner in scores.items():
        if all("value" in score for score in inner.values()):
            yield (*names, name), inner
        else:
            yield from _measures(inner, (*names, name))


def _cell(score: dict | None) -> str:
    if score is None:
        return ""
    if None in score.values():
        return "undefined"
    form = "{:.3f}" if abs(score["value"]) < 10 else "{:.1f}"
    value, low, high = (form.format(score[key]) for key in ("value", "low", "high"))
    return f"{value} ({low}\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}{high})"


def _source_page(title: str, path: str) -> str:
    return f'# {title}\n\n```python\n--8<-- "{path}"\n```\n'
