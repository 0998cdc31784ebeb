"""Rankings of a vocabulary by similarity: where the right answers come."""

from collections.abc import Callable

import numpy as np

ROWS_AT_ONCE = 512


def rank_answers(
    similarities: Callable[[np.ndarray], np.ndarray],
    texts: np.ndarray,
    answers: np.ndarray,
    itself: np.ndarray,
) -> np.ndarray:
    """The place of each right answer among all candidates, from 1.

    Of candidates that are as similar, half count as better: an order that is arbitrary
    is neither luck nor fault.

    Args:
        similarities: from numbers of texts, shape (texts,), to how similar each of them
            is to every candidate, shape (texts, candidates).
        texts: number of the query that each answer is to, shape (answers,).
        answers: number of the right candidate, shape (answers,).
        itself: number of a candidate that is none for this query, -1 for no such one,
            shape (answers,).
    """
    ranks = np.empty(len(texts))
    for start in range(0, len(texts), ROWS_AT_ONCE):
        here = slice(start, start + ROWS_AT_ONCE)
        distinct, row = np.unique(texts[here], return_inverse=True)
        similar = similarities(distinct)[row]
        none = np.flatnonzero(itself[here] >= 0)
        similar[none, itself[here][none]] = -np.inf
        right = similar[np.arange(len(row)), answers[here]][:, None]
        # What is no number, as of a training that diverged, comes last.
        better, as_good = (~(similar <= right)).sum(1), (similar == right).sum(1)
        ranks[here] = 1 + better + np.maximum(as_good - 1, 0) / 2
    return ranks


def score_queries(ranks: np.ndarray, query: np.ndarray) -> dict[str, np.ndarray]:
    """What each query is worth by each measure, shape (queries,).

    Args:
        ranks: of right answers, from 1, shape (answers,).
        query: number of the query that each answer is to, from 0, shape (answers,).

    Returns:
        `mrr`: one by the place of the first right answer; `recall_at_k`: the share of
        right answers among the first k; `rp_at_k`: the same, where a query has more
        than k right answers, as a share of k (R-precision at k).
    """
    count = np.bincount(query)
    best = np.full(len(count), np.inf)
    np.minimum.at(best, query, ranks)
    found = {k: np.bincount(query, ranks <= k) for k in (1, 5, 10)}
    return {
        "mrr": 1 / best,
        **{f"recall_at_{k}": hits / count for k, hits in found.items()},
        **{f"rp_at_{k}": found[k] / np.minimum(count, k) for k in (5, 10)},
    }


def spearman(one: np.ndarray, other: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Rank correlation, for many rows of weights at once.

    With weights of one the same as scipy's `spearmanr`.

    Args:
        one: shape (items,).
        other: likewise.
        weights: how often each item counts, shape (resamples, items).

    Returns:
        Shape (resamples,); NaN where one of the two does not vary.
    """
    x, y = (_weighted_ranks(values, weights) for values in (one, other))
    total = weights.sum(axis=1, keepdims=True)
    x, y = (r - (weights * r).sum(axis=1, keepdims=True) / total for r in (x, y))
    spread = (weights * x * x).sum(axis=1) * (weights * y * y).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (weights * x * y).sum(axis=1) / np.sqrt(spread)


def _weighted_ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean place of each item where it stands there as often as it weighs."""
    _, level = np.unique(values, return_inverse=True)
    mass = np.stack([np.bincount(level, row, level.max() + 1) for row in weights])
    return (mass.cumsum(axis=1) - mass / 2)[:, level]
