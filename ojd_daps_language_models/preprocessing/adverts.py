"""From raw adverts to clean, deduplicated parts, with an account of every one."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import pandas as pd

from ojd_daps_language_models.preprocessing.language import detect_language
from ojd_daps_language_models.preprocessing.personal_data import load_name_pipeline
from ojd_daps_language_models.preprocessing.preparation import (
    Chunk,
    compare_parts,
    count_reasons,
    drop_duplicates,
    funnel,
    hash_parts,
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
    given: dict[str, Iterable[Chunk]], config, seen: Sequence[str] | None = None
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
    nlp = load_name_pipeline(names) if names else None
    adverts, aside, replaced = read_clean(
        given, config, nlp, lambda text: _why_unfit(text, config.data)
    )
    if adverts.empty:
        raise ValueError(nothing_left(aside, "advert"))
    threshold = config.duplicates.near_threshold
    adverts, repeated = drop_duplicates(adverts, threshold, "advert")
    aside = pd.concat([aside, repeated], ignore_index=True)
    print_kept(len(adverts), aside, "advert")
    if config.split.by == "employer" and adverts["employer"].isna().all():
        raise ValueError(
            "split.by is employer, but no advert has one: name its column under "
            "data.columns.employer, or say split.by: cluster"
        )
    keys = [adverts["near"]]
    if config.split.by == "employer":
        keys.insert(0, adverts["employer"])
    adverts["part"] = split_off(adverts, given, keys, config.split, "advert")
    for part in PARTS:
        if not (adverts["part"] == part).any():
            raise ValueError(f"{part}: {nothing_left(aside, 'advert')}")
    keep_choosing_apart(adverts, config.split.max_near_overlap, "advert")
    sentence_nlp = load_sentence_pipeline()
    overlap = compare_parts(adverts, sentence_nlp, threshold, "advert")
    adverts = adverts.drop(columns=["exact", "near"])
    report = {
        "funnel": funnel(aside, len(adverts), "advert", STAGES),
        "kept_aside": count_reasons(aside, "advert"),
        "personal_data": dict(replaced),
        "names": describe_sentence_pipeline(nlp) if nlp else "not looked for",
        "sentences": describe_sentence_pipeline(sentence_nlp),
        "parts": _describe_parts(adverts),
        "overlap": overlap,
        "seen_by_checkpoint": measure_seen(seen, adverts, threshold, "advert"),
        "fingerprint": hash_parts(adverts["part"], adverts["text"]),
    }
    for name in ("personal_data", "names", "sentences", "parts"):
        print(f"{name}: {report[name]}")
    refuse_overlap(overlap, config.split)
    return Prepared(adverts, aside.drop(columns="stage"), report)


def _why_unfit(text: str, data) -> str | None:
    if len(text.split()) < data.min_words:
        return f"fewer than {data.min_words} words"
    if data.language:
        language = detect_language(text)
        if language != data.language:
            return f"in another language ({language})"
    return None


def _describe_parts(adverts: pd.DataFrame) -> dict[str, dict]:
    return {
        part: {
            "adverts": len(rows),
            "employers": int(rows["employer"].nunique()),
            "words": sum(len(text.split()) for text in rows["text"]),
        }
        for part in PARTS
        for rows in [adverts[adverts["part"] == part]]
    }
