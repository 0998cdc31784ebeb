"""Pairs of sentences, put together of the tokens of sentences when they are read.

A sentence of an advert is in up to four pairs. Its tokens are made and kept once.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ojd_daps_language_models.preprocessing.packing import (
    Inputs,
    Tokens,
    load_tokenizer,
)

_AT_ONCE = 2**20  # pairs whose lengths are reckoned


class PairTemplate(NamedTuple):
    """What a tokenizer puts around the two sentences of a pair.

    before, between, after: numbers of its special tokens.
    tells_apart: whether tokens of the second sentence have a type of their own.
    """

    before: list[int]
    between: list[int]
    after: list[int]
    tells_apart: bool


def pair_template(tokenizer) -> PairTemplate:
    """The template of a tokenizer of `preprocessing.packing.load_tokenizer`."""
    pair = tokenizer.encode("one", "two")
    of = [-1 if sentence is None else sentence for sentence in pair.sequence_ids]
    first, second = (np.flatnonzero(np.equal(of, sentence)) for sentence in (0, 1))
    return PairTemplate(
        pair.ids[: first[0]],
        pair.ids[first[-1] + 1 : second[0]],
        pair.ids[second[-1] + 1 :],
        pair.type_ids[second[0]] != 0,
    )


class SentencePairs:
    """Pairs of tokenized sentences, as their model's tokenizer would make them.

    Args:
        sentences: tokens of all sentences, without special ones.
        first: number of the first sentence of each pair, shape (pairs,).
        second: likewise.
        template: of the tokenizer.
        max_length: tokens of a pair; the longer sentence is cut first.
    """

    def __init__(
        self,
        sentences: Tokens,
        first: np.ndarray,
        second: np.ndarray,
        template: PairTemplate,
        max_length: int,
    ):
        self._ids, self._lengths = sentences
        starts = np.cumsum(self._lengths, dtype=np.int64) - self._lengths
        self._starts = starts.astype(np.min_scalar_type(starts.max(initial=0)))
        self._first, self._second = first, second
        special = [np.array(ids, np.int64) for ids in template[:3]]
        self._before, self._between, self._after = special
        added = sum(map(len, special))
        self._room = max_length - added
        count, small = len(first), np.min_scalar_type(max_length)
        lengths, first_lengths = np.empty(count, small), np.empty(count, small)
        truncated = np.empty(count, bool)
        for start in range(0, count, _AT_ONCE):
            pairs = slice(start, start + _AT_ONCE)
            of, kept = self._cut(pairs)
            truncated[pairs] = (kept < self._lengths[of]).any(axis=0)
            lengths[pairs] = kept.sum(axis=0) + added
            first_lengths[pairs] = kept[0] + len(self._before) + len(self._between)
        if not template.tells_apart:
            first_lengths = lengths
        self.inputs = Inputs(self._ids, lengths, first_lengths, truncated)

    def tokens(self, pairs: Sequence[int]) -> np.ndarray:
        """Tokens of some pairs, one after the other."""
        of, kept = self._cut(np.asarray(pairs))
        starts = self._starts[of].astype(np.int64)
        pieces = []
        for (one, other), (one_end, other_end) in zip(
            starts.T.tolist(), (starts + kept).T.tolist(), strict=True
        ):
            first, second = self._ids[one:one_end], self._ids[other:other_end]
            pieces += [self._before, first, self._between, second, self._after]
        return np.concatenate(pieces)

    def arrays(self) -> list[np.ndarray]:
        """All that they are made of but `inputs`."""
        return [self._first, self._second, self._before, self._between, self._after]

    def _cut(self, pairs: np.ndarray | slice) -> tuple[np.ndarray, np.ndarray]:
        """Sentences of some pairs, and what is left of their lengths, (2, pairs)."""
        of = np.stack([self._first[pairs], self._second[pairs]])
        return of, np.stack(cut_longer(*self._lengths[of], self._room))


def join_pairs(
    sentences: Tokens, pairs: pd.DataFrame, checkpoint: Path, max_length: int
) -> SentencePairs:
    """Pairs of tokenized sentences, for the model of a checkpoint.

    Args:
        sentences: see `SentencePairs`.
        pairs: columns first and second.
        checkpoint: folder with a `tokenizer.json`.
        max_length: see `SentencePairs`.
    """
    first, second = (pairs[name].to_numpy() for name in ("first", "second"))
    template = pair_template(load_tokenizer(checkpoint))
    return SentencePairs(sentences, first, second, template, max_length)


def cut_longer(
    first: np.ndarray, second: np.ndarray, room: int
) -> tuple[np.ndarray, np.ndarray]:
    """What is left of the lengths of two sentences that share so much room.

    As tokenizers cuts pairs with `longest_first`: the longer one, and where both are
    longer than half of the room, each to half; the longer one has what is odd.
    """
    shorter = np.minimum(first, second)
    longer = np.minimum(np.maximum(first, second), np.maximum(shorter, room - shorter))
    both = shorter + longer > room
    shorter = np.where(both, room // 2, shorter)
    longer = np.where(both, room - room // 2, longer)
    first_is_longer = first > second
    return (
        np.where(first_is_longer, longer, shorter),
        np.where(first_is_longer, shorter, longer),
    )
