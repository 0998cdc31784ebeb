"""From raw adverts to clean, deduplicated parts, with an account of every one."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from ojd_daps_language_models.preprocessing.cleaning import clean_text
from ojd_daps_language_models.preprocessing.duplicates import (
    choose_representatives,
    cluster_fingerprints,
    fingerprint,
)
from ojd_daps_language_models.preprocessing.language import detect_language
from ojd_daps_language_models.preprocessing.overlap import (
    check_overlap,
    measure_overlap,
)
from ojd_daps_language_models.preprocessing.personal_data import (
    load_name_pipeline,
    replace_names,
    replace_personal_data,
)
from ojd_daps_language_models.preprocessing.sentences import (
    describe_sentence_pipeline,
    load_sentence_pipeline,
    split_sentences,
)
from ojd_daps_language_models.preprocessing.splits import (
    TEST,
    TRAIN,
    VALIDATION,
    linked_groups,
    split_groups,
)
from ojd_daps_language_models.progress import progress_bar

Chunk = tuple[pd.DataFrame, pd.DataFrame]
PARTS = (TRAIN, VALIDATION, TEST)


class Prepared(NamedTuple):
    """Adverts ready for a model, and what became of all others.

    adverts: id, text, employer, title, date, source, row, part.
    kept_aside: source, row, id, reason.
    report: plain counts, see `prepare_adverts`.
    """

    adverts: pd.DataFrame
    kept_aside: pd.DataFrame
    report: dict


def prepare_adverts(given: dict[str, Iterable[Chunk]], config) -> Prepared:
    """Clean adverts, replace personal data, drop duplicates, split, measure overlap.

    Args:
        given: chunks of (adverts, kept aside) from the getter for `train` and, where
            the user brought official parts, for `validation` and `test`. Those are not
            thinned out; what resembles them leaves the training part.
        config: with the sections `data`, `personal_data`, `duplicates` and `split`.

    Returns:
        Its report has `funnel` (stage, adverts left), `kept_aside` (reason, adverts),
        `personal_data` (kind, how many), `names` and `sentences` (what found them),
        `parts` (adverts, employers and words of each), `overlap` (of each held-out
        part with training) and `fingerprint` (of texts and parts in any order).

    Raises:
        ValueError: no advert is left, too few groups to split, or too much overlap.
    """
    names = config.personal_data.names
    nlp = load_name_pipeline(names) if names else None
    replaced = Counter()
    kept, aside = [], []
    for part, chunks in given.items():
        for adverts, unreadable in progress_bar(
            f"reading {part}", "chunk", None, chunks
        ):
            adverts, unfit = _clean(adverts, config, nlp, replaced)
            kept.append(adverts.assign(part=part))
            aside += [unreadable, unfit]
    adverts = pd.concat(kept, ignore_index=True)
    if adverts.empty:
        raise ValueError(_nothing_left(aside))

    adverts, repeated = _drop_duplicates(adverts, config.duplicates.near_threshold)
    aside = pd.concat([*aside, repeated], ignore_index=True)
    # Said before the split, which may fail for what is missing here.
    print(f"{len(adverts):,} adverts kept, {len(aside):,} kept aside")
    for row in _count_reasons(aside):
        print(f"kept aside: {row['reason']} ({row['adverts']:,})")
    adverts["part"] = _split(adverts, given, config.split)
    for part in PARTS:
        if not (adverts["part"] == part).any():
            raise ValueError(f"{part}: {_nothing_left([aside])}")
    _keep_choosing_apart(adverts, config.split.max_near_overlap)
    sentence_nlp = load_sentence_pipeline()
    overlap = _measure_overlap(adverts, sentence_nlp, config)
    adverts = adverts.drop(columns=["exact", "near"])
    report = {
        "funnel": _funnel(aside, len(adverts)),
        "kept_aside": _count_reasons(aside),
        "personal_data": dict(replaced),
        "names": describe_sentence_pipeline(nlp) if nlp else "not looked for",
        "sentences": describe_sentence_pipeline(sentence_nlp),
        "parts": _describe_parts(adverts),
        "overlap": overlap,
        "fingerprint": _fingerprint(adverts),
    }
    for name in ("personal_data", "names", "sentences", "parts"):
        print(f"{name}: {report[name]}")
    for part in overlap:
        limits = {
            "verbatim": config.split.max_verbatim_overlap,
            "near": config.split.max_near_overlap,
        }
        check_overlap(overlap[part], limits, part)
    return Prepared(adverts, aside.drop(columns="stage"), report)


def _clean(
    adverts: pd.DataFrame, config, nlp, replaced: Counter
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Clean the texts of a chunk; adverts that are then unfit are told apart."""
    texts = []
    for text in adverts["text"]:
        text, counts = replace_personal_data(
            clean_text(text), config.personal_data.phone_regions
        )
        replaced.update(counts)
        texts.append(text)
    if nlp:
        pairs = list(replace_names(texts, nlp))
        texts = [text for text, _ in pairs]
        replaced["name"] += sum(count for _, count in pairs)
    adverts = adverts.assign(text=pd.Series(texts, adverts.index, dtype="str"))
    reasons = pd.Series(
        [_why_unfit(text, config.data) for text in texts], adverts.index, dtype="str"
    )
    unfit = adverts.assign(reason=reasons, stage="unfit")[reasons.notna()]
    return adverts[reasons.isna()], unfit[["source", "row", "id", "reason", "stage"]]


