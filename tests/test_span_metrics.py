"""Span scores are those of seqeval and nervaluate, and every span has one fate."""

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from nervaluate import Evaluator
from seqeval.metrics import classification_report
from seqeval.scheme import IOB2

from ojd_daps_language_models.preprocessing.spans import (
    from_tags,
    tag_names,
    to_tags,
)
from ojd_daps_language_models.training.metrics import spread
from ojd_daps_language_models.training.span_metrics import (
    count_errors,
    micro_f1,
    score_spans,
    values_of,
)

LABELS = ["BENEFIT", "EXPERIENCE", "SKILL"]
MEASURES = ("precision", "recall", "f1")
WORDS = 12
# Classes of words: mostly nothing, and where something begins it mostly goes on.
tags = st.lists(st.integers(-3, 2 * len(LABELS)), min_size=WORDS, max_size=WORDS)
spans = tags.map(lambda found: from_tags(np.maximum(found, 0), LABELS))
texts = st.lists(st.tuples(spans, spans), min_size=1, max_size=12)


def noisy(seed: int, count: int = 60) -> tuple[list, list]:
    """Gold and predicted spans of texts, of which most overlap."""
    rng = np.random.default_rng(seed)
    rates = [0.6, *[0.15 / 3, 0.25 / 3] * 3]
    gold = rng.choice(2 * len(LABELS) + 1, (count, WORDS), p=rates)
    predicted = np.where(rng.random(gold.shape) < 0.2, rng.permuted(gold, axis=1), gold)
    return tuple(
        [from_tags(row, LABELS) for row in rows.tolist()] for rows in (gold, predicted)
    )


def values(gold: list, predicted: list, labels=LABELS) -> dict:
    """Scores of one system without its intervals."""
    groups = np.arange(len(gold))
    scores = score_spans(gold, {"after": predicted}, labels, groups, 1, 0, {})
    return values_of(scores)


def seqeval(gold: list, predicted: list) -> dict[str, list[float]]:
    """Precision, recall and F1 of labels and averages, by seqeval's strict mode."""
    names = np.array(tag_names(LABELS))
    as_tags = [
        [names[to_tags(spans, WORDS, LABELS)].tolist() for spans in rows]
        for rows in (gold, predicted)
    ]
    report = classification_report(
        *as_tags, mode="strict", scheme=IOB2, output_dict=True, zero_division=0
    )
    return {
        name.removesuffix(" avg"): [row[m] for m in ("precision", "recall", "f1-score")]
        for name, row in report.items()
    }


def nervaluate(gold: list, predicted: list) -> dict:
    """F1 by the strategies of nervaluate on all texts at once."""
    as_entities = [
        [
            [
                {"label": name, "start": start, "end": end - 1}
                for start, end, name in row
            ]
            for row in rows
        ]
        for rows in (gold, predicted)
    ]
    found = Evaluator(*as_entities, tags=LABELS, loader="dict").evaluate()["overall"]
    return {name: result.f1 for name, result in found.items()}


@settings(deadline=None)
@given(texts)
def test_strict_scores_are_those_of_seqeval(rows):
    gold, predicted = (list(column) for column in zip(*rows, strict=True))
    in_gold, there = (
        {span[2] for spans in rows for span in spans}
        for rows in (gold, gold + predicted)
    )
    assume(there)
    ours, theirs = values(gold, predicted), seqeval(gold, predicted)
    # Its macro average also counts labels that were said, but are not in gold.
    for name in there | {"micro"} | ({"macro"} if in_gold == there else set()):
        found = [ours[name][measure] for measure in MEASURES]
        assert np.nan_to_num(found) == pytest.approx(theirs[name])
    assert micro_f1(gold, predicted) == pytest.approx(theirs["micro"][2])


@settings(deadline=None)
@given(texts)
def test_lenient_scores_are_those_of_nervaluate(rows):
    gold, predicted = (list(column) for column in zip(*rows, strict=True))
    micro = values(gold, predicted)["micro"]
    expected = nervaluate(gold, predicted)
    assert np.nan_to_num(micro["partial_f1"]) == pytest.approx(expected["partial"])
    assert np.nan_to_num(micro["type_f1"]) == pytest.approx(expected["ent_type"])


def test_scores_by_hand():
    gold = [[(0, 2, "SKILL"), (3, 5, "SKILL")], [(0, 1, "BENEFIT")], []]
    predicted = [[(0, 2, "SKILL"), (4, 6, "SKILL")], [(0, 1, "SKILL")], []]
    found = values(gold, predicted)
    assert found["SKILL"] == pytest.approx(
        {"precision": 1 / 3, "recall": 1 / 2, "f1": 0.4}
    )
    assert np.isnan(found["BENEFIT"]["precision"]) and found["BENEFIT"]["recall"] == 0
    assert np.isnan([found["EXPERIENCE"][measure] for measure in MEASURES]).all()
    # One in three is right, one has other words, one another label.
    assert found["micro"] == pytest.approx(
        {
            "precision": 1 / 3,
            "recall": 1 / 3,
            "f1": 1 / 3,
            "partial_f1": 2.5 / 3,
            "type_f1": 2 / 3,
        }
    )
    assert found["macro"] == pytest.approx(
        {"precision": 1 / 6, "recall": 1 / 4, "f1": 0.2}
    )


