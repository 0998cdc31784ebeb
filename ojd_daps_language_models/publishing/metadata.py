"""What the hub reads of a model card: its metadata, with every score of the model."""

from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from jinja2.environment import TemplateModule

from ojd_daps_language_models.publishing.public import (
    MODEL_OF_THE_HUB,
    ON_THE_HUB,
    name_data,
    tags_of,
)
from ojd_daps_language_models.publishing.scores import Measure, name_score

EMBEDDED = "sentence-transformers/all-MiniLM-L6-v2"
PRIVATE = "job-adverts"  # stands for a dataset that is not on the hub


def describe_model(
    run: dict[str, Any], measures: Sequence[Measure], model: str, words: TemplateModule
) -> ModelCardData:
    """The metadata of a card.

    Args:
        run: see `getters.runs.describe_run`.
        measures: of `scores.list_measures`.
        model: its repository, or folder.
        words: what the template of the task sets: `library_name`, `pipeline_tag`,
            `heading`, names of groups and measures, maybe `examples` for the widget.
    """
    publishing = run["config"]["publishing"]
    data = [origin.get("data") for origin in list_origins(run["lineage"])]
    examples = getattr(words, "examples", [])
    more = {"widget": [{"text": text} for text in examples]} if examples else {}
    return ModelCardData(
        language=find_language(run),
        license=publishing["licence"] or "unknown",
        library_name=words.library_name,
        pipeline_tag=words.pipeline_tag,
        tags=[*tags_of(run["task"]), "metaflow"],
        base_model=find_base_model(run["lineage"]),
        datasets=_on_the_hub(data) or None,
        model_name=model.rpartition("/")[2],
        eval_results=[
            _result(run, measure, words)
            for measure in measures
            if isfinite(measure.systems["after"]["value"])
        ],
        **more,
    )


def list_origins(lineage: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The lineage of a run, and of the runs that its checkpoint comes from."""
    while lineage:
        yield lineage
        lineage = lineage.get("origin")


def find_base_model(lineage: dict[str, Any]) -> str | None:
    """The model of the hub that all began with, None where it is not known."""
    (*_, first) = list_origins(lineage)
    if first["checkpoint"] == "embedded":
        return EMBEDDED
    on_the_hub = MODEL_OF_THE_HUB.fullmatch(first["checkpoint"])
    return first["checkpoint"] if on_the_hub else None


def find_language(run: dict[str, Any]) -> str | None:
    """The language of the texts, None where nobody said or checked which it is."""
    config, report = run["config"], run["data_report"]
    if config["publishing"]["language"]:
        return config["publishing"]["language"]
    # That key of skills is for ESCO's export; of pairs nothing is checked.
    unchecked = run["task"] == "skill_similarity" and not report["attribution"]
    if "language" in config["data"] and not unchecked:
        return config["data"]["language"]
    return "en" if run["lineage"]["data"] == "sample" else None


def name_test_set(run: dict[str, Any]) -> str:
    """What a model was scored on."""
    lineage, publishing = run["lineage"], run["config"]["publishing"]
    given = lineage["test data"]
    if not given:
        data = name_data(lineage["data"])
        known = data == "the sample" or ON_THE_HUB.match(lineage["data"])
        return f"the test part of {data if known else f'its own data ({data})'}"
    if publishing["test_set"] or ON_THE_HUB.match(given):
        return publishing["test_set"] or name_data(given)
    return f"a test set that was given ({name_data(given)})"


def _on_the_hub(paths: Sequence[str | None]) -> list[str]:
    found = (ON_THE_HUB.match(path or "") for path in paths)
    return list(dict.fromkeys(match[1] for match in found if match))


def _result(run: dict[str, Any], measure: Measure, words: TemplateModule) -> EvalResult:
    lineage = run["lineage"]
    # A file beside the data has its own scores, under `sentences, FILE`.
    _, _, file = "".join(measure.path[:1]).partition(", ")
    hub = [] if file else _on_the_hub([lineage["test data"] or lineage["data"]])
    return EvalResult(
        task_type=words.pipeline_tag,
        task_name=words.heading,
        dataset_type=hub[0] if hub else PRIVATE,
        dataset_name=file or name_test_set(run),
        dataset_config=file or None,  # the hub tells results apart by it, not by name
        dataset_split="test",
        metric_type=measure.name,
        metric_name=name_score(measure, words.group_names, words.measure_names),
        metric_value=float(measure.systems["after"]["value"]),
    )
