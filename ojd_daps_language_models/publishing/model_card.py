"""The model card of a run: README.md, figures and evaluation.json.

Each task has a template of its name in `templates/`, which extends `model_card.md`. It
sets at its top how the hub lists the model, what its scores are called, and which of
them are drawn.
"""

import io
import json
import re
import tarfile
import traceback
from importlib import import_module
from itertools import pairwise
from math import isnan
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard
from jinja2 import (
    Environment,
    FileSystemLoader,
    StrictUndefined,
    Template,
    UndefinedError,
)
from jinja2.environment import TemplateModule

from ojd_daps_language_models.cards.components import (
    UNTRAINED,
    capitalise,
    seen_before,
)
from ojd_daps_language_models.publishing.figures import (
    draw_epochs,
    draw_losses,
    draw_scores,
)
from ojd_daps_language_models.publishing.metadata import (
    describe_model,
    find_base_model,
    find_language,
    list_origins,
    name_test_set,
)
from ojd_daps_language_models.publishing.public import make_public
from ojd_daps_language_models.publishing.scores import (
    Measure,
    by_group,
    find_references,
    find_widest,
    in_order,
    list_measures,
    name_group,
    name_measure,
    name_score,
    score_table,
)
from ojd_daps_language_models.publishing.tables import (
    facts,
    quote,
    show,
    show_share,
    table,
)

TEMPLATES = Path(__file__).parent / "templates"
FUNCTIONS = (
    *(capitalise, facts, quote, seen_before, show, show_share, table),
    *(by_group, name_group, name_measure, name_score, score_table),
)
STEP_COSTS = {"seconds": "seconds", "peak_memory_mb": "peak memory of a process (MB)"}
ANCESTOR = {
    "checkpoint": "its checkpoint",
    "data": "its data",
    "data fingerprint": "data fingerprint",
    "revision": "code revision",
}
PUBLIC = ("metrics", "data_report", "lineage", "costs", "config")


class _Gap(ValueError):
    """A value is not there."""


