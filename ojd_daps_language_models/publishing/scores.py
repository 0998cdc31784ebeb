"""The scores of a run as a model card tells them: checked, named, in tables."""

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite, isnan
from typing import Any, NamedTuple

from ojd_daps_language_models.cards.components import SYSTEMS, interval
from ojd_daps_language_models.publishing.tables import lay_out

FIRST, LAST = ("after", "before"), ("change", "gain")  # of the rows of a table
WIDE = 0.1  # of an interval: what is in it may differ by ten points


class Measure(NamedTuple):
    """What all systems score by one measure.

    name: of the measure.
    systems: system -> value, low, high.
    path: of what is scored, from the outside in: a kind, or a layer and a label.
    group: the same as it is shown: without a layer that is the only one.
    """

    name: str
    systems: dict[str, dict[str, float]]
    path: tuple[str, ...]
    group: tuple[str, ...]

    @property
    def printed(self) -> str:
        """The name by which a run prints it, and references are given."""
        return ", ".join((*self.path, self.name))

    def show(self, system: str) -> str:
        """The score of a system with its interval."""
        form = "{:,.1f}" if self.name == "perplexity" else "{:.3f}"
        return interval(self.systems[system], form)


def list_measures(scores: dict) -> list[Measure]:
    """All scores of `metrics["scores"]`, which may stand in groups, in their order.

    Raises:
        ValueError: one of them is not a number. Undefined may be a share of nothing:
            the precision of what finds nothing, the recall of a label that the test
            part does not have, and the F1 of what finds none of that either.
    """
    measures = list(_walk(scores, ()))
    for measure in measures:
        _refuse_no_number(measure)
    outer = {measure.path[0] for measure in measures if len(measure.path) > 1}
    if len(outer) != 1:
        return measures
    return [measure._replace(group=measure.path[1:]) for measure in measures]


def _walk(scores: dict, path: tuple[str, ...]) -> Iterator[Measure]:
    for name, inner in scores.items():
        if all("value" in score for score in inner.values()):
            yield Measure(name, inner, path, path)
        else:
            yield from _walk(inner, (*path, name))


def _refuse_no_number(measure: Measure) -> None:
    nothing_there = measure.name.endswith("recall") and all(
        isnan(score["value"]) for score in measure.systems.values()
    )
    counts = measure.name.startswith("precision") or measure.name.endswith("f1")
    may_be_undefined = counts or nothing_there
    for system, score in measure.systems.items():
        for key in ("value", "low", "high"):
            number = score[key]
            if not (isfinite(number) or (isnan(number) and may_be_undefined)):
                raise ValueError(
                    f"{measure.printed}: the {key} of '{system}' is {number}; only "
                    "numbers are published"
                )


def find_references(run: dict[str, Any], measures: Sequence[Measure]) -> list[dict]:
    """Published scores that may stand beside those of the run.

    One of a score that the run does not have is left out, and said: a slip of the pen
    in a configuration that is frozen must not keep a trained model from the hub.

    Raises:
        ValueError: they are of another test set than the run's.
    """
    publishing = run["config"]["publishing"]
    own, found = publishing["test_set"], f"'{publishing['test_set']}'"
    if not run["lineage"]["test data"]:
        own, found = None, "a part of its own data: it had no --test-data"
    elif not own:
        found = "a test set without a name in publishing.test_set"
    printed = [measure.printed for measure in measures]
    for reference in publishing["references"]:
        if reference["test_set"] != own:
            raise ValueError(
                f"{reference['system']} was scored on '{reference['test_set']}', this "
                f"model on {found}; the two cannot be compared"
            )
        if reference["score"] not in printed:
            print(
                f"left out of the card: {reference['system']}, for the run has no "
                f"score '{reference['score']}'; expected one of: {'; '.join(printed)}"
            )
    return [one for one in publishing["references"] if one["score"] in printed]


def find_widest(measures: Sequence[Measure]) -> Measure | None:
    """The score of the model with the widest interval, if that is wide.

    Only of scores that are at most 1: on another scale the width says nothing.
    """
    shares = [m for m in measures if m.systems["after"]["high"] <= 1]
    widest = max(shares, key=_width, default=None)
    return widest if widest and _width(widest) > WIDE else None


def _width(measure: Measure) -> float:
    return measure.systems["after"]["high"] - measure.systems["after"]["low"]


def in_order(measures: Sequence[Measure], names: Mapping[str, str]) -> list[Measure]:
    """By group: those with a name in words in the order of these, then the others."""
    order = {name: place for place, name in enumerate(names)}

    def place(measure: Measure) -> list[int]:
        return [order.get(part, len(order)) for part in measure.group]

    return sorted(measures, key=place)


def by_group(
    measures: Sequence[Measure], references: Sequence[dict], names: Mapping[str, str]
) -> list[dict]:
    """The measures of each group, with what was published of them.

    Returns:
        name: the group; measures; references: pairs of a measure and a reference.
    """
    groups: dict[tuple, dict] = {}
    for measure in in_order(measures, names):
        group = groups.setdefault(
            measure.group, {"name": measure.group, "measures": [], "references": []}
        )
        group["measures"].append(measure)
        group["references"] += [
            (measure, reference)
            for reference in references
            if reference["score"] == measure.printed
        ]
    return list(groups.values())


def name_group(group: tuple[str, ...], names: Mapping[str, str]) -> str:
    """What is scored, in words; of `sentences, FILE` the part before the comma."""
    known = (part.partition(", ") for part in group)
    return ": ".join(f"{names.get(one, one)}{comma}{own}" for one, comma, own in known)


def name_measure(name: str, names: Mapping[str, str]) -> str:
    """A measure in words."""
    return names.get(name, name.replace("_", " "))


def name_score(
    measure: Measure, group_names: Mapping[str, str], measure_names: Mapping[str, str]
) -> str:
    """A measure and of what it is, in words."""
    name = name_measure(measure.name, measure_names)
    group = name_group(measure.group, group_names)
    return f"{name} ({group})" if group else name


def score_table(measures: Sequence[Measure], names: Mapping[str, str]) -> str:
    """A row for each system, a column for each measure, as Markdown."""
    known = [name for name in SYSTEMS if name not in (*FIRST, *LAST)]
    order = dict.fromkeys((*FIRST, *known, *LAST))
    order |= dict.fromkeys(system for measure in measures for system in measure.systems)
    rows = [
        [
            _name_system(system),
            *(m.show(system) if system in m.systems else "" for m in measures),
        ]
        for system in order
        if any(system in measure.systems for measure in measures)
    ]
    headers = ["", *(name_measure(measure.name, names) for measure in measures)]
    return lay_out(headers, rows, ["---", *["---:"] * len(measures)])


def _name_system(system: str) -> str:
    name = SYSTEMS.get(system, system)
    return f"**{name}**" if system == "after" else name
