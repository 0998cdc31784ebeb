"""Memory of a training on a processor: what a step frees, the next one needs again."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

# Parameters of glibc's mallopt, by their numbers in its malloc.h.
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
KEEP = {MMAP_MAX: 0, TRIM_THRESHOLD: -1}
# Where its own adaptation ends; once told anything, it no longer adapts.
GIVE_BACK = {MMAP_MAX: 65_536, MMAP_THRESHOLD: 2**25, TRIM_THRESHOLD: 2**26}


@contextmanager
def keeping_memory() -> Iterator[None]:
    """Let the process keep what it frees, to be given back at the end.

    glibc otherwise returns each large tensor to the system, which has to clear as many
    pages for the next one: a seventh of the time of a training step of a small encoder.
    Elsewhere, as on macOS, nothing changes.
    """
    glibc = ctypes.CDLL(None)
    if not hasattr(glibc, "malloc_trim"):
        yield
        return
    _set(glibc, KEEP)
    try:
        yield
    finally:
        _set(glibc, GIVE_BACK)
        glibc.malloc_trim(0)


def _set(glibc: ctypes.CDLL, settings: dict[int, int]) -> None:
    for parameter, value in settings.items():
        glibc.mallopt(parameter, value)
