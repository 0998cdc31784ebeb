"""How much of the held-out adverts a model has already seen in training."""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

import numpy as np

from ojd_daps_language_models.preprocessing.duplicates import (
    exact_fingerprints,
    fingerprint,
    has_near_duplicate,
)

_AT_ONCE = 50_000  # training adverts
MIN_WORDS = 5  # shorter sentences, such as headings, are not looked for
_MEANING = {
    "verbatim": "of the held-out sentences stand word for word in training",
    "near": "of the held-out adverts have a near duplicate in training",
}


def measure_overlap(
    train: Iterable[Sequence[str]],
    held_out: Mapping[str, Iterable[Sequence[str]]],
    threshold: float = 0.8,
    min_words: int = MIN_WORDS,
) -> dict[str, dict[str, float | int]]:
    """Count what of each held-out part stands in the training adverts.

    Sentences are kept as 64-bit hashes, adverts as signatures, so either part can be a
    generator; of training adverts some at a time, so that millions take little memory.

    Args:
        train: the sentences of each training advert.
        held_out: for each part, the sentences of each of its adverts.
        threshold: Jaccard similarity from which two adverts are near duplicates.
        min_words: shorter sentences, such as headings, are not looked for.

    Returns:
        For each part `verbatim`: share of its sentences that stand in `train`, whatever
        their case and punctuation; `near`: share of its adverts with a near duplicate
        there; counts: `sentences` (those looked for), `verbatim_sentences`, `adverts`,
        `adverts_with_verbatim`, `adverts_with_near`.
    """
    sought = {name: _fingerprints(own, min_words) for name, own in held_out.items()}
    found = {
        name: (np.zeros(len(sentences), bool), np.zeros(len(signatures), bool))
        for name, (sentences, _, signatures) in sought.items()
    }
    train = iter(train)
    while some := list(islice(train, _AT_ONCE)):
        train_sentences, _, train_signatures = _fingerprints(some, min_words)
        train_sentences = np.unique(train_sentences)
        for name, (sentences, _, signatures) in sought.items():
            verbatim, near = found[name]
            verbatim |= np.isin(sentences, train_sentences)
            near |= has_near_duplicate(signatures, train_signatures, threshold)
    return {
        name: describe_overlap(numbers, *found[name])
        for name, (_, numbers, _) in sought.items()
    }


def describe_overlap(
    numbers: np.ndarray, verbatim: np.ndarray, near: np.ndarray
) -> dict[str, float | int]:
    """What `measure_overlap` says of a held-out part.

    Args:
        numbers: of the advert that each sentence is from, shape (sentences,).
        verbatim: whether each sentence stands in training, shape (sentences,).
        near: whether each advert has a near duplicate there, shape (adverts,).
    """
    return {
        "verbatim": float(verbatim.mean()) if len(verbatim) else 0.0,
        "near": float(near.mean()) if len(near) else 0.0,
        "sentences": len(verbatim),
        "verbatim_sentences": int(verbatim.sum()),
        "adverts": len(near),
        "adverts_with_verbatim": len(np.unique(numbers[verbatim])),
        "adverts_with_near": int(near.sum()),
    }


def check_overlap(
    report: Mapping[str, float], limits: Mapping[str, float], part: str = "test"
) -> None:
    """Refuse a held-out part that stands in training beyond a limit.

    Args:
        report: from `measure_overlap`.
        limits: largest share, 0 to 1, of `verbatim`, of `near` or of both.
        part: its name, for the message.

    Raises:
        ValueError: a share is above its limit.
    """
    above = [
        f"{report[name]:.1%} {_MEANING[name]}, and the limit is {limit:.1%}"
        for name, limit in limits.items()
        if report[name] > limit
    ]
    if above:
        raise ValueError(
            f"{part}: {'; '.join(above)}. Scores would flatter the model: split by "
            "employer where they are known, or, if the overlap is meant to be there, "
            "raise the limit, split.max_verbatim_overlap or split.max_near_overlap"
        )


def _fingerprints(
    adverts: Iterable[Sequence[str]], min_words: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hashes of the longer sentences, the adverts they are from, and signatures."""
    hashes, numbers = array("q"), array("q")

    def texts() -> Iterator[str]:
        for number, sentences in enumerate(adverts):
            hashes.extend(exact_fingerprints(sentences, min_words).tolist())
            numbers.extend([number] * len(sentences))
            yield "\n".join(sentences)

    _, signatures = fingerprint(texts())
    long = np.array(hashes, np.int64) >= 0
    return np.array(hashes)[long], np.array(numbers)[long], signatures
