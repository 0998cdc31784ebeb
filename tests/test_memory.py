"""Training keeps the memory that its steps free."""

import ctypes
import resource
from pathlib import Path

import pytest
import torch

from ojd_daps_language_models.training.memory import keeping_memory

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
pytestmark = [
    pytest.mark.skipif(
        not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="glibc only"
    ),
    pytest.mark.skipif(
        resource.getpagesize() > 4096
        or (HUGE_PAGES.exists() and "[always]" in HUGE_PAGES.read_text()),
        reason="counts pages of 4 kB",
    ),
]


def count_faults() -> int:
    """Pages that the system clears for a tensor after a larger one was freed."""
    torch.ones(2**25)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident_mb() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


def test_what_is_freed_is_kept_until_the_end():
    assert count_faults() > 10_000
    with keeping_memory():
        assert count_faults() < 100
        before = resident_mb()
    assert resident_mb() < before - 50
    assert count_faults() > 10_000


def test_it_is_given_back_after_a_failure():
    with pytest.raises(KeyboardInterrupt), keeping_memory():
        raise KeyboardInterrupt
    assert count_faults() > 10_000
