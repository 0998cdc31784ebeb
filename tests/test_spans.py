"""Spans are aligned strictly, and tags and spans are the same thing."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ojd_daps_language_models.preprocessing.personal_data import replace_personal_data
from ojd_daps_language_models.preprocessing.spans import (
    align_spans,
    decode_tags,
    find_words,
    follow,
    from_tags,
    load_word_tokenizer,
    tag_names,
    to_tags,
)

TEXT = "You know SQL, C++ and Python.We offer 25 days' holiday."
LABELS = ["SKILL", "BENEFIT"]


@pytest.fixture(scope="module")
def words():
    return find_words(TEXT, load_word_tokenizer())


def span(text, label="SKILL", start=None, end=None):
    start = TEXT.index(text) if start is None else start
    end = start + len(text) if end is None else end
    return {"start": start, "end": end, "label": label, "problem": None}


def align(words, *spans):
    kept, aside = align_spans(TEXT, words, spans, LABELS)
    found = [(TEXT[words[a][0] : words[b - 1][1]], label) for a, b, label in kept]
    return found, [span["problem"] for span in aside]


def test_spans_of_characters_become_spans_of_words(words):
    holiday = span("25 days' holiday", "BENEFIT")
    found, aside = align(words, holiday, span("SQL"), span("C++"))
    assert found == [("SQL", "SKILL"), ("C++", "SKILL"), (TEXT[38:54], "BENEFIT")]
    assert not aside


def test_a_blank_at_the_border_is_forgiven(words):
    assert align(words, span(" SQL"), span("C++ ")) == (
        [("SQL", "SKILL"), ("C++", "SKILL")],
        [],
    )


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (span("QL"), "it begins or ends inside a word"),
        (span("SQL", "SKIL"), "its label is unknown: 'SKIL'"),
        (span("SQL", ""), "it has no label"),
        (span("SQL", end=999), "it ends past the end of the text"),
        (span("SQL", end=2), "it ends before it begins"),
        (span(" "), "it is blank"),
        (span("SQL") | {"problem": "no end is given"}, "no end is given"),
    ],
)
def test_a_span_that_cannot_be_used_is_kept_aside(words, bad, problem):
    assert align(words, bad, span("Python")) == ([("Python", "SKILL")], [problem])


def test_of_overlapping_spans_the_first_and_longest_stays(words):
    outer, inner = span("SQL, C++ and Python"), span("C++")
    for spans in ([outer, inner], [inner, outer], [span("SQL"), outer, inner]):
        found, aside = align(words, *spans)
        assert found == [("SQL, C++ and Python", "SKILL")]
        assert set(aside) == {"it overlaps another"}


def test_offsets_follow_where_personal_data_was_replaced():
    old = "Write to jo@firm.example or call 020 7946 0123; SQL, see SQL basics. SQL"
    new, _ = replace_personal_data(old)
    assert "[EMAIL]" in new and "[PHONE]" in new
    stretches = ["Write", "SQL, see", "jo@firm.example", "SQL basics", "call 020 7946"]
    offsets = [(old.index(text), old.index(text) + len(text)) for text in stretches]
    moved = list(follow(old, new, [*offsets, (len(old) - 3, len(old))]))
    assert [place and new[slice(*place)] for place in moved] == [
        *("Write", "SQL, see", None, "SQL basics", None, "SQL")
    ]
    assert moved[-1][1] == len(new)


words_and_spans = st.integers(0, 12).flatmap(
    lambda count: st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 3), st.sampled_from(LABELS)),
        max_size=4,
    ).map(lambda gaps: _lay_out(gaps, count + sum(gap + size for gap, size, _ in gaps)))
)


def _lay_out(gaps, count):
    spans, place = [], 0
    for gap, size, label in gaps:
        spans.append((place + gap, place + gap + size, label))
        place += gap + size
    return spans, count


@given(words_and_spans)
def test_tags_and_spans_are_the_same_thing(drawn):
    spans, count = drawn
    assert from_tags(to_tags(spans, count, LABELS), LABELS) == spans


def test_tags_agree_with_seqeval():
    from seqeval.metrics.sequence_labeling import get_entities

    names = tag_names(LABELS)
    rng = np.random.default_rng(0)
    for _ in range(200):
        tags = rng.integers(0, len(names), 12)
        expected = [
            (first, last + 1, label)
            for label, first, last in get_entities([names[tag] for tag in tags])
        ]
        assert from_tags(tags, LABELS) == expected


def test_any_number_of_labels_is_decoded():
    scores = np.full((3, 141), -9.0)
    scores[[0, 1, 2], [139, 140, 140]] = 0
    (tags,) = decode_tags(scores, np.array([3]))
    assert tags.tolist() == [139, 140, 140]


def test_decoding_finds_the_best_legal_sequence():
    """Against all sequences of three words, one by one."""
    names = tag_names(LABELS)
    legal = [
        tags
        for tags in itertools.product(range(len(names)), repeat=3)
        if all(
            not names[tag].startswith("I") or names[before][1:] == names[tag][1:]
            for before, tag in zip((0, *tags), tags, strict=False)
        )
    ]
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(30, len(names)))
    lengths = np.array([3, 0, 3, 1, 3] * 3)[:14]
    lengths = lengths[: np.searchsorted(np.cumsum(lengths), 30, side="right")]
    found = decode_tags(scores[: lengths.sum()], lengths)
    start = 0
    for tags, length in zip(found, lengths, strict=True):
        assert len(tags) == length
        if length == 3:
            here = scores[start : start + 3]
            best = max(legal, key=lambda tags, s=here: s[range(3), tags].sum())
            assert tuple(tags) == best
        start += length
