"""Scores of named entities, and the kinds of errors that they hide.

Spans are those of `preprocessing.spans`; in a text they are sorted and do not overlap.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from nervaluate.entities import Entity
from nervaluate.strategies import EntityTypeEvaluation, PartialEvaluation

from ojd_daps_language_models.preprocessing.spans import WordSpan
from ojd_daps_language_models.training.metrics import (
    OUTCOMES,
    compare,
    f1,
    of_sums,
    precision,
    recall,
    sum_by_group,
)

MEASURES = {"precision": precision, "recall": recall, "f1": f1}
LENIENT = {"partial_f1": PartialEvaluation(), "type_f1": EntityTypeEvaluation()}
ERRORS = (
    "right",
    "wrong_boundary",
    "wrong_label",
    "wrong_both",
    "missed",
    "invented",
)


def score_spans(
    gold: Sequence[Sequence[WordSpan]],
    systems: Mapping[str, Sequence[Sequence[WordSpan]]],
    labels: Sequence[str],
    groups: np.ndarray,
    samples: int,
    seed: int,
    differences: Mapping[str, tuple[str, str]],
) -> dict:
    """Precision, recall and F1 of spans, with intervals from a bootstrap over groups.

    They are strict: a span is right where its words and its label are, as with
    seqeval's `mode="strict", scheme=IOB2`. `micro` counts the spans of all labels
    together; `macro` is the mean over the labels that gold has (in a resample, those
    that are in it), where the precision of a label that was never said is 0. `micro`
    also has nervaluate's `partial_f1` (other words than gold's, but some of the same,
    count one half, whatever their label) and `type_f1` (the label counts, where some
    words are the same). nervaluate's own "strict" is another one.

    Args:
        gold: spans of each text.
        systems: name -> predicted spans of each text.
        labels: all there are; none may be called micro or macro.
        groups: posting of each text, shape (texts,).
        samples: resamples of the bootstrap.
        seed: of the bootstrap.
        differences: name -> (system, system to subtract), where both are there.

    Returns:
        label, `micro` or `macro` -> measure -> system or difference -> `value`, `low`
        and `high`.

    Raises:
        ValueError: if a span has a label that is not among `labels`.
    """
    _check_labels(
        [*gold, *(spans for found in systems.values() for spans in found)], labels
    )
    numbers, group = np.unique(groups, return_inverse=True)
    count = len(numbers)
    strict = {
        name: _count_strict(gold, found, labels, group, count)
        for name, found in systems.items()
    }
    sums = {
        label: {name: outcomes[:, place] for name, outcomes in strict.items()}
        for place, label in enumerate(labels)
    }
    sums["micro"] = {name: outcomes.sum(axis=1) for name, outcomes in strict.items()}
    measures = {
        name: {measure: (rows, MEASURES[measure]) for measure in MEASURES}
        for name, rows in sums.items()
    }
    for measure, strategy in LENIENT.items():
        lenient = {
            name: _count_lenient(gold, found, strategy, group, count)
            for name, found in systems.items()
        }
        measures["micro"][measure] = (lenient, f1)
    flat = {name: outcomes.reshape(count, -1) for name, outcomes in strict.items()}
    measures["macro"] = {
        measure: (flat, _mean_over_labels(statistic))
        for measure, statistic in MEASURES.items()
    }
    return {
        name: {
            measure: compare(
                {system: of_sums(found, statistic) for system, found in rows.items()},
                differences,
                count,
                samples,
                seed,
            )
            for measure, (rows, statistic) in of_group.items()
        }
        for name, of_group in measures.items()
    }


def values_of(scores: dict) -> dict[str, dict[str, float]]:
    """What `score_spans` gives the system `after`, for `metrics.spread` over seeds."""
    return {
        group: {name: systems["after"]["value"] for name, systems in measures.items()}
        for group, measures in scores.items()
    }


def micro_f1(
    gold: Sequence[Sequence[WordSpan]], predicted: Sequence[Sequence[WordSpan]]
) -> float:
    """Strict F1 over the spans of all labels; 0 where there are none."""
    right = sum(
        len(set(one) & set(other)) for one, other in zip(gold, predicted, strict=True)
    )
    spans = sum(map(len, gold)) + sum(map(len, predicted))
    return 2 * right / spans if spans else 0.0


def count_errors(
    gold: Sequence[Sequence[WordSpan]], predicted: Sequence[Sequence[WordSpan]]
) -> dict:
    """What became of each gold span, and of what each predicted span was made.

    Each span is in one pair at most, and counted once. The two that share most words
    are paired first; of pairs that share as many, those of one label, then those that
    stand first.

    Returns:
        `labels`: gold label (for `invented` the predicted one) -> counts, and `total`:
        counts. These are `right`; `wrong_boundary`: a pair of one label, but not of the
        same words; `wrong_label`: of the same words, but not of one label;
        `wrong_both`; `missed`: a gold span without a pair; `invented`: a predicted one.
        And `confusion`: gold label -> predicted label -> pairs of these two.
    """
    counts, confusion = Counter(), Counter()
    for true, found in zip(gold, predicted, strict=True):
        pairs = _pair(true, found)
        for one, other in pairs:
            counts[one[2], _kind(one, other)] += 1
            if one[2] != other[2]:
                confusion[one[2], other[2]] += 1
        counts.update((span[2], "missed") for span in set(true) - {p[0] for p in pairs})
        counts.update(
            (span[2], "invented") for span in set(found) - {p[1] for p in pairs}
        )
    labels = sorted({label for label, _ in counts})
    taken = sorted({label for _, label in confusion})
    return {
        "labels": {
            label: {error: counts[label, error] for error in ERRORS} for label in labels
        },
        "total": {
            error: sum(counts[label, error] for label in labels) for error in ERRORS
        },
        "confusion": {
            label: {
                other: confusion[label, other]
                for other in taken
                if confusion[label, other]
            }
            for label in sorted({label for label, _ in confusion})
        },
    }


def _check_labels(texts: Sequence[Sequence[WordSpan]], labels: Sequence[str]) -> None:
    unknown = {span[2] for spans in texts for span in spans} - set(labels)
    if unknown:
        raise ValueError(
            f"expected spans labelled {', '.join(labels)}; found "
            f"{', '.join(sorted(unknown))}"
        )


def _count_strict(
    gold: Sequence[Sequence[WordSpan]],
    predicted: Sequence[Sequence[WordSpan]],
    labels: Sequence[str],
    group: np.ndarray,
    count: int,
) -> np.ndarray:
    """`OUTCOMES` of each label, without true negatives, shape (groups, labels, 4)."""
    sums = np.zeros((count, len(labels), len(OUTCOMES)))
    place = {label: number for number, label in enumerate(labels)}
    for at, true, found in zip(group, gold, predicted, strict=True):
        true, found = set(true), set(found)
        for outcome, spans in enumerate((true & found, found - true, true - found)):
            for span in spans:
                sums[at, place[span[2]], outcome] += 1
    return sums


def _count_lenient(
    gold: Sequence[Sequence[WordSpan]],
    predicted: Sequence[Sequence[WordSpan]],
    strategy: PartialEvaluation | EntityTypeEvaluation,
    group: np.ndarray,
    count: int,
) -> np.ndarray:
    """`OUTCOMES` by a strategy of nervaluate, where half right is half a positive."""
    rows = []
    for true, found in zip(gold, predicted, strict=True):
        # No label is left out, so the strategies have no use for a list of them.
        result, _ = strategy.evaluate(_entities(true), _entities(found), [])
        right = result.correct + result.partial / 2
        rows.append((right, result.actual - right, result.possible - right, 0))
    return sum_by_group(group, count, *np.array(rows, dtype=float).T)


def _entities(spans: Sequence[WordSpan]) -> list[Entity]:
    """As nervaluate has them: with the last word of each."""
    return [Entity(label, start, end - 1) for start, end, label in spans]


def _mean_over_labels(
    statistic: Callable[[np.ndarray], np.ndarray],
) -> Callable[[np.ndarray], np.ndarray]:
    """A measure's mean over labels of which there is gold, from totals of all."""

    def mean(totals: np.ndarray) -> np.ndarray:
        by_label = totals.reshape(*totals.shape[:-1], -1, len(OUTCOMES))
        tp, _, fn, _ = np.moveaxis(by_label, -1, 0)
        there = tp + fn > 0
        values = np.where(there, np.nan_to_num(statistic(by_label)), 0).sum(axis=-1)
        with np.errstate(invalid="ignore"):
            return values / there.sum(axis=-1)

    return mean


