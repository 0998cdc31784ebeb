"""Which words of a block the model has to guess (Devlin et al., 2019)."""

from typing import NamedTuple

import numpy as np

from ojd_daps_language_models.preprocessing.packing import word_starts, words_apart


class Vocabulary(NamedTuple):
    """What masking needs to know of a tokenizer.

    word_starts: whether a token begins a word, shape (vocabulary,), bool.
    words_apart: whether it is a word of its own, such as a full stop; likewise.
    special: whether it is never masked, such as [CLS] and padding; likewise.
    mask: number of the mask token.
    """

    word_starts: np.ndarray
    words_apart: np.ndarray
    special: np.ndarray
    mask: int


class Masked(NamedTuple):
    """Blocks with words hidden.

    ids: what the model reads, shape (blocks, width).
    words: a number for each hidden word at the places of its tokens, counted from 0
        over all blocks; -1 elsewhere, shape (blocks, width).
    """

    ids: np.ndarray
    words: np.ndarray


def vocabulary_of(tokenizer) -> Vocabulary:
    """Read a transformers tokenizer with a fast backend.

    Raises:
        ValueError: it has no token to hide words by, or none for padding.
    """
    if tokenizer.mask_token_id is None or tokenizer.pad_token_id is None:
        raise ValueError("the tokenizer has no mask token or no padding token")
    backend = tokenizer.backend_tokenizer
    starts = word_starts(backend)
    special = np.zeros(len(starts), bool)
    special[tokenizer.all_special_ids] = True
    return Vocabulary(starts, words_apart(backend), special, tokenizer.mask_token_id)


def mask_words(
    ids: np.ndarray,
    vocabulary: Vocabulary,
    probability: float,
    whole_words: bool,
    rng: np.random.Generator,
) -> Masked:
    """Hide words: 80% of their tokens by the mask, 10% by random ones, 10% not at all.

    Each word is drawn on its own with `probability`; without `whole_words` each token
    counts as a word.

    Args:
        ids: token numbers, shape (blocks, width).
    """
    special = vocabulary.special[ids]
    begins = np.ones(ids.shape, bool)
    if whole_words:
        begins = vocabulary.word_starts[ids] | special
        begins[:, 0] = True  # a block that starts within a word
        begins[:, 1:] |= (special | vocabulary.words_apart[ids])[:, :-1]
    word = np.cumsum(begins).reshape(ids.shape) - 1
    drawn = rng.random(word[-1, -1] + 1 if ids.size else 0) < probability
    chosen = drawn[word] & ~special

    fate = rng.random(ids.shape)
    ordinary = np.flatnonzero(~vocabulary.special)
    read = np.where(chosen & (fate < 0.8), vocabulary.mask, ids)
    random = ordinary[rng.integers(len(ordinary), size=ids.shape)]
    read = np.where(chosen & (fate >= 0.9), random, read)

    words = np.full(ids.shape, -1, np.int64)
    words[chosen] = np.unique(word[chosen], return_inverse=True)[1]
    return Masked(read.astype(np.int64), words)
