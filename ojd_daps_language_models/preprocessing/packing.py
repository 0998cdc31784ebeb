"""Tokens of many adverts as a few flat arrays, and blocks of them for a model.

The tokenizers library is called directly: its `encode_batch_fast` keeps no offsets, and
nothing here needs torch.
"""

import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Tokens(NamedTuple):
    """Tokens of adverts, one after the other.

    ids: token numbers of all adverts, shape (tokens,), the smallest unsigned type.
    lengths: tokens of each advert, special tokens included, shape (adverts,).
    """

    ids: np.ndarray
    lengths: np.ndarray


class Inputs(NamedTuple):
    """Tokens of sentences or pairs of them, one after the other.

    ids: token numbers, shape (tokens,), the smallest unsigned type.
    lengths: tokens of each, special tokens included, shape (inputs,).
    first_lengths: how many of them are of type 0, the first sentence of a pair, as the
        model's tokenizer tells them apart; shape (inputs,).
    truncated: whether it was longer than the model reads, bool, shape (inputs,).
    """

    ids: np.ndarray
    lengths: np.ndarray
    first_lengths: np.ndarray
    truncated: np.ndarray


class Blocks(NamedTuple):
    """Tokens cut into rows of one width.

    ids: shape (blocks, width); the last block is filled up with padding.
    adverts: which advert a token belongs to, -1 for padding, shape (blocks, width).
    """

    ids: np.ndarray
    adverts: np.ndarray


def load_tokenizer(folder: Path):
    """The fast tokenizer of a checkpoint folder, without truncation or padding."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def encode(texts: Iterable[str], tokenizer, batch_size: int = 1000) -> Tokens:
    """Tokenize whole adverts, each with the special tokens of its model."""
    dtype = np.min_scalar_type(tokenizer.get_vocab_size())
    ids, lengths = [], []
    texts = iter(texts)
    while batch := list(itertools.islice(texts, batch_size)):
        encoded = [encoding.ids for encoding in tokenizer.encode_batch_fast(batch)]
        lengths.extend(map(len, encoded))
        ids.append(np.fromiter(itertools.chain.from_iterable(encoded), dtype))
    return Tokens(
        np.concatenate(ids) if ids else np.empty(0, dtype),
        np.array(lengths, dtype=np.int32),
    )


def encode_inputs(
    texts: Iterable[str] | Iterable[tuple[str, str]],
    tokenizer,
    max_length: int,
    batch_size: int = 1000,
) -> Inputs:
    """Tokenize sentences, or pairs of them, as inputs of a model.

    Args:
        texts: sentences or pairs.
        tokenizer: from `load_tokenizer`.
        max_length: tokens of an input; of a pair, the longer sentence is cut first.
    """
    tokenizer.enable_truncation(max_length)
    dtype = np.min_scalar_type(tokenizer.get_vocab_size())
    ids = [np.empty(0, dtype)]
    rows = []
    texts = iter(texts)
    while batch := list(itertools.islice(texts, batch_size)):
        encoded = tokenizer.encode_batch_fast(batch)
        flat = itertools.chain.from_iterable(encoding.ids for encoding in encoded)
        ids.append(np.fromiter(flat, dtype))
        rows += [
            (len(encoding), encoding.type_ids.count(0), bool(encoding.overflowing))
            for encoding in encoded
        ]
    lengths, first_lengths, truncated = np.array(rows, np.int32).reshape(-1, 3).T
    return Inputs(np.concatenate(ids), lengths, first_lengths, truncated.astype(bool))


def count_truncated(inputs: dict[str, dict]) -> dict[str, int]:
    """How many inputs of each part were longer than the model reads.

    Args:
        inputs: for each part the fields of `Inputs`.
    """
    return {part: int(fields["truncated"].sum()) for part, fields in inputs.items()}


def pack(tokens: Tokens, width: int, padding: int, separate: bool = False) -> Blocks:
    """Cut the tokens of all adverts into blocks; no token is dropped.

    The adverts follow each other without gaps, and one that does not fit goes on in the
    next block. Which tokens may attend to which is for the model's mask to say, from
    `Blocks.adverts`. With `separate`, for models that take no such mask, each advert
    begins a block of its own.
    """
    starts = np.cumsum(tokens.lengths) - tokens.lengths
    places = starts
    if separate:
        rows = -(-tokens.lengths // width)
        places = (np.cumsum(rows) - rows) * width
    to = np.arange(len(tokens.ids)) + np.repeat(places - starts, tokens.lengths)
    size = -(-(to[-1] + 1) // width) * width if len(to) else 0
    ids = np.full(size, padding, tokens.ids.dtype)
    ids[to] = tokens.ids
    adverts = np.full(size, -1, np.int32)
    adverts[to] = np.repeat(
        np.arange(len(tokens.lengths), dtype=np.int32), tokens.lengths
    )
    return Blocks(ids.reshape(-1, width), adverts.reshape(-1, width))


def positions_in_advert(adverts: np.ndarray) -> np.ndarray:
    """Position of each token in its advert's stretch of the block, from 0.

    Args:
        adverts: shape (blocks, width), as in `Blocks`.
    """
    columns = np.arange(adverts.shape[1])
    starts = np.ones(adverts.shape, bool)
    starts[:, 1:] = adverts[:, 1:] != adverts[:, :-1]
    return columns - np.maximum.accumulate(np.where(starts, columns, 0), axis=1)


def word_starts(tokenizer) -> np.ndarray:
    """Which tokens of the vocabulary begin a word, shape (vocabulary,), bool.

    WordPiece marks the pieces that go on (`##ing`). Byte-level BPE and SentencePiece
    mark those that begin (`Ġjob`, `▁job`); there, what is no letter or digit, such as
    punctuation or a line break, begins a word unmarked.
    """
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    begins = np.ones(max(vocabulary.values()) + 1, bool)
    continues = json.loads(tokenizer.to_str())["model"].get("continuing_subword_prefix")
    for token, number in vocabulary.items():
        if continues:
            begins[number] = not token.startswith(continues)
        else:
            text = tokenizer.decode([number], skip_special_tokens=False)
            begins[number] = token[:1] in "Ġ▁" or not text[:1].isalnum()
    return begins


def words_apart(tokenizer) -> np.ndarray:
    """Which tokens are words of their own, so that the next one begins another.

    They have no letter or digit: punctuation, line breaks; but not the mark of a word's
    beginning alone. Shape (vocabulary,), bool.
    """
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    apart = np.zeros(max(vocabulary.values()) + 1, bool)
    for token, number in vocabulary.items():
        text = tokenizer.decode([number], skip_special_tokens=False)
        apart[number] = token.strip("Ġ▁") != "" and not any(map(str.isalnum, text))
    return apart
