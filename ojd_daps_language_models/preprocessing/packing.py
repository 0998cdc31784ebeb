"""Tokens of many adverts as a few flat arrays, and blocks of them for a model.

The tokenizers library is called directly: its `encode_batch_fast` keeps no offsets, and
nothing here needs torch.
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

_COUNTED = 2**22  # tokens at a time: to count them takes eight bytes each


class Tokens(NamedTuple):
    """Tokens of adverts or their sentences, one after the other.

    ids: token numbers of all texts, shape (tokens,), the smallest unsigned type.
    lengths: tokens of each text, special tokens included if it has them, (texts,).
    """

    ids: np.ndarray
    lengths: np.ndarray


class Inputs(NamedTuple):
    """Sentences, or pairs of them, as a model reads them.

    ids: token numbers, shape (tokens,), the smallest unsigned type; those of pairs are
        put together when a batch is, see `preprocessing.pair_tokens`.
    lengths: tokens of each, special tokens included, shape (inputs,).
    first_lengths: how many of them are of type 0, the first sentence of a pair, as the
        model's tokenizer tells them apart; shape (inputs,).
    truncated: whether it was longer than the model reads, bool, shape (inputs,).
    """

    ids: np.ndarray
    lengths: np.ndarray
    first_lengths: np.ndarray
    truncated: np.ndarray


class Rows(NamedTuple):
    """Blocks of tokens.

    ids: token numbers and padding, shape (blocks, width).
    adverts: which advert a token belongs to, -1 for padding, shape (blocks, width).
    """

    ids: np.ndarray
    adverts: np.ndarray


class Blocks:
    """Tokens in blocks of one width, which are cut when they are asked for: by a slice
    or by their numbers. So the tokens may be on disk, and are only there.

    Args:
        tokens: of all adverts.
        starts: the token that each block begins with, shape (blocks,).
        sizes: tokens in each block, padding not counted, shape (blocks,).
        width: of the blocks.
        padding: number of the token that fills them up.
    """

    def __init__(
        self,
        tokens: Tokens,
        starts: np.ndarray,
        sizes: np.ndarray,
        width: int,
        padding: int,
    ):
        self.tokens, self.starts, self.sizes = tokens, starts, sizes
        self._columns, self._padding = np.arange(width), padding
        self._ends = np.cumsum(tokens.lengths, dtype=np.int64)  # of adverts

    def __len__(self) -> int:
        return len(self.starts)

    def stretches(self) -> np.ndarray:
        """Tokens of each stretch of one advert in one block, in their order."""
        return np.diff(np.union1d(self.starts, self._ends))

    def __getitem__(self, rows: slice | Sequence[int]) -> Rows:
        real = self._columns < self.sizes[rows][:, None]
        places = (self.starts[rows][:, None] + self._columns)[real]
        ids = np.full(real.shape, self._padding, self.tokens.ids.dtype)
        ids[real] = self.tokens.ids[places]
        adverts = np.full(real.shape, -1, np.int32)
        adverts[real] = np.searchsorted(self._ends, places, side="right")
        return Rows(ids, adverts)


def load_tokenizer(folder: Path):
    """The fast tokenizer of a checkpoint folder, without truncation or padding."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def encode(
    texts: Iterable[str],
    tokenizer,
    batch_size: int = 1000,
    special_tokens: bool = True,
) -> Tokens:
    """Tokenize whole texts, each with the special tokens of its model or without."""
    ids, lengths = [], []
    for batch in encode_batches(texts, tokenizer, batch_size, special_tokens):
        ids.append(batch.ids)
        lengths.append(batch.lengths)
    return Tokens(np.concatenate(ids), np.concatenate(lengths))


def encode_batches(
    texts: Iterable[str],
    tokenizer,
    batch_size: int = 1000,
    special_tokens: bool = True,
) -> Iterator[Tokens]:
    """As `encode`, some texts at a time; at least once, perhaps with none."""
    dtype = np.min_scalar_type(tokenizer.get_vocab_size())
    texts = iter(texts)
    while True:
        batch = list(itertools.islice(texts, batch_size))
        found = tokenizer.encode_batch_fast(batch, add_special_tokens=special_tokens)
        encoded = [encoding.ids for encoding in found]
        yield Tokens(
            np.fromiter(itertools.chain.from_iterable(encoded), dtype),
            np.array(list(map(len, encoded)), np.int32),
        )
        if len(batch) < batch_size:
            return


def encode_inputs(texts: Iterable[str], tokenizer, max_length: int) -> Inputs:
    """Tokenize sentences as inputs of a model.

    Args:
        texts: sentences.
        tokenizer: from `load_tokenizer`.
        max_length: tokens of an input.
    """
    tokenizer.enable_truncation(max_length)
    dtype = np.min_scalar_type(tokenizer.get_vocab_size())
    ids = [np.empty(0, dtype)]
    rows = []
    texts = iter(texts)
    while batch := list(itertools.islice(texts, 1000)):
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


def count_tokens(ids: np.ndarray, size: int) -> np.ndarray:
    """Occurrences of each token number below `size`, shape (size,)."""
    counts = np.zeros(size, np.int64)
    for start in range(0, len(ids), _COUNTED):
        counts += np.bincount(ids[start : start + _COUNTED], minlength=size)
    return counts


def pack(tokens: Tokens, width: int, padding: int, separate: bool = False) -> Blocks:
    """Cut the tokens of all adverts into blocks; no token is dropped.

    The adverts follow each other without gaps, and one that does not fit goes on in the
    next block. Which tokens may attend to which is for the model's mask to say, from
    `Rows.adverts`. With `separate`, for models that take no such mask, each advert
    begins a block of its own.
    """
    lengths = np.asarray(tokens.lengths, np.int64)
    if not separate:
        lengths = lengths.sum(keepdims=True)
    rows = -(-lengths // width)
    # Of each stretch of tokens: how many blocks come before this one.
    earlier = np.arange(rows.sum()) - np.repeat(np.cumsum(rows) - rows, rows)
    starts = np.repeat(np.cumsum(lengths) - lengths, rows) + earlier * width
    sizes = np.minimum(np.repeat(lengths, rows) - earlier * width, width)
    return Blocks(tokens, starts, sizes, width, padding)


def padded_width(longest: int, most: int) -> int:
    """Tokens to pad a batch to: one of eight widths between each two powers of two, so
    that few shapes recur. oneDNN makes programs for each shape that it meets and keeps
    a thousand of them, a gigabyte in a long training.

    Args:
        longest: tokens of the longest input of the batch.
        most: tokens of the longest of all, which no batch exceeds.
    """
    step = 1 << max(int(longest).bit_length() - 4, 0)
    return min(-(-int(longest) // step) * step, int(most))


def positions_in_advert(adverts: np.ndarray) -> np.ndarray:
    """Position of each token in its advert's stretch of the block, from 0.

    Args:
        adverts: shape (blocks, width), as in `Rows`.
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
