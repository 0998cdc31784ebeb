"""Intervals hold what they promise, and floors are what a count would give."""

import numpy as np
import pytest

from ojd_daps_language_models.training import metrics
from ojd_daps_language_models.training.baselines import (
    fit_tfidf,
    unigram_scores,
    word_overlap,
)
from ojd_daps_language_models.training.metrics import (
    accuracy,
    average_precision,
    best_threshold,
    bootstrap,
    compare,
    f1,
    of_sums,
    other_class,
    outcomes,
    precision,
    precision_at,
    recall,
    roc_auc,
    spread,
)


def share(totals):
    return totals[..., 1] / totals[..., 0]


def adverts(rng, count=60):
    """Adverts whose words are right together: 20 words each, a share of its own."""
    right = rng.binomial(20, rng.beta(4, 6, size=count))
    return np.column_stack([np.full(count, 20), right])


def interval(sums, statistic, samples, seed):
    return bootstrap(of_sums(sums, statistic), len(sums), samples, seed)


def test_95_of_100_intervals_hold_the_true_share():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        score = interval(adverts(rng), share, samples=300, seed=1)
        inside += score["low"] <= 0.4 <= score["high"]
    assert 0.90 <= inside / 200 <= 0.99


def test_intervals_over_words_would_be_too_narrow():
    rng = np.random.default_rng(0)
    rows = adverts(rng)
    by_advert = interval(rows, share, 500, seed=0)
    words = np.repeat(np.ones(len(rows)), 20)
    right = np.concatenate([[1] * r + [0] * (20 - r) for r in rows[:, 1]])
    by_word = interval(np.column_stack([words, right]), share, 500, seed=0)
    width = by_advert["high"] - by_advert["low"]
    assert width > 1.2 * (by_word["high"] - by_word["low"])


def test_a_paired_difference_is_surer_than_two_intervals():
    rng = np.random.default_rng(1)
    before = adverts(rng)
    after = before + np.array([0, 1])  # one more word right in every advert
    statistics = {"after": of_sums(after, share), "before": of_sums(before, share)}
    scores = compare(
        statistics,
        {"change": ("after", "before"), "gain": ("after", "absent")},
        len(before),
        500,
        0,
    )
    assert scores["change"]["low"] == pytest.approx(0.05) == scores["change"]["high"]
    assert set(scores) == {"after", "before", "change"}


def test_the_value_is_that_of_all_adverts():
    rows = adverts(np.random.default_rng(2))
    assert interval(rows, share, 100, 0)["value"] == rows[:, 1].sum() / rows[:, 0].sum()


def test_unigram_floor_by_hand():
    counts = np.array([0, 5, 2, 1])  # with one added: 1, 6, 3, 2 of 12
    losses, ranks = unigram_scores(np.array([1, 3, 0]), counts)
    assert np.exp(-losses) == pytest.approx([6 / 12, 2 / 12, 1 / 12])
    assert ranks.tolist() == [0, 2, 3]


def test_rankings_are_those_of_scikit_learn_with_ties_and_weights():
    from sklearn.metrics import average_precision_score, roc_auc_score

    rng = np.random.default_rng(3)
    positive = rng.random(300) < 0.2
    scores = np.round(rng.normal(positive), 1)  # with ties
    weights = rng.integers(0, 4, size=(5, 300)).astype(float)
    for ours, theirs in (
        (roc_auc, roc_auc_score),
        (average_precision, average_precision_score),
    ):
        expected = [theirs(positive, scores, sample_weight=row) for row in weights]
        assert ours(positive, scores, weights) == pytest.approx(expected)
    one_class = np.zeros((1, 300))
    one_class[:, positive] = 1
    assert np.isnan(roc_auc(positive, scores, one_class)).all()


def test_many_items_are_weighted_some_resamples_at_a_time(monkeypatch):
    rng = np.random.default_rng(3)
    positive, scores = rng.random(200) < 0.4, rng.random(200)
    groups, weights = rng.integers(9, size=200), rng.integers(4, size=(16, 9))
    expected = roc_auc(positive, scores, weights[:, groups])
    statistic = metrics.of_items(roc_auc, positive, scores, groups)
    for at_once in (2**24, 700, 1):
        monkeypatch.setattr(metrics, "_WEIGHTS_AT_ONCE", at_once)
        np.testing.assert_array_equal(statistic(weights), expected)


