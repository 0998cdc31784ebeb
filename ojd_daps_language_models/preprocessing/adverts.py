"""From raw adverts to clean, deduplicated parts, with an account of every one."""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import pandas as pd

from ojd_daps_language_models.preprocessing.language import detect_language
from ojd_daps_language_models.preprocessing.personal_data import load_name_pipeline
from ojd_daps_language_models.preprocessing.preparation import (
    Chunk,
    compare_parts,
    count_names,
    count_reasons,
    drop_duplicates,
    funnel,
    hash_parts,
    held_out_texts,
    keep_choosing_apart,
    measure_seen,
    nothing_left,
    print_kept,
    read_clean,
    refuse_overlap,
    split_off,
)
from ojd_daps_language_models.preprocessing.sentences import (
    describe_sentence_pipeline,
    load_sentence_pipeline,
)
from ojd_daps_language_models.preprocessing.splits import PARTS

STAGES = {
    "unreadable": "with a usable text",
    "unfit": "long enough, in the language",
    "duplicate": "after near and exact duplicates",
}


class Prepared(NamedTuple):
    """Adverts ready for a model, and what became of all others.

    adverts: id, text, employer, title, date, source, row, part.
    kept_aside: source, row, id, reason.
    report: plain counts, see `prepare_adverts`.
    """

    adverts: pd.DataFrame
    kept_aside: pd.DataFrame
    report: dict


def prepare_adverts(
    given: dict[str, Iterable[Chunk]], config, seen: Iterable[str] | None = None
) -> Prepared:
    """Clean adverts, replace personal data, drop duplicates, split, measure overlap.

    Args:
        given: chunks of (adverts, kept aside) from the getter for `train` and, where
            the user brought official parts, for `validation` and `test`. Those are not
            thinned out; what resembles them leaves the training part.
        config: with the sections `data`, `personal_data`, `duplicates` and `split`.
        seen: texts that the checkpoint was trained on, None where that is not known.

    Returns:
        Its report has `funnel` (stage, adverts left), `kept_aside` (reason, adverts),
        `personal_data` (kind, how many), `names` and `sentences` (what found them),
        `parts` (adverts, employers and words of each), `overlap` (of each held-out
        part with training), `seen_by_checkpoint` (the same with `seen`, or None) and
        `fingerprint` (of texts and parts in any order).

    Raises:
        ValueError: no advert is left, too few groups to split, or too much overlap.
    """
    names = config.personal_data.names
    nlp = load_name_pipeline(names)
    adverts, aside, replaced = read_clean(
        given, config, nlp, lambda text: why_unfit(text, config.data)
    )
    if adverts.empty:
        raise ValueError(nothing_left(aside, "advert"))
    threshold = config.duplicates.near_threshold
    adverts, repeated = drop_duplicates(adverts, threshold, "advert")
    aside = pd.concat([aside, repeated], ignore_index=True)
    print_kept(len(adverts), aside, "advert")
    adverts["part"] = divide_adverts(adverts, given, aside, config.split)
    sentence_nlp = load_sentence_pipeline()
    overlap = compare_parts(adverts, sentence_nlp, threshold, "advert")
    adverts = adverts.drop(columns=["exact", "near"])
    described = adverts.assign(words=list(map(count_words, adverts["text"])))
    report = {
        **describe_rows(described, aside, replaced),
        "names": describe_name_pipeline(nlp),
        "sentences": describe_sentence_pipeline(sentence_nlp),
        "overlap": overlap,
        "seen_by_checkpoint": measure_seen(
            seen, held_out_texts(adverts), threshold, "advert"
        ),
        "fingerprint": hash_parts(adverts["part"], adverts["text"]),
    }
    print_report(report)
    refuse_overlap(overlap, config.split)
    return Prepared(adverts, aside.drop(columns="stage"), report)


def describe_prepared(
    report: Mapping,
    held_out: Mapping[str, Collection[str]],
    threshold: float,
    seen: Iterable[str] | None,
) -> dict:
    """The report of `prepare_adverts` on adverts that an earlier run has prepared.

    Args:
        report: of that run.
        held_out: texts of validation and of test.
        threshold: Jaccard similarity of near-duplicates.
        seen: texts that the checkpoint was trained on, None where that is not known.
    """
    seen = measure_seen(seen, held_out, threshold, "advert")
    report = {**report, "seen_by_checkpoint": seen}
    print_report(report)
    return report


def why_unfit(text: str, data) -> str | None:
    """Why a cleaned advert cannot be used, None if it can."""
    if count_words(text) < data.min_words:
        return f"fewer than {data.min_words} words"
    if data.language:
        language = detect_language(text)
        if language != data.language:
            return f"in another language ({language})"
    return None


def count_words(text: str) -> int:
    """Words of an advert, as white space parts them."""
    return len(text.split())


def divide_adverts(
    adverts: pd.DataFrame, given: Iterable[str], aside: pd.DataFrame, split
) -> pd.Series:
    """The part of each advert, divided as the configuration says.

    Args:
        adverts: columns part (that the user gave), employer, near.
        given: parts that the user brought.
        aside: adverts kept aside (source, reason), for the message.
        split: section of the configuration.

    Raises:
        ValueError: no advert has an employer, there are too few groups, a part is
            empty, or validation stands in test.
    """
    if split.by == "employer" and adverts["employer"].isna().all():
        raise ValueError(
            "split.by is employer, but no advert has one: name its column under "
            "data.columns.employer, or say split.by: cluster"
        )
    keys = [adverts["near"]]
    if split.by == "employer":
        keys.insert(0, adverts["employer"])
    parts = split_off(adverts, given, keys, split, "advert")
    for part in PARTS:
        if not (parts == part).any():
            raise ValueError(f"{part}: {nothing_left(aside, 'advert')}")
    keep_choosing_apart(adverts.assign(part=parts), split.max_near_overlap, "advert")
    return parts


def describe_rows(
    adverts: pd.DataFrame, aside: pd.DataFrame, replaced: Mapping[str, int]
) -> dict:
    """What the report counts before parts are compared.

    Args:
        adverts: columns part, employer, words.
        aside: columns reason, stage.
        replaced: how many of each kind of personal data.
    """
    return {
        "funnel": funnel(aside, len(adverts), "advert", STAGES),
        "kept_aside": count_reasons(aside, "advert"),
        "personal_data": dict(replaced),
        "parts": _describe_parts(adverts),
    }


def describe_name_pipeline(nlp) -> str:
    """What found people's names."""
    return describe_sentence_pipeline(nlp) if nlp else "not looked for"


def print_report(report: dict) -> None:
    """Say what was found, and in what."""
    for name in ("personal_data", "names", "sentences", "parts"):
        print(f"{name}: {report[name]}")


def _describe_parts(adverts: pd.DataFrame) -> dict[str, dict]:
    return {
        part: {
            "adverts": len(rows),
            "employers": count_names(rows["employer"]),
            "words": int(rows["words"].sum()),
        }
        for part in PARTS
        for rows in [adverts[adverts["part"] == part]]
    }
