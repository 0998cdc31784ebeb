"""Floors: what a score is worth without any model."""

import numpy as np


def unigram_scores(
    labels: np.ndarray, token_counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Guess every hidden token from its frequency alone.

    Args:
        labels: hidden tokens, shape (hidden,).
        token_counts: occurrences in the training part, shape (vocabulary,); one is
            added to each (Laplace).

    Returns:
        losses in nats and ranks of the right token from 0, both of shape (hidden,).
    """
    frequencies = (token_counts + 1) / (token_counts + 1).sum()
    by_frequency = np.argsort(-frequencies, kind="stable")
    ranks = np.empty_like(by_frequency)
    ranks[by_frequency] = np.arange(len(ranks))
    return -np.log(frequencies[labels]), ranks[labels]
