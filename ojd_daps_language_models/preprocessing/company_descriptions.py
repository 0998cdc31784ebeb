"""From labelled sentences to clean parts, with an account of every one."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

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
    number_clusters,
    print_kept,
    read_clean,
    refuse_overlap,
    split_off,
)
from ojd_daps_language_models.preprocessing.sentences import (
    describe_sentence_pipeline,
    load_sentence_pipeline,
)
from ojd_daps_language_models.preprocessing.splits import PARTS, TRAIN, advert_keys

NEGATIVE, POSITIVE = LABELS = ("not_company_description", "company_description")
STAGES = {
    "unreadable": "with a sentence, a label, and whose it is",
    "unfit": "neither too short nor too long",
    "conflict": "with one label",
    "duplicate": "after near and exact duplicates",
    "balance": "after balancing the training part",
}
BALANCES = {
    "weights": "Training weighs the classes as if each had as many sentences; no "
    "sentence is left out.",
    "undersample": "Of the more frequent class as many training sentences are used as "
    "there are of the other; the rest is kept aside.",
    "none": "The training part has the classes as they came.",
}


class Prepared(NamedTuple):
    """Sentences ready for a model, and what became of all others.

    sentences: id, text, label, employer, advert, source, row, part.
    kept_aside: source, row, id, label, reason.
    report: plain counts, see `prepare_sentences`.
    """

    sentences: pd.DataFrame
    kept_aside: pd.DataFrame
    report: dict


def prepare_sentences(
    given: dict[str, Iterable[Chunk]], config, seen: Sequence[str] | None = None
) -> Prepared:
    """Clean labelled sentences, settle their labels, deduplicate, split, balance.

    The length limits hold for both classes alike, and only the training part is
    balanced: the others keep the classes as they came.

    Args:
        given: chunks of (sentences, kept aside) from the getter for `train` and, where
            the user brought official parts, for `validation` and `test`. Those are not
            thinned out; what resembles them leaves the training part.
        config: with the sections `data`, `personal_data`, `duplicates`, `split` and
            `training`.
        seen: texts that the checkpoint was trained on, None where that is not known.

    Returns:
        Its report has `funnel` (stage, sentences left), `kept_aside` (reason, sentences
        of each class), `personal_data` (kind, how many), `names` (what found them),
        `conflicts` (sentences with both labels, and what became of them), `balance` (a
        sentence), `prevalence` (of company descriptions in the training data as they
        came, copies included), `parts` (sentences, employers, classes and words of
        each), `overlap` (of each held-out part with training), `seen_by_checkpoint`
        (the same with `seen`, or None) and `fingerprint` (of texts, labels and parts in
        any order).

    Raises:
        ValueError: no sentence is left, most labels are neither of the two, one class
            only, too few groups to split, or too much overlap.
    """
    names = config.personal_data.names
    nlp = load_name_pipeline(names)
    sentences, aside, replaced = read_clean(
        given, config, nlp, lambda text: _why_unfit(text, config.data)
    )
    _refuse_labels(sentences, aside)
    came = sentences.loc[sentences["part"] == TRAIN, "label"].eq(POSITIVE).mean()
    threshold = config.duplicates.near_threshold
    sentences, unsettled, conflicts = settle_labels(sentences, threshold)
    sentences, repeated = drop_duplicates(sentences, threshold, "sentence", ["label"])
    aside = pd.concat([aside, unsettled, repeated], ignore_index=True)
    print_kept(len(sentences), aside, "sentence")
    employer, advert = sentences["employer"], advert_keys(sentences)
    keys = [employer, advert]
    if config.split.by == "advert":
        keys = [advert.fillna(employer)]
    sentences["part"] = split_off(sentences, given, keys, config.split, "sentence")
    for part in PARTS:
        _require_both(sentences[sentences["part"] == part], part, aside)
    keep_choosing_apart(sentences, config.split.max_near_overlap, "sentence")
    overlap = compare_parts(sentences, load_sentence_pipeline(), threshold, "sentence")
    sentences = sentences.drop(columns=["exact", "near"])
    if config.training.balance == "undersample":
        sentences, surplus = undersample(sentences, config.split.seed)
        aside = pd.concat([aside, surplus], ignore_index=True)
    report = {
        "funnel": funnel(aside, len(sentences), "sentence", STAGES),
        "kept_aside": _count_by_class(aside),
        "personal_data": dict(replaced),
        "names": describe_sentence_pipeline(nlp) if nlp else "not looked for",
        "conflicts": conflicts,
        "balance": BALANCES[config.training.balance],
        "prevalence": float(came),
        "parts": _describe_parts(sentences),
        "overlap": overlap,
        "seen_by_checkpoint": measure_seen(
            seen, held_out_texts(sentences), threshold, "sentence"
        ),
        "fingerprint": hash_parts(
            sentences["part"], sentences["label"], sentences["text"]
        ),
    }
    for name in ("personal_data", "names", "conflicts", "balance", "parts"):
        print(f"{name}: {report[name]}")
    refuse_overlap(overlap, config.split)
    return Prepared(sentences, aside.drop(columns="stage"), report)


def settle_labels(
    sentences: pd.DataFrame, threshold: float
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, int]]:
    """Give all training copies of a sentence the label that most of them have.

    Copies are exact and near duplicates. Where neither label has a majority, all are
    kept aside. Held-out parts that the user brought keep their labels.

    Returns:
        The sentences with clusters of duplicates numbered, those kept aside, and
        counts: `sentences` that came with both labels, of them `settled`, `kept_aside`.
    """
    sentences = number_clusters(sentences, threshold, "sentence")
    training = sentences["part"] == TRAIN
    positive = sentences["label"].eq(POSITIVE)
    share = positive[training].groupby(sentences["near"]).mean()
    share = sentences["near"].map(share)
    disputed = training & (share > 0) & (share < 1)
    tied = disputed & (share == 0.5)
    labels = sentences["label"].mask(disputed & (share > 0.5), POSITIVE)
    labels = labels.mask(disputed & (share < 0.5), NEGATIVE)
    numbers = sentences["near"]
    conflicts = {
        "sentences": int(numbers[disputed].nunique()),
        "settled": int(numbers[disputed & ~tied].nunique()),
        "kept_aside": int(numbers[tied].nunique()),
    }
    unsettled = sentences.assign(
        reason="as many copies with one label as with the other", stage="conflict"
    )[tied]
    return (
        sentences.assign(label=labels)[~tied].reset_index(drop=True),
        unsettled[["source", "row", "id", "label", "reason", "stage"]],
        conflicts,
    )


def undersample(
    sentences: pd.DataFrame, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Leave out training sentences of the more frequent class until both are as many.

    Returns:
        The sentences that stay, and those kept aside.
    """
    training = sentences.index[sentences["part"] == TRAIN]
    labels = sentences.loc[training, "label"]
    counts = labels.value_counts()
    surplus = labels.index[labels == counts.idxmax()]
    left_out = np.random.default_rng(seed).choice(
        surplus, size=counts.max() - counts.min(), replace=False
    )
    aside = sentences.assign(
        reason="left out to balance the training part", stage="balance"
    ).loc[np.sort(left_out), ["source", "row", "id", "label", "reason", "stage"]]
    return sentences.drop(index=left_out).reset_index(drop=True), aside


