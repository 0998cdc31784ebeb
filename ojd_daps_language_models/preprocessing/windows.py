"""Texts as windows that a model can read, such that every word is judged in one.

A text that is longer than the model reads is cut into windows that overlap. Of two
windows the one that shows more around a word decides on it, in training as in use.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np


class Windows(NamedTuple):
    """Tokens of the windows of all texts, one after the other.

    ids: token numbers, special tokens included, shape (tokens,), the smallest unsigned
        type.
    lengths: tokens of each window, shape (windows,).
    words: the word, counted over all texts, that a token is of, int32, shape (tokens,);
        -1 for special tokens, and for words that another window decides on.
    word_counts: words of each text, shape (texts,).
    token_counts: tokens of each text without special ones, shape (texts,).
    words_read: words of each text that a plain truncation would leave, shape (texts,).
    """

    ids: np.ndarray
    lengths: np.ndarray
    words: np.ndarray
    word_counts: np.ndarray
    token_counts: np.ndarray
    words_read: np.ndarray


def encode_windows(
    texts: Iterable[str],
    words: Iterable[Sequence[tuple[int, int]]],
    tokenizer,
    max_length: int,
    overlap: int,
    batch_size: int = 256,
) -> Windows:
    """Tokenize texts, and cut those that are too long into windows.

    A window ends between two words, but where a single word is longer.

    Args:
        texts: whole adverts or sentences.
        words: offsets of the words of each, in characters.
        tokenizer: from `packing.load_tokenizer`.
        max_length: tokens of a window.
        overlap: tokens that two neighbours share, about.
    """
    before, after = _special_tokens(tokenizer)
    room = max_length - len(before) - len(after)
    dtype = np.min_scalar_type(tokenizer.get_vocab_size())
    ids, owners, lengths, counts = [np.empty(0, dtype)], [np.empty(0, np.int32)], [], []
    total = 0
    pairs = zip(texts, words, strict=True)
    while batch := list(itertools.islice(pairs, batch_size)):
        encoded = tokenizer.encode_batch(
            [text for text, _ in batch], add_special_tokens=False
        )
        for encoding, (_, places) in zip(encoded, batch, strict=True):
            numbers = _words_of(encoding.offsets, places)
            tokens = np.array(encoding.ids, dtype)
            read = numbers[:room].max(initial=-1) + 1
            if len(tokens) > room and numbers[room] == numbers[room - 1] >= 0:
                read -= 1  # its word is cut in two
            counts.append((len(places), len(tokens), read))
            for start, stop, first, last in _cut(numbers, room, overlap):
                ids += [before, tokens[start:stop], after]
                own = numbers[start:stop]
                own = np.where((own >= first) & (own < last), own + total, -1)
                outside = np.full(len(before), -1), np.full(len(after), -1)
                owners += [outside[0], own, outside[1]]
                lengths.append(stop - start + len(before) + len(after))
            total += len(places)
    counts = np.array(counts, np.int64).reshape(-1, 3)
    return Windows(
        np.concatenate([part.astype(dtype) for part in ids]),
        np.array(lengths, np.int32),
        np.concatenate(owners).astype(np.int32),
        *counts.T,
    )


def first_tokens(words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of the first token of each word, and their words.

    Args:
        words: of `Windows`.
    """
    begins = (words >= 0) & (words != np.concatenate([[-1], words[:-1]]))
    places = np.flatnonzero(begins)
    return places, words[places]


def _special_tokens(tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """What the tokenizer puts before and after a text."""
    encoding = tokenizer.encode("a")
    mask = encoding.special_tokens_mask
    start = mask.index(0)
    stop = len(mask) - mask[::-1].index(0)
    dtype = np.int64
    return (
        np.array(encoding.ids[:start], dtype),
        np.array(encoding.ids[stop:], dtype),
    )


def _words_of(
    offsets: Sequence[tuple[int, int]], words: Sequence[tuple[int, int]]
) -> np.ndarray:
    """The word of each token, by its last character; -1 where there is none.

    The first character may be the blank before the word.
    """
    if not words or not offsets:
        return np.full(len(offsets), -1)
    starts, ends = np.array(words).T
    last = np.array(offsets)[:, 1] - 1
    numbers = np.searchsorted(starts, last, side="right") - 1
    return np.where((numbers >= 0) & (last < ends[numbers]), numbers, -1)


def _cut(
    numbers: np.ndarray, room: int, overlap: int
) -> list[tuple[int, int, int, int]]:
    """Windows of a text: first token, token after the last, and the words they own.

    Args:
        numbers: the word of each token.
        room: tokens of a window.
        overlap: tokens that two neighbours share, about.
    """
    count = len(numbers)
    words = int(numbers.max(initial=-1)) + 1
    bounds = []
    start = 0
    while True:
        stop = min(start + room, count)
        if stop < count:
            stop = _word_start(numbers, start, stop)
        bounds.append((start, stop))
        if stop == count:
            break
        start = max(_word_start(numbers, start, stop - overlap), start + 1)
    # Halfway through what two windows share, the word belongs to the next one.
    firsts = [0]
    for (_, stop), (start, _) in itertools.pairwise(bounds):
        middle = numbers[(start + stop) // 2 :]
        firsts.append(int(middle[middle >= 0][0]) if (middle >= 0).any() else words)
    return [
        (start, stop, first, last)
        for (start, stop), first, last in zip(
            bounds, firsts, [*firsts[1:], words], strict=True
        )
    ]


def _word_start(numbers: np.ndarray, start: int, place: int) -> int:
    """The last place at or before `place` where a word begins, else `place`."""
    for at in range(place, start, -1):
        if numbers[at] < 0 or numbers[at] != numbers[at - 1]:
            return at
    return place