def _pair(
    gold: Sequence[WordSpan], predicted: Sequence[WordSpan]
) -> list[tuple[WordSpan, WordSpan]]:
    """Pairs of a gold and a predicted span, as `count_errors` says."""
    candidates = sorted(
        _overlaps(gold, predicted),
        key=lambda found: (-found[0], found[1][2] != found[2][2], found[1:]),
    )
    pairs = []
    seen = set()
    for _, true, found in candidates:
        if not seen & {("gold", true), ("predicted", found)}:
            pairs.append((true, found))
            seen |= {("gold", true), ("predicted", found)}
    return pairs


def _overlaps(
    gold: Sequence[WordSpan], predicted: Sequence[WordSpan]
) -> Iterator[tuple[int, WordSpan, WordSpan]]:
    """Number of shared words, gold and predicted span, of all that share a word."""
    true, found = 0, 0
    while true < len(gold) and found < len(predicted):
        one, other = gold[true], predicted[found]
        shared = min(one[1], other[1]) - max(one[0], other[0])
        if shared > 0:
            yield shared, one, other
        if one[1] <= other[1]:
            true += 1
        else:
            found += 1


def _kind(gold: WordSpan, predicted: WordSpan) -> str:
    if gold[:2] == predicted[:2]:
        return "right" if gold[2] == predicted[2] else "wrong_label"
    return "wrong_boundary" if gold[2] == predicted[2] else "wrong_both"
