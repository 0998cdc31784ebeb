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
        self._ids = sentences.ids
        ends = np.cumsum(sentences.lengths, dtype=np.int64)
        self._starts = ends - sentences.lengths
        self._of = np.stack([first, second])
        special = [np.array(ids, np.int64) for ids in template[:3]]
        self._before, self._between, self._after = special
        whole = sentences.lengths[self._of]
        added = sum(map(len, special))
        self._kept = np.stack(cut_longer(*whole, max_length - added))
        lengths = self._kept.sum(axis=0, dtype=np.int32) + added
        first_lengths = self._kept[0] + len(self._before) + len(self._between)
        self.inputs = Inputs(
            self._ids,
            lengths,
            first_lengths if template.tells_apart else lengths,
            (self._kept < whole).any(axis=0),
        )

    def tokens(self, pairs: Sequence[int]) -> np.ndarray:
        """Tokens of some pairs, one after the other."""
        return np.concatenate([piece for pair in pairs for piece in self._pieces(pair)])

    def arrays(self) -> list[np.ndarray]:
        """All that they are made of but `inputs`."""
        return [self._of, self._before, self._between, self._after]

    def _pieces(self, pair: int) -> tuple[np.ndarray, ...]:
        starts = self._starts[self._of[:, pair]]
        first, second = (
            self._ids[start : start + kept]
            for start, kept in zip(starts, self._kept[:, pair], strict=True)
        )
        return self._before, first, self._between, second, self._after


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
