"""The interval of the ROC AUC of many adverts: time of a resample, and what differs.

    python benchmarks/intervals.py [--adverts 82858] [--pairs 42]

Peer: the ROC AUC of each resample in full. Invented scores, where pairs of an advert
have something in common.
"""

import argparse
import time

import numpy as np
from results import report

from ojd_daps_language_models.training.metrics import (
    bootstrap,
    of_items,
    of_roc_auc,
    roc_auc,
)

RESAMPLES = 1000  # of an interval, as the sample's configuration has it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--adverts", type=int, default=82_858, help="4,096 at least")
    parser.add_argument("--pairs", type=int, default=42, help="of each")
    parser.add_argument("--samples", type=int, default=16, help="per repetition")
    parser.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args()
    count, samples = arguments.adverts, arguments.samples

    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(count), arguments.pairs)
    positive = rng.random(len(groups)) < 0.5
    scores = rng.normal(positive) + rng.normal(size=count)[groups]
    start = time.perf_counter()
    ours = of_roc_auc(positive, scores, groups, count)
    before = time.perf_counter() - start
    full = of_items(roc_auc, positive, scores, groups)
    ratios, differences = [], []
    for seed in range(arguments.repetitions):
        seconds, found = [], []
        for statistic in (ours, full):
            start = time.perf_counter()
            found.append(bootstrap(statistic, count, samples, seed))
            seconds.append(time.perf_counter() - start)
        # Beside the resamples each is reckoned once for the value itself.
        own, other = ((RESAMPLES + 1) / (samples + 1) * spent for spent in seconds)
        ratios.append(other / (before + own))
        differences += [abs(found[0][key] - found[1][key]) for key in found[0]]
    report(
        f"{RESAMPLES:,} resamples of the ROC AUC, {len(groups):,} pairs of {count:,} "
        "adverts",
        "each resample in full",
        ratios,
        f"{before + own:.1f} s, of which {before:.1f} once, against {other:.0f}, as "
        f"{samples} of each tell; value and limits differ by {max(differences):.1g} at "
        "most",
    )


if __name__ == "__main__":
    main()
