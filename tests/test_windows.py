"""Every word is read and judged once, however long its text is."""

import numpy as np
import pytest
from conftest import sample_texts

from ojd_daps_language_models.preprocessing.packing import load_tokenizer
from ojd_daps_language_models.preprocessing.spans import (
    find_words,
    load_word_tokenizer,
)
from ojd_daps_language_models.preprocessing.windows import encode_windows, first_tokens

TEXTS = [*sample_texts()[:12], "One line.", "", "Été \u200b 🙂 naïve", "x" * 400]


@pytest.fixture(scope="module")
def tokenizer(tiny_bert):
    return load_tokenizer(tiny_bert)


@pytest.fixture(scope="module")
def words():
    nlp = load_word_tokenizer()
    return [find_words(text, nlp) for text in TEXTS]


@pytest.mark.parametrize(("length", "overlap"), [(32, 8), (64, 32), (128, 32), (9, 3)])
def test_each_word_with_a_token_is_judged_in_one_window(
    tokenizer, words, length, overlap
):
    windows = encode_windows(TEXTS, words, tokenizer, length, overlap)
    assert windows.lengths.max() <= length
    assert len(windows.ids) == len(windows.words) == windows.lengths.sum()
    _, numbers = first_tokens(windows.words)
    assert len(np.unique(numbers)) == len(numbers)
    whole = encode_windows(TEXTS, words, tokenizer, 100_000, 1)
    assert len(whole.lengths) == len(TEXTS)
    assert set(numbers) == set(first_tokens(whole.words)[1])
    assert windows.word_counts.sum() == sum(map(len, words))


def test_a_word_has_the_same_tokens_in_its_window_as_in_the_whole(tokenizer, words):
    def pieces(windows):
        found = {}
        for word, token in zip(windows.words, windows.ids, strict=True):
            found.setdefault(word, []).append(token)
        del found[-1]
        return found

    whole = encode_windows(TEXTS, words, tokenizer, 100_000, 1)
    cut = encode_windows(TEXTS[:-1], words[:-1], tokenizer, 32, 8)
    expected = pieces(whole)
    assert all(expected[word] == tokens for word, tokens in pieces(cut).items())


def test_words_at_a_border_are_judged_where_more_is_seen_around_them(tokenizer, words):
    windows = encode_windows(TEXTS[:1], words[:1], tokenizer, 64, 24)
    assert len(windows.lengths) > 2
    ends = np.cumsum(windows.lengths)
    for end, length in zip(ends[:-1], windows.lengths, strict=False):
        # Half of what is shared, but for what is left of a word, belongs to the next.
        assert (windows.words[end - 9 : end] == -1).all()
        assert (windows.words[end : end + 8] == -1).all()
        assert (windows.words[end - length : end] >= 0).any()


def test_what_a_truncation_would_leave_is_counted(tokenizer, words):
    windows = encode_windows(TEXTS, words, tokenizer, 32, 8)
    for text, places, read, tokens in zip(
        TEXTS, words, windows.words_read, windows.token_counts, strict=True
    ):
        encoding = tokenizer.encode(text, add_special_tokens=False)
        assert len(encoding) == tokens
        left = encoding.offsets[:30]
        beyond = encoding.offsets[30:]
        seen = [place for place in places if any(_in(o, place) for o in left)]
        lost = [place for place in places if any(_in(o, place) for o in beyond)]
        assert read <= (places.index(seen[-1]) + 1 if seen else 0)
        assert all(places.index(place) >= read for place in lost)


def _in(offset, word):
    return word[0] <= offset[1] - 1 < word[1]
