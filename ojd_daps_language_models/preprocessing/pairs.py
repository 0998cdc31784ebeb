"""Pairs of sentences for next-sentence prediction: true successors, and others.

Each first sentence is in two pairs, one with its true successor and one with another
sentence. So first sentences tell nothing about the answer, each kind of negative comes
with as many positives of the same first sentences, and chance is one half for each.
The second sentences of negatives are drawn from those of positives: whatever stands
before a sentence, such as a heading too short to be in a pair, tells nothing either.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from ojd_daps_language_models.preprocessing.duplicates import exact_fingerprints
from ojd_daps_language_models.preprocessing.sentences import (
    load_sentence_pipeline,
    split_sentences,
)
from ojd_daps_language_models.preprocessing.splits import PARTS, TRAIN
from ojd_daps_language_models.progress import progress_bar

KINDS = ("another_advert", "same_employer", "same_advert")
LABELS = ("is_next", "not_next")  # in the order of transformers
_DRAWS = 20  # tries to find a sentence that is not a true successor
_AT_ONCE = 2**20  # first sentences that negatives are drawn for


class Paired(NamedTuple):
    """Sentences of adverts and pairs of them.

    sentences: of each advert, in order.
    pairs: part, advert (of the first sentence, its row in the table of adverts), first,
        second (numbers of sentences, counted through all adverts), label (0 is next, 1
        not), kind (of `KINDS`: that of the negative with the same first sentence). Of
        each part the positives, then in the same order the negatives.
    report: counts, see `make_pairs`.
    """

    sentences: Collection[Sequence[str]]
    pairs: pd.DataFrame
    report: dict


def make_pairs(
    adverts: pd.DataFrame, config, sentences: Collection[Sequence[str]] | None = None
) -> Paired:
    """Split adverts into sentences, and pair each with its successor and with another.

    A negative that follows its first sentence anywhere in any advert, whatever its case
    and punctuation, is not used. One whose kind cannot be had, such as `same_employer`
    where an employer has one advert, becomes one of another kind, by their shares.

    Args:
        adverts: columns employer, part, and text unless `sentences` are given.
        config: `shares` of the kinds of negatives, `min_words` of a sentence,
            `max_per_advert` first sentences, `seed`.
        sentences: of each advert, where these are known; read once.

    Returns:
        Its report has `pairs`: for each part `first_sentences`, negatives of each kind,
        and `moved`, those that became of another kind than was drawn for them; and
        `too_few_sentences`: adverts of each part that give no pair.

    Raises:
        ValueError: a part has no pair, or no training negative of a kind that is asked
            for can be had.
    """
    if sentences is None:
        sentences = _split(adverts)
    known = _describe(sentences, adverts, config.min_words)
    usable = known.usable
    differ = known.code[1:] != known.code[:-1]
    first = _where(known.follows[1:] & usable[:-1] & usable[1:] & differ)
    part = pd.Categorical(adverts["part"], PARTS).codes[known.advert]

    rng = np.random.default_rng(config.seed)
    pairs, report = [], {"pairs": {}, "too_few_sentences": {}}
    for number, name in enumerate(PARTS):
        mine = first[part[first] == number]
        with_pairs = len(np.unique(known.advert[mine]))
        without = int((adverts["part"] == name).sum()) - with_pairs
        _require_pairs(mine, name, without, config.min_words)
        pool = mine + 1  # their successors
        if config.max_per_advert:
            mine = _draw_some(mine, known.advert, config.max_per_advert, rng)
        negatives = _draw_negatives(mine, pool, known, dict(config.shares), rng)
        if name == TRAIN:
            _require_kinds(negatives.kind, dict(config.shares))
        pairs.append(_as_pairs(mine, negatives, known, name))
        report["pairs"][name] = _count(negatives)
        report["too_few_sentences"][name] = without
        print(f"pairs, {name}: {report['pairs'][name]}")
    return Paired(sentences, pd.concat(pairs, ignore_index=True), report)


class _Known(NamedTuple):
    """What is known of each sentence, arrays of shape (sentences,), but for `true`.

    advert, employer: numbers, employer -1 where it is not known.
    code: a number for what it says, whatever its case and punctuation.
    usable: whether it has words enough.
    follows: whether it follows another one in its advert.
    true: codes of all true successors, as of `_codes_of_pairs`, sorted.
    """

    advert: np.ndarray
    employer: np.ndarray
    code: np.ndarray
    usable: np.ndarray
    follows: np.ndarray
    true: np.ndarray


class _Negatives(NamedTuple):
    """Another second sentence for each first one.

    second: row in the sentences, -1 where none was found.
    kind: place in `KINDS`, -1 likewise.
    moved: how many are of another kind than was drawn first.
    """

    second: np.ndarray
    kind: np.ndarray
    moved: int


def _describe(
    sentences: Collection[Sequence[str]], adverts: pd.DataFrame, min_words: int
) -> _Known:
    counts, usable = [], bytearray()

    def read() -> Iterator[str]:
        bar = progress_bar("reading sentences", "advert", len(sentences), sentences)
        for own in bar:
            counts.append(len(own))
            usable.extend(len(text.split()) >= min_words for text in own)
            yield from own

    hashes = exact_fingerprints(read())
    advert = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    wordless = hashes < 0
    hashes[wordless] = -1 - np.arange(wordless.sum())
    code = np.unique(hashes, return_inverse=True)[1]
    follows = np.append(False, advert[1:] == advert[:-1])
    second = np.flatnonzero(follows)
    # Case and white space do not tell employers apart, as in the split.
    names = adverts["employer"].str.casefold().str.strip()
    names = names.str.replace(r"\s+", " ", regex=True)
    employer = pd.factorize(names)[0].astype(np.int32)[advert]
    true = np.unique(_codes_of_pairs(code, second - 1, second))
    return _Known(advert, employer, code, np.frombuffer(usable, bool), follows, true)


def _where(condition: np.ndarray) -> np.ndarray:
    """Numbers of the sentences that it holds for, in half the memory."""
    return np.flatnonzero(condition).astype(np.int32)


def _codes_of_pairs(
    code: np.ndarray, first: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """A number for what a pair says."""
    return code[first] * (code.max() + 1) + code[second]


def _as_pairs(
    first: np.ndarray, negatives: _Negatives, known: _Known, part: str
) -> pd.DataFrame:
    found = negatives.kind >= 0
    first, second, kind = (
        column[found] for column in (first, negatives.second, negatives.kind)
    )
    return pd.DataFrame(
        {
            "advert": np.tile(known.advert[first], 2),
            "first": np.tile(first, 2),
            "second": np.concatenate([first + 1, second]),
            "label": np.repeat(np.array([0, 1], np.int8), len(first)),
            "kind": pd.Categorical.from_codes(np.tile(kind, 2), KINDS),
            "part": pd.Categorical.from_codes(
                np.full(2 * len(first), PARTS.index(part)), PARTS
            ),
        }
    )


def _count(negatives: _Negatives) -> dict[str, int]:
    return {
        "first_sentences": int((negatives.kind >= 0).sum()),
        **{name: int((negatives.kind == at).sum()) for at, name in enumerate(KINDS)},
        "moved": negatives.moved,
        "without_negative": int((negatives.kind < 0).sum()),
    }


def _split(adverts: pd.DataFrame) -> list[list[str]]:
    bar = progress_bar("splitting", "advert", len(adverts), adverts["text"])
    return list(split_sentences(bar, load_sentence_pipeline()))


def _draw_some(
    first: np.ndarray, advert: np.ndarray, most: int, rng: np.random.Generator
) -> np.ndarray:
    """At most so many first sentences of each advert, in order."""
    shuffled = rng.permutation(first)
    shuffled = shuffled[np.argsort(advert[shuffled], kind="stable")]
    of_advert = pd.Series(advert[shuffled])
    return np.sort(shuffled[of_advert.groupby(of_advert).cumcount().to_numpy() < most])


def _draw_negatives(
    first: np.ndarray,
    pool: np.ndarray,
    known: _Known,
    shares: Mapping[str, float],
    rng: np.random.Generator,
) -> _Negatives:
    """Draw another second sentence for each first one.

    Kinds are drawn by their shares; where no sentence of that kind is found, the next
    is tried, in an order that is drawn by the shares too.
    """
    draws = (
        _from_others(pool, known),
        _from_group(pool, known.employer),
        _from_group(pool, known.advert),
    )
    wanted = np.array([shares[kind] for kind in KINDS])
    some = [
        _draw_at_once(first[start : start + _AT_ONCE], draws, wanted, known, rng)
        for start in range(0, len(first), _AT_ONCE)
    ]
    second, kind, moved = zip(*some, strict=True)
    return _Negatives(np.concatenate(second), np.concatenate(kind), sum(moved))


def _draw_at_once(
    first: np.ndarray,
    draws: Sequence[Callable[[np.ndarray, np.random.Generator], np.ndarray]],
    wanted: np.ndarray,
    known: _Known,
    rng: np.random.Generator,
) -> _Negatives:
    # The order of exponential waiting times is that of drawing without replacement.
    with np.errstate(divide="ignore"):
        waiting = rng.exponential(size=(len(first), len(KINDS))) / wanted
    order = np.argsort(waiting, axis=1)
    second, kind = np.full(len(first), -1, np.int32), np.full(len(first), -1, np.int8)
    moved = 0
    for place in range(np.count_nonzero(wanted)):
        for at, draw in enumerate(draws):
            mine = np.flatnonzero((kind < 0) & (order[:, place] == at))
            for _ in range(_DRAWS):
                drawn = draw(first[mine], rng)
                good = (drawn >= 0) & _is_no_successor(first[mine], drawn, known)
                if KINDS[at] == "same_employer":
                    good &= known.advert[drawn] != known.advert[first[mine]]
                second[mine[good]], kind[mine[good]] = drawn[good], at
                moved += int(good.sum()) if place else 0
                mine = mine[~good]
    return _Negatives(second, kind, moved)


def _is_no_successor(
    first: np.ndarray, second: np.ndarray, known: _Known
) -> np.ndarray:
    """Whether pairs are no true successors anywhere, and do not say one thing twice."""
    said = _codes_of_pairs(known.code, first, second)
    place = np.searchsorted(known.true, said)
    true = known.true.take(place, mode="clip") == said
    return ~true & (known.code[first] != known.code[second])


def _from_group(pool: np.ndarray, group: np.ndarray):
    """Draws sentences of the pool of the same group; -1 where there is none."""
    pool = pool[group[pool] >= 0]
    by_group = pool[np.argsort(group[pool], kind="stable")]
    ordered = group[by_group]

    def draw(first: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        start = np.searchsorted(ordered, group[first], side="left")
        size = np.searchsorted(ordered, group[first], side="right") - start
        size[group[first] < 0] = 0
        place = start + rng.integers(0, np.maximum(size, 1))
        return np.where(size > 0, by_group[np.minimum(place, len(by_group) - 1)], -1)

    return draw if len(by_group) else lambda first, rng: np.full(len(first), -1)


def _from_others(pool: np.ndarray, known: _Known):
    """Draws sentences of other adverts, of other employers where these are known; -1
    where the one drawn is not."""

    def draw(first: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if not len(pool):
            return np.full(len(first), -1)
        drawn = pool[rng.integers(len(pool), size=len(first))]
        employer = known.employer[first]
        same = (employer >= 0) & (known.employer[drawn] == employer)
        same |= known.advert[drawn] == known.advert[first]
        return np.where(same, -1, drawn)

    return draw


def _require_pairs(first: np.ndarray, part: str, without: int, words: int) -> None:
    if not len(first):
        raise ValueError(
            f"{part}: none of its {without:,} adverts has two sentences of "
            f"{words} words or more, one after the other, so no pair can be "
            "made; are line breaks and full stops lost, or is the text one sentence?"
        )


def _require_kinds(kinds: np.ndarray, shares: Mapping[str, float]) -> None:
    remedies = {
        "another_advert": "at least two adverts, of two employers",
        "same_employer": "an employer with two adverts, and data.columns.employer",
        "same_advert": "adverts of three sentences in a row",
    }
    for at, kind in enumerate(KINDS):
        if shares[kind] and not (kinds == at).any():
            raise ValueError(
                f"{TRAIN}: no pair for pairs.shares.{kind}, which is {shares[kind]:g}; "
                f"it needs {remedies[kind]}. Set it to 0 to do without"
            )
