"""Floors of named entities: a dictionary, and a linear-chain CRF."""

import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pycrfsuite

from ojd_daps_language_models.preprocessing.spans import (
    WordSpan,
    from_tags,
    tag_names,
    to_tags,
)
from ojd_daps_language_models.progress import progress_bar
from ojd_daps_language_models.training.span_metrics import micro_f1

Words = Sequence[str]
Spans = Sequence[WordSpan]
# From the words of each text to its spans.
Finder = Callable[[Sequence[Words]], list[list[WordSpan]]]

SHARES = tuple(tenths / 10 for tenths in range(11))
# Penalties of the weights' absolute values (c1) and squares (c2).
PENALTIES = ((0.0, 1.0), (0.1, 0.1))
ITERATIONS = 100
NEIGHBOURS = (-2, -1, 1, 2)
_RUN = re.compile(r"(.)\1+")


def fit_gazetteer(
    train_words: Sequence[Words],
    train_spans: Sequence[Spans],
    validation_words: Sequence[Words],
    validation_spans: Sequence[Spans],
) -> Finder:
    """A dictionary of the spans of the training part, whatever their case.

    An entry has the label that it has most often. It is kept where it is right often
    enough: a share of its occurrences in the training part, which is chosen by strict
    F1 on validation. Entries are found from the left, the longest first.

    Args:
        train_words: words of each text.
        train_spans: spans of each text.
        validation_words: likewise.
        validation_spans: likewise.

    Returns:
        From the words of texts to their spans.
    """
    labels = defaultdict(Counter)
    for words, spans in zip(_fold(train_words), train_spans, strict=True):
        for first, stop, label in spans:
            labels[words[first:stop]][label] += 1
    entries = {entry: counts.most_common(1)[0] for entry, counts in labels.items()}
    lengths = _lengths(entries)
    occurrences = Counter(
        entry
        for words in _fold(train_words)
        for first in range(len(words))
        for entry in _entries_at(words, first, lengths)
        if entry in entries
    )
    share = {entry: right / occurrences[entry] for entry, (_, right) in entries.items()}

    def keep(least: float) -> Finder:
        kept = {
            entry: label
            for entry, (label, _) in entries.items()
            if share[entry] >= least
        }
        return lambda texts: _look_up(texts, kept)

    return _best(map(keep, SHARES), validation_words, validation_spans)


def fit_crf(
    train_words: Sequence[Words],
    train_spans: Sequence[Spans],
    validation_words: Sequence[Words],
    validation_spans: Sequence[Spans],
) -> Finder:
    """A linear-chain conditional random field (Lafferty et al., 2001), by CRFsuite.

    It knows each word, its lower case, affixes and shape, and the two words on both
    sides. Its penalties are chosen by strict F1 on validation. Arguments and result as
    of `fit_gazetteer`.
    """
    labels = sorted({span[2] for spans in train_spans for span in spans})
    if not labels:  # CRFsuite dies of nothing to learn
        return lambda texts: [[] for _ in texts]
    names = tag_names(labels)
    trainer = pycrfsuite.Trainer(algorithm="lbfgs", verbose=False)
    for words, spans in zip(train_words, train_spans, strict=True):
        tags = to_tags(spans, len(words), labels)
        trainer.append(_features(words), [names[tag] for tag in tags])

    def fit(c1: float, c2: float) -> Finder:
        trainer.set_params({"c1": c1, "c2": c2, "max_iterations": ITERATIONS})
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.crfsuite")
            trainer.train(str(path))
            model = path.read_bytes()
        return lambda texts: _tag(model, texts, labels)

    bar = progress_bar("training the CRF", "setting", len(PENALTIES), PENALTIES)
    return _best((fit(*both) for both in bar), validation_words, validation_spans)


def _best(finders: Iterable[Finder], words: Sequence[Words], spans: Sequence[Spans]):
    """The one with the highest strict F1; the first of those that are as good."""
    return max(finders, key=lambda find: micro_f1(spans, find(words)))


# ---------------------------------------------------------------------- dictionary


def _fold(texts: Iterable[Words]) -> Iterator[tuple[str, ...]]:
    for words in texts:
        yield tuple(word.casefold() for word in words)


def _lengths(entries: Iterable[tuple[str, ...]]) -> dict[str, list[int]]:
    """How long the entries are that begin with a word, the longest first."""
    lengths = defaultdict(set)
    for entry in entries:
        lengths[entry[0]].add(len(entry))
    return {word: sorted(found, reverse=True) for word, found in lengths.items()}


def _entries_at(
    words: tuple[str, ...], first: int, lengths: dict[str, list[int]]
) -> Iterator[tuple[str, ...]]:
    """Words from a place on, of each length that an entry has."""
    for length in lengths.get(words[first], ()):
        if first + length <= len(words):
            yield words[first : first + length]


def _look_up(
    texts: Sequence[Words], labels: dict[tuple[str, ...], str]
) -> list[list[WordSpan]]:
    lengths = _lengths(labels)
    found = []
    for words in _fold(texts):
        spans, first = [], 0
        while first < len(words):
            at_first = _entries_at(words, first, lengths)
            entry = next((entry for entry in at_first if entry in labels), None)
            if entry:
                spans.append((first, first + len(entry), labels[entry]))
            first += len(entry) if entry else 1
        found.append(spans)
    return found


# --------------------------------------------------------------------------- CRF


def _tag(
    model: bytes, texts: Sequence[Words], labels: list[str]
) -> list[list[WordSpan]]:
    tagger = pycrfsuite.Tagger()
    tagger.open_inmemory(model)
    classes = {name: number for number, name in enumerate(tag_names(labels))}
    return [
        from_tags([classes[name] for name in tagger.tag(_features(words))], labels)
        for words in texts
    ]


def _features(words: Words) -> pycrfsuite.ItemSequence:
    """What is known of each word of a text."""
    own = [_describe(word) for word in words]
    rows = []
    for place in range(len(words)):
        row = ["bias", *own[place]]
        for step in NEIGHBOURS:
            other = place + step
            if 0 <= other < len(words):
                row += [f"{step}:{feature}" for feature in own[other][:2]]
        if place == 0:
            row.append("first")
        if place == len(words) - 1:
            row.append("last")
        rows.append(row)
    return pycrfsuite.ItemSequence(rows)


def _describe(word: str) -> list[str]:
    """Its features; the first two are also those of its neighbours."""
    lower = word.lower()
    features = [f"lower={lower}", f"shape={_shape(word)}", f"word={word}"]
    for length in (2, 3):
        features += [f"prefix={lower[:length]}", f"suffix={lower[-length:]}"]
    if word.istitle():
        features.append("title")
    if word.isupper():
        features.append("upper")
    if any(character.isdigit() for character in word):
        features.append("digit")
    return features


def _shape(word: str) -> str:
    """Which kinds of characters follow one another: `Xx-d` for `Web-3000`."""
    return _RUN.sub(r"\1", "".join(map(_kind, word)))


def _kind(character: str) -> str:
    if character.isdigit():
        return "d"
    if character.isalpha():
        return "X" if character.isupper() else "x"
    return character