def test_the_interval_is_over_postings():
    """Ten texts that are right, of one posting, say less than those of ten."""
    gold = [[(0, 1, "SKILL")]] * 40
    predicted = [[(0, 1, "SKILL")] if n < 20 else [] for n in range(40)]

    def width(groups):
        scores = score_spans(gold, {"after": predicted}, LABELS, groups, 500, 0, {})
        recall = scores["micro"]["recall"]["after"]
        assert recall["value"] == 0.5 and recall["low"] < 0.5 < recall["high"]
        return recall["high"] - recall["low"]

    assert width(np.arange(40) // 10 + 7) > 2 * width(np.arange(40))


def test_a_resample_scores_what_its_postings_would_score_alone():
    gold, predicted = noisy(0)
    groups = np.arange(len(gold)) % 3
    scores = score_spans(gold, {"after": predicted}, LABELS, groups, 400, 0, {})
    # With three postings, the extremes are those of one posting drawn three times.
    for group, measure in (("SKILL", "f1"), ("macro", "f1"), ("micro", "type_f1")):
        alone = [
            values(gold[posting::3], predicted[posting::3])[group][measure]
            for posting in range(3)
        ]
        score = scores[group][measure]["after"]
        assert (score["low"], score["high"]) == pytest.approx((min(alone), max(alone)))


def test_differences_are_paired():
    gold, before = noisy(1)
    after = [
        true if n % 4 == 0 else row
        for n, (true, row) in enumerate(zip(gold, before, strict=True))
    ]
    differences = {"change": ("after", "before"), "gain": ("after", "crf")}
    groups = np.arange(len(gold)) % 20
    systems = {"before": before, "after": after}
    f1 = score_spans(gold, systems, LABELS, groups, 500, 0, differences)["micro"]["f1"]
    assert set(f1) == {"before", "after", "change"}
    assert f1["change"]["value"] == f1["after"]["value"] - f1["before"]["value"] > 0
    width = {name: score["high"] - score["low"] for name, score in f1.items()}
    assert width["change"] < width["before"] + width["after"]


def test_an_unknown_label_is_refused():
    with pytest.raises(ValueError, match=r"expected .*SKILL; found TOOL$"):
        values([[(0, 1, "TOOL")]], [[]])


def test_values_go_into_the_spread_over_seeds():
    gold, predicted = noisy(2)
    by_seed = [{"scores": values(gold, rows)} for rows in (predicted, gold)]
    found = spread(by_seed)
    assert found["micro"]["f1"]["greatest"] == 1 == found["SKILL"]["f1"]["greatest"]
    assert found["micro"]["f1"]["least"] == values(gold, predicted)["micro"]["f1"] < 1


@given(texts)
@example([([(0, 1, "SKILL")], [(0, 1, "BENEFIT")])])  # a label that no gold span has
def test_every_span_is_counted_once(rows):
    gold, predicted = (list(column) for column in zip(*rows, strict=True))
    found = count_errors(gold, predicted)
    wrong = ("wrong_boundary", "wrong_label", "wrong_both")

    def total(counts, *errors):
        return sum(counts[error] for error in errors)

    everything = found["total"]
    assert total(everything, "right", *wrong, "missed") == sum(map(len, gold))
    assert total(everything, "right", *wrong, "invented") == sum(map(len, predicted))
    for label, counts in found["labels"].items():
        spans = [span for row in gold for span in row if span[2] == label]
        assert total(counts, "right", *wrong, "missed") == len(spans)
    for error, count in everything.items():
        assert count == sum(counts[error] for counts in found["labels"].values())
    confused = sum(sum(row.values()) for row in found["confusion"].values())
    assert confused == total(everything, "wrong_label", "wrong_both")
    right = [len(set(one) & set(other)) for one, other in rows]
    assert everything["right"] == sum(right)


def test_errors_by_hand():
    gold = [
        [(0, 1, "SKILL"), (2, 4, "SKILL"), (5, 6, "SKILL")],
        [(0, 3, "SKILL"), (4, 5, "BENEFIT")],
        [(0, 6, "SKILL")],
    ]
    predicted = [
        [(0, 1, "SKILL"), (2, 5, "SKILL"), (5, 6, "BENEFIT")],
        [(1, 3, "BENEFIT"), (6, 7, "EXPERIENCE")],
        # The longer part is its pair, although the other one has its label.
        [(0, 2, "SKILL"), (2, 6, "BENEFIT")],
    ]
    none = dict.fromkeys(("right", "wrong_boundary", "wrong_label", "wrong_both"), 0)
    found = count_errors(gold, predicted)
    assert found["labels"] == {
        "BENEFIT": {**none, "missed": 1, "invented": 0},
        "EXPERIENCE": {**none, "missed": 0, "invented": 1},
        "SKILL": {
            "right": 1,
            "wrong_boundary": 1,
            "wrong_label": 1,
            "wrong_both": 2,
            "missed": 0,
            "invented": 1,
        },
    }
    assert found["confusion"] == {"SKILL": {"BENEFIT": 3}}


def test_of_pairs_that_share_as_many_words_those_of_one_label_count():
    gold = [[(0, 2, "BENEFIT"), (2, 4, "SKILL")]]
    found = count_errors(gold, [[(1, 3, "SKILL")]])["total"]
    assert (found["wrong_boundary"], found["missed"], found["wrong_both"]) == (1, 1, 0)
