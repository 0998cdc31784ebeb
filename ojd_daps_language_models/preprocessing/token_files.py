"""Tokens of adverts in files, from which a training maps them: of millions of adverts
only what is being read then is in memory."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from ojd_daps_language_models.preprocessing.packing import (
    Tokens,
    encode,
    encode_batches,
)
from ojd_daps_language_models.stores import Store

REMEDY = "`resume tokenize`, not `resume`, writes them again"


def encode_to_file(
    texts: Iterable[str],
    tokenizer,
    store: Store | None,
    name: str,
    special_tokens: bool = True,
) -> dict[str, Any]:
    """Tokenize as `encode` does, and write the numbers of the tokens as they come.

    Args:
        store: where a run keeps its files; None: all stays in memory.
        name: of the file.

    Returns:
        What `open_tokens` asks for: `file`, the name; `dtype`, of a number in it; and
        `lengths`, as in `Tokens`. Without a store, the fields of `Tokens`.
    """
    if store is None:
        return encode(texts, tokenizer, special_tokens=special_tokens)._asdict()
    lengths = []
    with store.writing(name) as path, path.open("wb") as file:
        for batch in encode_batches(texts, tokenizer, special_tokens=special_tokens):
            file.write(batch.ids)
            lengths.append(batch.lengths)
    return {
        "file": name,
        "dtype": batch.ids.dtype.str,
        "lengths": np.concatenate(lengths),
    }


@contextmanager
def open_tokens(
    tokens: Mapping[str, dict], store: Store | None
) -> Iterator[dict[str, dict]]:
    """Tokens of parts whose files, if they have any, are on this disk meanwhile.

    Args:
        tokens: of each part the fields of `Tokens`, or what `encode_to_file` returned.
        store: where the files are.

    Yields:
        For each part what `read_tokens` asks for, also in another process.

    Raises:
        FileNotFoundError: a file is gone.
    """
    with ExitStack() as stack:
        opened = dict(tokens)
        for part, fields in tokens.items():
            if "ids" in fields:
                continue
            try:
                path = stack.enter_context(store.read(fields["file"]))
            except FileNotFoundError as error:
                raise FileNotFoundError(f"{error}; {REMEDY}") from None
            opened[part] = fields | {"path": path}
        yield opened


def read_tokens(fields: Mapping) -> Tokens:
    """Tokens of one part, whose numbers are mapped where they are in a file.

    Args:
        fields: of `open_tokens`.

    Raises:
        ValueError: the file is not as long as it was written.
    """
    if "ids" in fields:
        return Tokens(**fields)
    path, dtype, lengths = (fields[name] for name in ("path", "dtype", "lengths"))
    count = int(lengths.sum())
    size, expected = path.stat().st_size, count * np.dtype(dtype).itemsize
    if size != expected:
        raise ValueError(
            f"{fields['file']}: {size:,} bytes of tokens, and {expected:,} were "
            f"written; {REMEDY}"
        )
    if not count:  # nothing can be mapped
        return Tokens(np.empty(0, dtype), lengths)
    return Tokens(np.memmap(path, dtype, "r"), lengths)
