"""Scores with their uncertainty."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

RESAMPLES_AT_ONCE = 16
_WEIGHTS_AT_ONCE = 2**24  # of items: eight bytes each, some times over
_MANY_GROUPS = 2**12  # of which the first order of a ROC AUC is as good as the whole
# Gives a value for each row of weights of groups, shape (resamples, groups).
Statistic = Callable[[np.ndarray], np.ndarray]


def bootstrap(
    statistic: Statistic, groups: int, samples: int, seed: int
) -> dict[str, float]:
    """A statistic with its 95% percentile interval (Efron & Tibshirani, 1993).

    Whole groups, such as adverts or employers, are drawn with replacement: what is in
    one of them is not independent.

    Args:
        statistic: from how often each group counts, shape (resamples, groups), to
            values, shape (resamples,).
        groups: their number.
        samples: number of resamples.
        seed: two calls with one seed and one number of groups draw the same groups, so
            differences between two systems are paired.

    Returns:
        `value`, `low` and `high`; each is NaN where the statistic never has a value.
    """
    rng = np.random.default_rng(seed)
    values = []
    for start in range(0, samples, RESAMPLES_AT_ONCE):
        weights = np.empty((min(RESAMPLES_AT_ONCE, samples - start), groups))
        for row in weights:
            row[:] = np.bincount(rng.integers(groups, size=groups), minlength=groups)
        values.append(statistic(weights))
    values = np.concatenate(values)
    # A resample of few groups may have nothing to count.
    values = values[~np.isnan(values)]
    low, high = np.percentile(values, [2.5, 97.5]) if len(values) else (np.nan, np.nan)
    return {
        "value": float(statistic(np.ones((1, groups)))[0]),
        "low": float(low),
        "high": float(high),
    }


def compare(
    statistics: Mapping[str, Statistic],
    differences: Mapping[str, tuple[str, str]],
    groups: int,
    samples: int,
    seed: int,
) -> dict[str, dict[str, float]]:
    """Several systems by one measure, each with its interval, and paired differences.

    Args:
        statistics: of each system, as for `bootstrap`.
        differences: name -> (system, system to subtract), where both are there.
        groups: as for `bootstrap`.
        samples: likewise.
        seed: likewise.
    """
    scores = {
        system: bootstrap(statistic, groups, samples, seed)
        for system, statistic in statistics.items()
    }
    for name, (one, other) in differences.items():
        if one in statistics and other in statistics:

            def difference(weights, one=statistics[one], other=statistics[other]):
                return one(weights) - other(weights)

            scores[name] = bootstrap(difference, groups, samples, seed)
    return scores


def of_sums(
    sums: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]
) -> Statistic:
    """A statistic of totals, for `bootstrap`.

    Args:
        sums: what is added up over groups, one row each, shape (groups, quantities).
        statistic: from totals, shape (…, quantities), to values, shape (…).
    """
    return lambda weights: statistic(weights @ sums)


def of_items(
    statistic: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    truth: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray,
) -> Statistic:
    """A statistic that needs each item, such as `roc_auc`, for `bootstrap`.

    Args:
        statistic: from truth, scores and weights of items, shape (resamples, items), to
            values, shape (resamples,).
        truth: of each item, shape (items,).
        scores: likewise.
        groups: number of each item's group, likewise.
    """
    at_once = max(_WEIGHTS_AT_ONCE // max(len(groups), 1), 1)

    def values(weights: np.ndarray) -> np.ndarray:
        starts = range(0, len(weights), at_once)
        return np.concatenate(
            [
                statistic(truth, scores, weights[start : start + at_once, groups])
                for start in starts
            ]
        )

    return values


def sum_by_group(groups: np.ndarray, count: int, *columns: np.ndarray) -> np.ndarray:
    """Totals of columns in each of `count` groups, shape (groups, columns)."""
    return np.column_stack(
        [np.bincount(groups, column, minlength=count) for column in columns]
    )


def mean(totals: np.ndarray) -> np.ndarray:
    """The second quantity for each of the first; from totals of the two."""
    count, amount = np.moveaxis(totals, -1, 0)
    return _ratio(amount, count)


# ------------------------------------------------- two classes: counts and rankings

OUTCOMES = ("tp", "fp", "fn", "tn")


def outcomes(
    positive: np.ndarray, predicted: np.ndarray, groups: np.ndarray, count: int
) -> np.ndarray:
    """True and false positives, false and true negatives in each group.

    Args:
        positive: whether an item is of the class in question, bool, shape (items,).
        predicted: whether it was said to be, likewise.
        groups: number of each item's group, shape (items,).
        count: number of groups.

    Returns:
        In the order of `OUTCOMES`, shape (groups, 4).
    """
    return sum_by_group(
        groups,
        count,
        positive & predicted,
        ~positive & predicted,
        positive & ~predicted,
        ~positive & ~predicted,
    )


def precision(totals: np.ndarray) -> np.ndarray:
    """Share of what was said to be positive that is; from totals of `OUTCOMES`."""
    tp, fp, _, _ = np.moveaxis(totals, -1, 0)
    return _ratio(tp, tp + fp)


def recall(totals: np.ndarray) -> np.ndarray:
    """Share of the positive that was found; from totals of `OUTCOMES`."""
    tp, _, fn, _ = np.moveaxis(totals, -1, 0)
    return _ratio(tp, tp + fn)


def f1(totals: np.ndarray) -> np.ndarray:
    """Harmonic mean of precision and recall; 0 where neither finds anything."""
    tp, fp, fn, _ = np.moveaxis(totals, -1, 0)
    return _ratio(2 * tp, 2 * tp + fp + fn)


def accuracy(totals: np.ndarray) -> np.ndarray:
    """Share of right answers; from totals of `OUTCOMES`."""
    tp, _, _, tn = np.moveaxis(totals, -1, 0)
    return _ratio(tp + tn, totals.sum(axis=-1))


def precision_at(prevalence: float) -> Callable[[np.ndarray], np.ndarray]:
    """Precision where a share `prevalence` is positive, whatever it is in the test.

    Recall and the rate of false alarms do not depend on it (Bayes' theorem).
    """

    def statistic(totals: np.ndarray) -> np.ndarray:
        tp, fp, fn, tn = np.moveaxis(totals, -1, 0)
        hits = prevalence * _ratio(tp, tp + fn)
        return _ratio(hits, hits + (1 - prevalence) * _ratio(fp, fp + tn))

    return statistic


def other_class(totals: np.ndarray) -> np.ndarray:
    """The outcomes as they are for the other of two classes."""
    return totals[..., ::-1]


def roc_auc(
    positive: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Chance that a positive item has a higher score than a negative one.

    The same as scikit-learn's `roc_auc_score`, for many rows of weights at once.

    Args:
        positive: bool, shape (items,).
        scores: higher for what is likelier positive, shape (items,).
        weights: how often each item counts, shape (resamples, items).

    Returns:
        Shape (resamples,); NaN where a class is not there.
    """
    hits, alarms = _by_score(positive, scores, weights)
    above = hits.cumsum(axis=-1) - hits / 2
    return _ratio((alarms * above).sum(-1), alarms.sum(-1) * hits.sum(-1))


def of_roc_auc(
    positive: np.ndarray, scores: np.ndarray, groups: np.ndarray, count: int
) -> Statistic:
    """`roc_auc` for `bootstrap`: of many groups, what is of first order in the weights.

    That is its Hájek projection: each item counts by where it stands among those of the
    other class (DeLong et al., 1988). With all weights alike the value is the same, and
    a resample takes the time of a sum over groups, not over items.

    Args:
        positive: of each item, bool, shape (items,).
        scores: higher for what is likelier positive, likewise.
        groups: number of each item's group, likewise.
        count: of groups.
    """
    if count < _MANY_GROUPS:
        return of_items(roc_auc, positive, scores, groups)
    own, others = scores[positive], scores[~positive]
    standing = np.empty(len(scores))
    standing[positive] = _share_below(own, others)
    standing[~positive] = 1 - _share_below(others, own)
    whole = standing[positive].mean() if positive.any() else np.nan

    def first_order(totals: np.ndarray) -> np.ndarray:
        of_own, number, of_others, other_number = np.moveaxis(totals, -1, 0)
        return _ratio(of_own, number) + _ratio(of_others, other_number) - whole

    sums = [
        sum_by_group(groups[chosen], count, standing[chosen], np.ones(chosen.sum()))
        for chosen in (positive, ~positive)
    ]
    return of_sums(np.hstack(sums), first_order)


def _share_below(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """For each score the share of the others that are lower; ties count half."""
    ordered = np.sort(others)
    places = (np.searchsorted(ordered, scores, side) for side in ("left", "right"))
    return _ratio(sum(places), 2 * len(ordered))


def average_precision(
    positive: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Precision at each score, weighted by the recall that is gained there.

    The same as scikit-learn's `average_precision_score`, for many rows of weights at
    once; arguments and result as of `roc_auc`.
    """
    hits, alarms = _by_score(positive, scores, weights)
    found, said = hits.cumsum(axis=-1), (hits + alarms).cumsum(axis=-1)
    gained = hits * np.divide(found, said, out=np.zeros_like(found), where=said > 0)
    return _ratio(gained.sum(-1), hits.sum(-1))


def best_threshold(positive: np.ndarray, scores: np.ndarray, statistic) -> float:
    """The threshold from which items count as positive with the best statistic.

    Halfway between the scores on its two sides; the middle one where several are as
    good.

    Args:
        positive: bool, shape (items,).
        scores: shape (items,).
        statistic: from totals of `OUTCOMES`, such as `f1`.
    """
    hits, alarms = (
        column[0].cumsum()
        for column in _by_score(positive, scores, np.ones((1, len(scores))))
    )
    totals = np.column_stack([hits, alarms, hits[-1] - hits, alarms[-1] - alarms])
    values = np.nan_to_num(statistic(totals), nan=-1)
    best = np.flatnonzero(values == values.max())
    place = best[len(best) // 2]
    distinct = np.unique(scores)[::-1]
    return float(distinct[place : place + 2].mean())


def spread(by_seed: Sequence[dict]) -> dict:
    """Mean, standard deviation, least and greatest of scores over several seeds.

    Args:
        by_seed: for each seed `scores`: group -> measure -> value.

    Returns:
        group -> measure -> those four; empty for less than two seeds.
    """
    if len(by_seed) < 2:
        return {}
    return {
        group: {
            measure: _describe([row["scores"][group][measure] for row in by_seed])
            for measure in measures
        }
        for group, measures in by_seed[0]["scores"].items()
    }


def _describe(values: list[float]) -> dict[str, float]:
    return {
        "mean": float(np.mean(values)),
        "standard_deviation": float(np.std(values, ddof=1)),
        "least": float(np.min(values)),
        "greatest": float(np.max(values)),
    }


def _by_score(
    positive: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weights of positive and negative items at each distinct score, highest first,
    both of shape (resamples, distinct scores)."""
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.inf))
    weights = weights[:, order]
    return tuple(
        np.add.reduceat(weights * chosen[order], starts, axis=-1)
        for chosen in (positive, ~positive)
    )


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Their quotient, NaN where the denominator is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.true_divide(numerator, denominator)
