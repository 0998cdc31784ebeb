"""Batches of pairs of texts, with what is known to be true of each other."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from scipy.sparse import csr_array

from ojd_daps_language_models.training.classification import BATCHES_SORTED, Sequences


class KnownTruths:
    """Which texts are known to be true of each other, and so are no negatives.

    Args:
        owners: columns text, skill: what each text speaks of.
        related: columns skill, other: skills whose texts are true of each other.
        texts: number of texts.
        skills: number of skills.
    """

    def __init__(
        self, owners: pd.DataFrame, related: pd.DataFrame, texts: int, skills: int
    ):
        own = np.arange(skills)
        one = np.concatenate([own, related["skill"]])
        other = np.concatenate([own, related["other"]])
        self._owners = _incidence(owners["text"], owners["skill"], (texts, skills))
        self._reached = self._owners @ _incidence(one, other, (skills, skills))

    def between(self, texts: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Bool, shape (texts, others)."""
        return (self._reached[texts] @ self._owners[others].T).toarray() > 0

    def arrays(self) -> list[np.ndarray]:
        """All that is known."""
        matrices = self._owners, self._reached
        return [a for known in matrices for a in (known.indptr, known.indices)]


class TextPairs(torch.utils.data.Dataset):
    """Training pairs in batches, each side padded as `Sequences` are.

    Args:
        texts: all texts.
        pairs: columns text, other (numbers of texts), score (missing: simply true).
        known: of the texts; not needed where pairs have scores.
    """

    def __init__(
        self, texts: Sequences, pairs: pd.DataFrame, known: KnownTruths | None
    ):
        self._texts, self._known = texts, known
        self._one = pairs["text"].to_numpy()
        self._other = pairs["other"].to_numpy()
        self._scores = pairs["score"].to_numpy(np.float32)

    def __len__(self) -> int:
        return len(self._one)

    def lengths(self) -> np.ndarray:
        """Tokens of both sides."""
        lengths = self._texts.inputs.lengths
        return lengths[self._one] + lengths[self._other]

    def arrays(self) -> list[np.ndarray]:
        """All that batches and their order are made of."""
        known = [] if self._known is None else self._known.arrays()
        return [*self._texts.arrays(), self._one, self._other, self._scores, *known]

    def __getitems__(self, rows: list[int]) -> dict:
        """`one` and `other`: inputs of the model; and `known`, of shape (batch, batch),
        or `scores`, of shape (batch,)."""
        one, other = self._one[rows], self._other[rows]
        batch = {
            name: features_of(self._texts, r)
            for name, r in (("one", one), ("other", other))
        }
        if self._known is None:
            return batch | {"scores": torch.from_numpy(self._scores[rows])}
        return batch | {"known": torch.from_numpy(self._known.between(one, other))}


class LengthBatches(torch.utils.data.Sampler):
    """Batches of like lengths, in random order.

    Args:
        lengths: tokens of each pair, shape (pairs,).
        batch_size: pairs.
    """

    def __init__(self, lengths: np.ndarray, batch_size: int):
        self._lengths, self._size = lengths, batch_size

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        # torch's generator: see `EpochOrder`
        order = torch.randperm(len(self._lengths)).numpy()
        stretch = self._size * BATCHES_SORTED
        batches = []
        for start in range(0, len(order), stretch):
            rows = order[start : start + stretch]
            rows = rows[np.argsort(-self._lengths[rows], kind="stable")]
            batches += np.split(rows, range(self._size, len(rows), self._size))
        # A short batch is the last one, lest it shift all that follow.
        short = [rows for rows in batches if len(rows) < self._size]
        full = [rows for rows in batches if len(rows) == self._size]
        for number in torch.randperm(len(full)).tolist():
            yield from full[number].tolist()
        for rows in short:
            yield from rows.tolist()


def features_of(texts: Sequences, rows: np.ndarray) -> dict[str, torch.Tensor]:
    """Inputs of a model, each of shape (rows, width)."""
    batch = texts.__getitems__(rows)
    del batch["labels"]
    return batch


def _incidence(rows, columns, shape: tuple[int, int]) -> csr_array:
    ones = np.ones(len(rows), np.float32)
    return csr_array((ones, (np.asarray(rows, int), np.asarray(columns, int))), shape)