def _why_unfit(text: str, data) -> str | None:
    if len(text.split()) < data.min_words:
        return f"fewer than {data.min_words} words"
    if data.language:
        language = detect_language(text)
        if language != data.language:
            return f"in another language ({language})"
    return None


def _drop_duplicates(
    adverts: pd.DataFrame, threshold: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Keep one training advert of each cluster, none that resembles a held-out one."""
    exact, signatures = fingerprint(
        progress_bar("finding duplicates", "advert", len(adverts), adverts["text"])
    )
    clusters = cluster_fingerprints(exact, signatures, threshold)
    adverts = adverts.assign(exact=clusters["exact"], near=clusters["near"])
    training = adverts["part"] == TRAIN
    held_out = adverts["near"].isin(adverts.loc[~training, "near"]) & training

    pool = adverts[training & ~held_out]
    first = choose_representatives(
        pool[["exact", "near"]], pool["text"].tolist(), pool["id"].tolist()
    )
    kept = pd.Series(True, adverts.index)
    kept[held_out] = False
    kept[pool.index[~first]] = False

    same = adverts["exact"].isin(adverts.loc[kept, "exact"])
    reason = np.where(same, "exact duplicate", "near duplicate")
    reason = np.where(held_out, "duplicate of a held-out advert", reason)
    repeated = adverts.assign(reason=reason, stage="duplicate")[~kept]
    return (
        adverts[kept].reset_index(drop=True),
        repeated[["source", "row", "id", "reason", "stage"]],
    )


def _split(adverts: pd.DataFrame, given, split) -> pd.Series:
    """The part of each advert; only what the user did not bring is split off."""
    parts = adverts["part"].copy()
    training = parts == TRAIN
    if not training.any():
        raise ValueError("no training advert is left: all resemble held-out ones")
    keys = [adverts.loc[training, "near"]]
    if split.by == "employer":
        employers = adverts.loc[training, "employer"]
        if employers.isna().all():
            raise ValueError(
                "split.by is employer, but no advert has one: name its column under "
                "data.columns.employer, or say split.by: cluster"
            )
        # First, so that groups are called after employers: when adverts are added, an
        # employer then stays on its side.
        keys.insert(0, employers)
    parts[training] = split_groups(
        linked_groups(*keys),
        validation=0 if VALIDATION in given else split.validation,
        test=0 if TEST in given else split.test,
        seed=split.seed,
    )
    return parts


def _keep_choosing_apart(adverts: pd.DataFrame, limit: float) -> None:
    """Refuse official parts that would choose the epoch by what is then scored."""
    near = {part: adverts.loc[adverts["part"] == part, "near"] for part in PARTS}
    share = near[VALIDATION].isin(near[TEST]).mean()
    if share > limit:
        raise ValueError(
            f"validation: {share:.1%} of its adverts have a near-duplicate in test, "
            f"and the limit is {limit:.1%}; bring parts that are apart"
        )


def _measure_overlap(adverts: pd.DataFrame, nlp, config) -> dict[str, dict]:
    def sentences(part: str) -> Iterator[list[str]]:
        texts = adverts.loc[adverts["part"] == part, "text"]
        return split_sentences(
            progress_bar(f"comparing {part}", "advert", len(texts), texts), nlp
        )

    employers = adverts.groupby("part")["employer"].unique()
    overlap = measure_overlap(
        sentences(TRAIN),
        {part: sentences(part) for part in (VALIDATION, TEST)},
        config.duplicates.near_threshold,
    )
    for part, numbers in overlap.items():
        shared = set(employers[part]) & set(employers[TRAIN])
        numbers["employers_in_train"] = len({name for name in shared if name == name})
    return overlap


def _funnel(aside: pd.DataFrame, kept: int) -> list[dict]:
    """Adverts left after each stage."""
    stages = aside["stage"].fillna("unreadable").value_counts()
    left = kept + len(aside)
    funnel = [{"stage": "rows read", "adverts": left}]
    for stage, label in (
        ("unreadable", "with a usable text"),
        ("unfit", "long enough, in the language"),
        ("duplicate", "after near and exact duplicates"),
    ):
        left -= int(stages.get(stage, 0))
        funnel.append({"stage": label, "adverts": left})
    return funnel


def _count_reasons(aside: pd.DataFrame) -> list[dict]:
    counts = aside["reason"].value_counts()
    return [{"reason": reason, "adverts": int(n)} for reason, n in counts.items()]


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


def _fingerprint(adverts: pd.DataFrame) -> str:
    """A hash of texts and their parts that does not depend on the order of rows."""
    digests = sorted(
        hashlib.blake2b(f"{part}\n{text}".encode(), digest_size=16).digest()
        for part, text in zip(adverts["part"], adverts["text"], strict=True)
    )
    return hashlib.blake2b(b"".join(digests), digest_size=16).hexdigest()


def _nothing_left(aside: list[pd.DataFrame]) -> str:
    reasons = ", ".join(
        f"{row['reason']} ({row['adverts']:,})"
        for row in _count_reasons(pd.concat(aside))
    )
    return f"no advert is left; kept aside: {reasons or 'none, the input is empty'}"
