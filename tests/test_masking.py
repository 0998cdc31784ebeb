"""Words are hidden as often, as whole and as honestly as promised."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ojd_daps_language_models.training.masking import Vocabulary, mask_words

PAD, CLS, MASK = 0, 1, 2
STARTS = np.array([True] * 50 + [False] * 50)  # token 50 and above goes on with a word
SPECIAL = np.array([True] * 3 + [False] * 97)
VOCABULARY = Vocabulary(STARTS, SPECIAL, SPECIAL, MASK)


def hide(ids, probability=0.15, whole_words=True, seed=0):
    rng = np.random.default_rng(seed)
    return mask_words(np.array(ids), VOCABULARY, probability, whole_words, rng)


def words_of(row):
    """Stretches of (begin, end) that make one word."""
    begins = [
        i
        for i, token in enumerate(row)
        if i == 0 or STARTS[token] or SPECIAL[token] or SPECIAL[row[i - 1]]
    ]
    return list(zip(begins, [*begins[1:], len(row)], strict=True))


blocks = st.integers(1, 12).flatmap(
    lambda width: st.lists(
        st.lists(st.integers(0, 99), min_size=width, max_size=width),
        min_size=1,
        max_size=5,
    )
)


@given(blocks, st.floats(0.05, 0.95), st.integers(0, 9))
@settings(max_examples=200)
def test_words_are_hidden_whole_and_special_tokens_never(rows, probability, seed):
    hidden = hide(rows, probability, seed=seed).words >= 0
    for row, marks in zip(rows, hidden, strict=True):
        for begin, end in words_of(row):
            assert len(set(marks[begin:end])) == 1
        assert not marks[SPECIAL[row]].any()


@given(blocks, st.integers(0, 9))
def test_hidden_words_are_numbered_from_0_one_number_each(rows, seed):
    words = hide(rows, 0.5, seed=seed).words
    found = np.unique(words[words >= 0])
    assert found.tolist() == list(range(len(found)))
    stretches = sum(
        1
        for row, marks in zip(rows, words, strict=True)
        for begin, _ in words_of(row)
        if marks[begin] >= 0
    )
    assert stretches == len(found)


def test_what_is_not_hidden_is_read_unchanged():
    rows = np.random.default_rng(0).integers(3, 100, (50, 40))
    masked = hide(rows)
    kept = masked.words < 0
    assert (masked.ids[kept] == rows[kept]).all()


@pytest.mark.parametrize("whole_words", [True, False])
def test_shares_of_hidden_masked_random_and_left(whole_words):
    rows = np.random.default_rng(1).integers(3, 100, (2000, 100))
    masked = hide(rows, 0.15, whole_words)
    hidden = masked.words >= 0
    assert hidden.mean() == pytest.approx(0.15, abs=0.005)
    read = masked.ids[hidden]
    assert (read == MASK).mean() == pytest.approx(0.8, abs=0.01)
    # one of 97 random tokens is the right one by chance
    assert (read == rows[hidden]).mean() == pytest.approx(0.1 + 0.1 / 97, abs=0.01)
    assert not SPECIAL[read[read != MASK]].any()


def test_the_same_seed_hides_the_same_words():
    rows = np.random.default_rng(2).integers(3, 100, (20, 30))
    first, again, other = hide(rows, seed=3), hide(rows, seed=3), hide(rows, seed=4)
    assert (first.ids == again.ids).all() and (first.words == again.words).all()
    assert (first.words != other.words).any()