def write_card(
    run: dict[str, Any], folder: Path, repository: str | None = None
) -> None:
    """Write `README.md`, `figures/*.png` and `evaluation.json` of a run.

    Args:
        run: see `getters.runs.describe_run`.
        folder: of the model.
        repository: `OWNER/NAME` on the hub, from which the card says to load it; else
            the folder, by its name.

    Raises:
        FileNotFoundError: the task has no template.
        ValueError: a score is no number, a value that the card tells is missing, or
            published scores are of another test set.
    """
    template = _get_template(run["task"])
    run = _keep_published(run)
    measures = list_measures(run["metrics"]["scores"])
    model = repository or folder.resolve().name
    public = make_public(run)
    words = _render(template, _context(run, public, measures, model))
    metadata = describe_model(run, measures, model, words)
    text = re.sub(r"\n{3,}", "\n\n", str(words))  # a block may be empty
    card = ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n{text}")
    files = {
        "README.md": str(card).encode(),
        "evaluation.json": _as_json({key: public[key] for key in PUBLIC}).encode(),
        **_draw(run, measures, words),
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _keep_published(run: dict[str, Any]) -> dict[str, Any]:
    """Of a run that trained a model for each of several layers, what is of the first:
    that is the model which is published."""
    metrics = run["metrics"]
    first, *others = metrics.get("layers", [None])
    if not others:
        return run
    own = {name: {first: metrics[name][first]} for name in ("layers", "scores")}
    spread = {
        group.removeprefix(f"{first}, "): measures
        for group, measures in metrics["spread"].items()
        if group.startswith(f"{first}, ")
    }
    return run | {"metrics": metrics | own | {"spread": spread}}


def _context(
    run: dict[str, Any], public: dict[str, Any], measures: list[Measure], model: str
) -> dict[str, Any]:
    """What the templates can tell."""
    card = import_module(f"ojd_daps_language_models.cards.{run['task']}")
    audit = run["metrics"].get("memorisation")
    return {
        **public,
        "model": model,
        "mask": _read_mask(run["model"]),
        "result": card.summary(run["metrics"]).strip(),
        "untrained": UNTRAINED if run["training_log"].empty else None,
        "chosen_by": _chosen_by(run),
        "measures": measures,
        "references": find_references(run, measures),
        "widest": find_widest(measures),
        "undefined": any(
            isnan(score["value"])
            for measure in measures
            for score in measure.systems.values()
        ),
        "spread": [
            {"score": f"{group}, {measure}", **numbers}
            for group, measures in run["metrics"].get("spread", {}).items()
            for measure, numbers in measures.items()
        ],
        "audited": list_measures(audit["scores"]) if audit else [],
        "test_set": name_test_set(run),
        "base_model": find_base_model(run["lineage"]),
        "language": find_language(run),
        **_describe_making(public),
        "recipe": yaml.safe_dump(public["config"], sort_keys=False, allow_unicode=True),
    }


def _get_template(task: str) -> Template:
    file = TEMPLATES / f"{task}.md"
    if not file.is_file():
        raise FileNotFoundError(
            f"{file}: no such file; it says what the model card of this task tells"
        )
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        finalize=_require,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals |= {function.__name__: function for function in FUNCTIONS}
    return environment.get_template(file.name)


def _render(template: Template, context: dict[str, Any]) -> TemplateModule:
    """The text of a card, which also has what its template sets."""
    try:
        return template.make_module(context)
    except (UndefinedError, _Gap) as error:
        place = traceback.extract_tb(error.__traceback__)
        (*_, frame) = [frame for frame in place if frame.filename.endswith(".md")]
        # In Jinja's own functions lines are those of the Python that it made of it.
        where = template.environment.get_template(Path(frame.filename).name)
        line = where.get_corresponding_lineno(frame.lineno)
        text = Path(frame.filename).read_text(encoding="utf-8").splitlines()[line - 1]
        raise ValueError(
            f"{where.name}, line {line}: {error}; a card has no gaps, and this one "
            f"says there: {text.strip()}"
        ) from error


def _require(value: Any) -> Any:
    """What stands between {{ and }} of a template, unless it is nothing."""
    if value is None or value == "":
        raise _Gap(f"expected a value, found {value!r}")
    return value


def _describe_making(public: dict[str, Any]) -> dict[str, Any]:
    """How a run was made: from what, by which runs before, at what cost."""
    lineages = list(list_origins(public["lineage"]))
    own, costs = lineages[0], public["costs"]
    return {
        "made": {
            "run": f"{public['flow']}/{public['run_id']}",
            **{
                "code revision" if key == "revision" else key: value
                for key, value in own.items()
                if key not in ("origin", "run")
            },
        },
        "ancestors": [
            {"run": later["checkpoint"]}
            | {name: origin.get(key) for key, name in ANCESTOR.items()}
            for later, origin in pairwise(lineages)
        ],
        "steps": [
            {"step": step} | {name: cost[key] for key, name in STEP_COSTS.items()}
            for step, cost in costs.items()
        ],
        "engine": {
            key: value for key, value in costs["train"].items() if key not in STEP_COSTS
        },
    }


def _chosen_by(run: dict[str, Any]) -> str | None:
    """The score by which the epoch was chosen; None where it was the loss."""
    scores = (
        column.removeprefix("validation_")
        for column in run["training_log"]
        if column.startswith("validation_")
    )
    return next((score for score in scores if score != "loss"), None)


def _read_mask(model: bytes) -> str | None:
    """The mask of a packed tokenizer."""
    with tarfile.open(fileobj=io.BytesIO(model)) as archive:
        for member in archive:
            if member.name == "tokenizer_config.json":
                mask = json.load(archive.extractfile(member)).get("mask_token")
                return mask["content"] if isinstance(mask, dict) else mask
    return None


def _draw(
    run: dict[str, Any], measures: list[Measure], words: TemplateModule
) -> dict[str, bytes]:
    """The figures that the templates name."""
    card = import_module(f"ojd_daps_language_models.cards.{run['task']}")
    ordered = in_order(measures, words.group_names)
    charted = [measure for measure in ordered if measure.name in words.charted]
    figures = {
        "figures/scores.png": draw_scores(
            charted,
            words.group_names,
            words.measure_names,
            words.chart_title,
            getattr(words, "chance", None),
        )
    }
    log = run["training_log"]
    if not log.empty:
        figures["figures/losses.png"] = draw_losses(log, card.LOSS)
        if score := _chosen_by(run):
            column = f"validation_{score}"
            figures["figures/epochs.png"] = draw_epochs(log, column)
    return figures


def _as_json(value: Any) -> str:
    return json.dumps(
        _without_nan(value),
        allow_nan=False,
        ensure_ascii=False,
        indent=2,
        sort_keys=True,
    )


def _without_nan(value: Any) -> Any:
    """JSON has no NaN; what is undefined is null there."""
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and isnan(value) else value