def test_the_interval_of_roc_auc_is_as_wide_of_many_groups(monkeypatch):
    rng = np.random.default_rng(5)
    groups = np.sort(rng.integers(300, size=3000))
    positive = rng.random(3000) < 0.4
    # with ties, and with something that all items of a group have in common
    scores = np.round(rng.normal(positive) + rng.normal(size=300)[groups], 1)
    exact = bootstrap(
        metrics.of_items(roc_auc, positive, scores, groups), 300, 1000, seed=0
    )
    monkeypatch.setattr(metrics, "_MANY_GROUPS", 300)
    found = bootstrap(
        metrics.of_roc_auc(positive, scores, groups, 300), 300, 1000, seed=0
    )
    assert found["value"] == pytest.approx(exact["value"])
    assert exact["high"] - exact["low"] > 0.04
    assert found == pytest.approx(exact, abs=0.001)
    none = metrics.of_roc_auc(positive & False, scores, groups, 300)
    assert np.isnan(none(np.ones((2, 300)))).all()


def test_counts_give_the_scores_of_scikit_learn():
    from sklearn.metrics import precision_recall_fscore_support

    rng = np.random.default_rng(4)
    positive, predicted = rng.random((2, 200)) < [[0.3], [0.4]]
    totals = outcomes(positive, predicted, rng.integers(9, size=200), 9).sum(axis=0)
    expected = precision_recall_fscore_support(positive, predicted)
    for place, counts in enumerate((other_class(totals), totals)):
        found = [measure(counts) for measure in (precision, recall, f1)]
        assert found == pytest.approx([row[place] for row in expected[:3]])


def test_precision_at_a_prevalence_is_that_of_a_test_with_as_many():
    totals = np.array([30.0, 20, 10, 140])  # tp, fp, fn, tn: a fifth is positive
    assert precision_at(0.2)(totals) == pytest.approx(precision(totals))
    rarer = totals * [1, 10, 1, 10]  # the same recall and false alarms
    assert precision_at(40 / 1640)(totals) == pytest.approx(precision(rarer))
    nothing = np.array([0.0, 0, 40, 160])
    assert np.isnan(precision_at(0.2)(nothing)) and recall(nothing) == 0


@pytest.mark.parametrize("statistic", [f1, accuracy])
def test_no_threshold_is_better_than_the_best(statistic):
    rng = np.random.default_rng(5)
    for _ in range(20):
        positive = rng.random(40) < 0.4
        positive[:2] = [True, False]
        scores = np.round(rng.normal(positive), 1)
        threshold = best_threshold(positive, scores, statistic)

        def at(cut, positive=positive, scores=scores):
            found = outcomes(positive, scores >= cut, np.zeros(40, int), 1)[0]
            return statistic(found)

        assert at(threshold) == max(at(cut) for cut in scores)


def test_an_interval_of_what_is_never_there_is_not_a_number():
    never = bootstrap(lambda weights: np.full(len(weights), np.nan), 5, 100, 0)
    assert all(np.isnan(value) for value in never.values())


def test_spread_needs_two_seeds():
    rows = [{"scores": {"all": {"f1": value}}} for value in (0.5, 0.7)]
    assert spread(rows[:1]) == {}
    assert spread(rows)["all"]["f1"] == pytest.approx(
        {"mean": 0.6, "standard_deviation": 0.02**0.5, "least": 0.5, "greatest": 0.7}
    )


def test_word_overlap_is_of_sets_and_ignores_case():
    pairs = [("We bake bread", "bread, we sell."), ("…", "!"), ("a", "b")]
    assert word_overlap(pairs) == pytest.approx([2 / 4, 0, 0])


def test_the_tfidf_floor_learns_words():
    texts = [
        f"{'our firm' if n % 3 == 0 else 'your duty'} number {n}" for n in range(90)
    ]
    positive = np.arange(90) % 3 == 0
    likely = fit_tfidf((texts[:60], positive[:60]), (texts[60:], positive[60:]))
    assert ((likely(texts[60:]) > 0.5) == positive[60:]).all()
