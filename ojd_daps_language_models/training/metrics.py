"""Scores with their uncertainty."""

from collections.abc import Callable

import numpy as np


def bootstrap(
    sums: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    samples: int,
    seed: int,
) -> dict[str, float]:
    """A statistic with its 95% percentile interval (Efron & Tibshirani, 1993).

    Whole adverts are drawn with replacement: words of one advert are not independent.

    Args:
        sums: what is added up over adverts, one row each, shape (adverts, quantities).
        statistic: from totals, shape (…, quantities), to values, shape (…).
        samples: number of resamples.
        seed: two calls with one seed and one number of adverts draw the same adverts,
            so differences between two systems are paired.
    """
    rng = np.random.default_rng(seed)
    count = len(sums)
    totals = np.empty((samples, sums.shape[1]))
    for sample in range(samples):
        drawn = np.bincount(rng.integers(count, size=count), minlength=count)
        totals[sample] = drawn @ sums
    # A resample of few adverts may have nothing to count.
    low, high = np.nanpercentile(statistic(totals), [2.5, 97.5])
    return {
        "value": float(statistic(sums.sum(axis=0))),
        "low": float(low),
        "high": float(high),
    }
