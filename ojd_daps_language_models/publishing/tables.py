"""Numbers and tables of a model card, as Markdown."""

import json
from collections.abc import Sequence
from math import isnan
from typing import Any


def show(value: Any) -> str:
    """A plain value, as it stands on the card wherever it is no score."""
    if value is None:
        return "-"
    if isinstance(value, float):
        if isnan(value):
            return "undefined"
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list):
        return ", ".join(map(show, value))
    if isinstance(value, dict):
        return ", ".join(f"{key}: {show(inner)}" for key, inner in value.items())
    return escape(str(value))


def show_share(value: float) -> str:
    """A part of a whole."""
    return f"{value:.1%}"


def escape(text: str) -> str:
    """A text that leaves the table it stands in as it is."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def quote(text: str) -> str:
    """A text on one line of Python; filters of Jinja would change the `<` of masks."""
    return json.dumps(" ".join(text.split()), ensure_ascii=False)


def table(rows: Sequence[dict]) -> str:
    """A row for each dict, a column for each of their keys."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    numbers = [
        all(isinstance(row.get(key, 0), int | float) for row in rows) for key in keys
    ]
    return lay_out(
        [key.replace("_", " ") for key in keys],
        [[show(row[key]) if key in row else "" for key in keys] for row in rows],
        ["---:" if number else "---" for number in numbers],
    )


def facts(values: dict, title: str = "value") -> str:
    """A row for each value, under its name; a column for each of several dicts."""
    columns = values
    if not all(isinstance(value, dict) for value in values.values()):
        columns = {title: values}
    keys = dict.fromkeys(key for numbers in columns.values() for key in numbers)
    return table(
        [
            {" ": key.replace("_", " ")}
            | {name: inner[key] for name, inner in columns.items() if key in inner}
            for key in keys
        ]
    )


def lay_out(
    headers: Sequence[str], rows: Sequence[Sequence[str]], alignments: Sequence[str]
) -> str:
    """A table of cells that are escaped already."""
    lines = [[*map(escape, headers)], alignments, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
