"""What a public card may tell of a run: plain values, no places, no text of adverts."""

import re
from collections import Counter
from pathlib import PurePath
from typing import Any

import numpy as np

from ojd_daps_language_models.publishing.folder import LOCAL_PATH

DATA = ("data", "validation data", "test data")
ON_THE_HUB = re.compile(r"hf://datasets/([^/@]+/[^/@]+)")
MODEL_OF_THE_HUB = re.compile(r"\w[\w.-]*(/[\w.-]+)?")
PLACE = re.compile(rf"(?:{LOCAL_PATH.pattern})\S*")
# Reasons quote what they found; nothing of it is told.
FOUND = re.compile(r": .*|'[^']*'|\"[^\"]*\"", re.S)


def tags_of(task: str) -> list[str]:
    """By which the card of a model of this project and task is known."""
    return ["job-adverts", task]


def make_public(run: dict[str, Any]) -> dict[str, Any]:
    """The numbers of a run that its card is made from, as all may read them.

    Places of data and checkpoints become what kind of thing is there. Of rows that were
    kept aside only reasons and counts stay.

    Args:
        run: see `getters.runs.describe_run`.

    Returns:
        `flow`, `run_id`, `task`, and `metrics`, `data_report`, `lineage`, `costs` and
        `config`, of dicts, lists, text, numbers and None.
    """
    config = run["config"]
    data = config["data"] | {"path": _hide(config["data"]["path"])}
    if "sentences" in data:
        data["sentences"] = [_hide(path) for path in data["sentences"]]
    checkpoint = name_checkpoint(config["model"]["checkpoint"])
    model = config["model"] | {"checkpoint": checkpoint}
    report = {
        key: _count_reasons(value) if key.endswith("kept_aside") else value
        for key, value in run["data_report"].items()
        if key != "examples_aside"
    }
    return _plain(
        {
            **{key: run[key] for key in ("flow", "run_id", "task", "metrics", "costs")},
            "data_report": report,
            "lineage": _name_places(run["lineage"]),
            "config": config | {"data": data, "model": model},
        }
    )


def name_data(path: str | None) -> str | None:
    """What a path of data leads to, without the way there."""
    if path is None:
        return None
    if path == "sample":
        return "the sample"
    if path.startswith("run:"):
        return path
    if found := ON_THE_HUB.match(path):
        return found[1]
    if path.startswith("s3://"):
        return "S3 objects"
    if re.search(r"[*?\[]", path):
        return "local files"
    return "local file" if PurePath(path).suffix else "local folder"


def _hide(path: str) -> str:
    """A path as the configuration may have it: what all can read stays."""
    return path if path == "sample" or ON_THE_HUB.match(path) else name_data(path)


def name_checkpoint(checkpoint: str) -> str:
    """The same for a checkpoint; runs and models of the hub keep their names."""
    if checkpoint.startswith("run:") or MODEL_OF_THE_HUB.fullmatch(checkpoint):
        return checkpoint
    return "S3 folder" if checkpoint.startswith("s3://") else "local folder"


def _name_places(lineage: dict[str, Any]) -> dict[str, Any]:
    named = {
        key: name_data(value) if key in DATA else value
        for key, value in lineage.items()
    }
    if origin := lineage.get("origin"):
        named["origin"] = _name_places(origin)
    return named | {"checkpoint": name_checkpoint(lineage["checkpoint"])}


def _count_reasons(rows: list[dict]) -> list[dict]:
    """Counts by reason, without what a reason quotes of a row."""
    counts: dict[str, Counter] = {}
    for row in rows:
        numbers = {key: value for key, value in row.items() if key != "reason"}
        reason = FOUND.sub(_left_out, row["reason"])
        counts.setdefault(reason, Counter()).update(numbers)
    return [{"reason": reason, **numbers} for reason, numbers in counts.items()]


def _left_out(found: re.Match) -> str:
    return "" if found[0].startswith(": ") else "…"


def _plain(value: Any) -> Any:
    """Values of Python alone: those of NumPy have no form in YAML and JSON."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, str):
        return PLACE.sub("(a path)", value)
    if value is None or isinstance(value, bool | int | float):
        return value
    raise TypeError(f"a card holds text and numbers, not {type(value).__name__}")
