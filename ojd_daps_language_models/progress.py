"""Progress that reads well in a log: a line every few seconds, no carriage returns."""

import sys
from collections.abc import Iterable

from tqdm import tqdm


class _Lines:
    """A stream that turns tqdm's redrawn bar into lines of their own."""

    def write(self, text: str) -> None:
        text = text.strip("\r\n ")
        if text:
            print(text, flush=True)

    def flush(self) -> None:
        sys.stdout.flush()


def progress_bar(
    label: str, unit: str, total: int | None = None, items: Iterable | None = None
) -> tqdm:
    """A bar around `items`, or one to be moved by hand with `update(n)`.

    What is done within five seconds shows none.
    """
    return tqdm(
        items,
        desc=label,
        unit=f" {unit}",
        total=total,
        file=_Lines(),
        delay=5,
        mininterval=5,
        ncols=88,
        ascii=" #",
    )
