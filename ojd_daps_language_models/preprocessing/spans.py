"""Annotated spans of characters as spans of words, and as tags of words.

A span of words is a tuple of its first word, the word after its last, and its label.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from spacy import Language

WordSpan = tuple[int, int, str]
Word = tuple[int, int]

INSIDE = "it begins or ends inside a word"

_PIECE = re.compile(r"\w+|\s+|[^\w\s]")


def load_word_tokenizer() -> "Language":
    """The tokenizer of spaCy's English pipelines, with nothing else."""
    from ojd_daps_language_models.preprocessing.sentences import import_spacy

    return import_spacy(with_torch=False).blank("en")


def find_words(text: str, nlp: "Language") -> list[Word]:
    """Character offsets of the words and punctuation marks of a text."""
    return [
        (token.idx, token.idx + len(token))
        for token in nlp.make_doc(text)
        if not token.is_space
    ]


def follow(old: str, new: str, offsets: Iterable[Word]) -> Iterator[Word | None]:
    """Where stretches of a text stand after parts of it were replaced.

    Args:
        old: the text that the offsets are of.
        new: the same text with placeholders in it.
        offsets: start and end in characters.

    Yields:
        Start and end in `new`, None where a replacement touched the stretch.
    """
    before, after = _PIECE.findall(old), _PIECE.findall(new)
    starts, moved = _starts(before), _starts(after)
    place = np.full(len(old) + 1, -1)
    for i, j, size in SequenceMatcher(None, before, after, False).get_matching_blocks():
        count = starts[i + size] - starts[i]
        place[starts[i] : starts[i] + count] = moved[j] + np.arange(count)
    for start, end in offsets:
        there = place[start:end]
        whole = len(there) and there[0] >= 0
        if whole and np.array_equal(there, there[0] + np.arange(len(there))):
            yield int(there[0]), int(there[-1]) + 1
        else:
            yield None


def align_spans(
    text: str,
    words: Sequence[Word],
    spans: Iterable[dict],
    labels: Iterable[str],
) -> tuple[list[WordSpan], list[dict]]:
    """Spans of characters as spans of words, as spaCy aligns them, strictly.

    Of spans that overlap the first stays, and of those that begin alike the longest.

    Args:
        text: that the spans are of.
        words: offsets of its words.
        spans: with `start`, `end` (in characters), `label`, and `problem`, where one is
            known already.
        labels: that are to be learnt.

    Returns:
        Spans in the order of the text, and those that cannot be used, with `problem`.
    """
    first_at = {start: number for number, (start, _) in enumerate(words)}
    stop_at = {end: number + 1 for number, (_, end) in enumerate(words)}
    labels = frozenset(labels)
    kept, aside = [], []
    last = 0
    sound = []
    for span in spans:
        problem = span["problem"] or _problem(span, text, labels)
        if problem:
            aside.append(span | {"problem": problem})
        else:
            sound.append(span)
    for span in sorted(sound, key=lambda span: (span["start"], -span["end"])):
        # A blank before or after is a slip of the mouse, not of the mind.
        inside = text[span["start"] : span["end"]]
        start = span["start"] + len(inside) - len(inside.lstrip())
        end = span["end"] - len(inside) + len(inside.rstrip())
        first, stop = first_at.get(start), stop_at.get(end)
        if first is None or stop is None:
            aside.append(span | {"problem": INSIDE})
        elif first < last:
            aside.append(span | {"problem": "it overlaps another"})
        else:
            kept.append((first, stop, span["label"]))
            last = stop
    return kept, aside


def _problem(span: dict, text: str, labels: frozenset[str]) -> str | None:
    start, end = span["start"], span["end"]
    if not span["label"]:
        return "it has no label"
    if span["label"] not in labels:
        return f"its label is unknown: {span['label'][:40]!r}"
    if start < 0 or end > len(text):
        return "it ends past the end of the text"
    if end <= start:
        return "it ends before it begins"
    return None if text[start:end].strip() else "it is blank"


def tag_names(labels: Sequence[str]) -> list[str]:
    """What the classes of a token stand for: outside, begins and goes on (IOB2)."""
    return ["O", *(f"{mark}-{label}" for label in labels for mark in "BI")]


def to_tags(spans: Iterable[WordSpan], count: int, labels: Sequence[str]) -> np.ndarray:
    """Spans as the class of each word, int, shape (words,): see `tag_names`."""
    tags = np.zeros(count, np.int64)
    for first, stop, label in spans:
        begin = 1 + 2 * labels.index(label)
        tags[first:stop] = begin + 1
        tags[first] = begin
    return tags


def from_tags(tags: Sequence[int], labels: Sequence[str]) -> list[WordSpan]:
    """The spans in a sequence of classes; a word that goes on with nothing begins."""
    spans = []
    first = kind = None
    for place, tag in enumerate([*tags, 0]):
        label = (tag - 1) // 2 if tag else None
        if kind is not None and (label != kind or tag % 2):
            spans.append((first, place, labels[kind]))
            kind = None
        if label is not None and kind is None:
            first, kind = place, label
    return spans


def decode_tags(scores: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    """The likeliest sequence of classes of each text that is one (Viterbi, 1967).

    What goes on follows what begins, or goes on, with the same label.

    Args:
        scores: log-probability of each class for each word of all texts, shape (words,
            classes); the classes are those of `tag_names`.
        lengths: words of each text, shape (texts,).

    Returns:
        Classes of each text's words.
    """
    classes = scores.shape[1]
    allowed = np.zeros((classes, classes))  # from, to
    for inside in range(2, classes, 2):
        allowed[:, inside] = -np.inf
        allowed[[inside - 1, inside], inside] = 0
    order = np.argsort(-lengths, kind="stable")
    starts = (np.cumsum(lengths) - lengths)[order]
    ordered = lengths[order]
    longest = int(ordered[0]) if len(ordered) else 0
    shape = (longest, len(lengths), classes)
    came_from = np.zeros(shape, np.min_scalar_type(classes))
    best = np.zeros((len(lengths), classes))
    for place in range(longest):
        active = int(np.searchsorted(-ordered, -place))  # texts that have this word
        here = scores[starts[:active] + place]
        if place == 0:
            best[:active] = np.where(allowed[0] == 0, here, -np.inf)
            continue
        paths = best[:active, :, None] + allowed
        came_from[place, :active] = paths.argmax(axis=1)
        best[:active] = paths.max(axis=1) + here
    tags = [np.empty(0, np.int64)] * len(lengths)
    for row, text in enumerate(order):
        path = np.empty(ordered[row], np.int64)
        if len(path):
            path[-1] = best[row].argmax()
        for place in range(len(path) - 1, 0, -1):
            path[place - 1] = came_from[place, row, path[place]]
        tags[text] = path
    return tags


def _starts(pieces: Sequence[str]) -> np.ndarray:
    """Where each piece begins, and where the last one ends."""
    return np.concatenate([[0], np.cumsum([len(piece) for piece in pieces], dtype=int)])
