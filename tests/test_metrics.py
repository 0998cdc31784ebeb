"""Intervals hold what they promise, and floors are what a count would give."""

import numpy as np
import pytest

from ojd_daps_language_models.training.baselines import unigram_scores
from ojd_daps_language_models.training.metrics import bootstrap


def share(totals):
    return totals[..., 1] / totals[..., 0]


def adverts(rng, count=60):
    """Adverts whose words are right together: 20 words each, a share of its own."""
    right = rng.binomial(20, rng.beta(4, 6, size=count))
    return np.column_stack([np.full(count, 20), right])


def test_95_of_100_intervals_hold_the_true_share():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        score = bootstrap(adverts(rng), share, samples=300, seed=1)
        inside += score["low"] <= 0.4 <= score["high"]
    assert 0.90 <= inside / 200 <= 0.99


def test_intervals_over_words_would_be_too_narrow():
    rng = np.random.default_rng(0)
    rows = adverts(rng)
    by_advert = bootstrap(rows, share, 500, seed=0)
    words = np.repeat(np.ones(len(rows)), 20)
    right = np.concatenate([[1] * r + [0] * (20 - r) for r in rows[:, 1]])
    by_word = bootstrap(np.column_stack([words, right]), share, 500, seed=0)
    width = by_advert["high"] - by_advert["low"]
    assert width > 1.2 * (by_word["high"] - by_word["low"])


def test_a_paired_difference_is_surer_than_two_intervals():
    rng = np.random.default_rng(1)
    before = adverts(rng)
    after = before + np.array([0, 1])  # one more word right in every advert
    both = np.hstack([after, before])
    change = bootstrap(both, lambda t: share(t[..., :2]) - share(t[..., 2:]), 500, 0)
    assert change["low"] == pytest.approx(0.05) == change["high"]


def test_the_value_is_that_of_all_adverts():
    rows = adverts(np.random.default_rng(2))
    assert (
        bootstrap(rows, share, 100, 0)["value"] == rows[:, 1].sum() / rows[:, 0].sum()
    )


def test_unigram_floor_by_hand():
    counts = np.array([0, 5, 2, 1])  # with one added: 1, 6, 3, 2 of 12
    losses, ranks = unigram_scores(np.array([1, 3, 0]), counts)
    assert np.exp(-losses) == pytest.approx([6 / 12, 2 / 12, 1 / 12])
    assert ranks.tolist() == [0, 2, 3]