def _why_unfit(text: str, data) -> str | None:
    words = len(text.split())
    if words < data.min_words:
        return f"fewer than {data.min_words} words"
    if words > data.max_words:
        return f"more than {data.max_words} words"
    return None


def _refuse_labels(sentences: pd.DataFrame, aside: pd.DataFrame) -> None:
    """Refuse data most of whose labels mean nothing to us, or all the same."""
    unknown = aside[aside["reason"].str.startswith("the label is")]
    rows = len(sentences) + len(aside)
    if len(unknown) > rows / 2:
        said = ", ".join(
            f"{row['reason']} ({row['sentences']:,})"
            for row in count_reasons(unknown, "sentence")
        )
        raise ValueError(
            f"{len(unknown):,} of {rows:,} rows have no label that is known: {said}. "
            "Say under data.labels what the data has for each class"
        )
    _require_both(sentences, "the data", aside)


def _require_both(sentences: pd.DataFrame, part: str, aside: pd.DataFrame) -> None:
    labels = sentences["label"].unique()
    if not len(labels):
        raise ValueError(f"{part}: {nothing_left(aside, 'sentence')}")
    if len(labels) == 1:
        raise ValueError(
            f"{part}: all {len(sentences):,} sentences are '{labels[0]}'; expected "
            "both classes"
        )


def _count_by_class(aside: pd.DataFrame) -> list[dict]:
    counts = pd.crosstab(aside["reason"], aside["label"])
    return [
        row | {label: int(counts[label].get(row["reason"], 0)) for label in LABELS}
        if set(LABELS) <= set(counts)
        else row
        for row in count_reasons(aside, "sentence")
    ]


def _describe_parts(sentences: pd.DataFrame) -> dict[str, dict]:
    return {
        part: {
            "sentences": len(rows),
            "employers": count_names(rows["employer"].fillna(rows["advert"])),
            **{
                label: int((rows["label"] == label).sum()) for label in reversed(LABELS)
            },
            "words": sum(len(text.split()) for text in rows["text"]),
        }
        for part in PARTS
        for rows in [sentences[sentences["part"] == part]]
    }
