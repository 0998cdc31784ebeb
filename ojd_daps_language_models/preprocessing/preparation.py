"""What all texts go through, adverts, sentences or others: clean, deduplicate, divide.

The tables have at least the columns id, text, employer, source, row and part. Those of
rows kept aside have source, row, id, reason, and `stage`, which is missing for rows
that the getter could not use. `unit` is what a row is called: advert, sentence or text.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from ojd_daps_language_models.preprocessing.cleaning import clean_text
from ojd_daps_language_models.preprocessing.duplicates import (
    choose_representatives,
    cluster_fingerprints,
    fingerprint,
)
from ojd_daps_language_models.preprocessing.overlap import (
    check_overlap,
    measure_overlap,
)
from ojd_daps_language_models.preprocessing.personal_data import (
    replace_names,
    replace_personal_data,
)
from ojd_daps_language_models.preprocessing.sentences import (
    load_sentence_pipeline,
    split_sentences,
)
from ojd_daps_language_models.preprocessing.splits import (
    PARTS,
    TEST,
    TRAIN,
    VALIDATION,
    as_keys,
    linked_groups,
    split_groups,
)
from ojd_daps_language_models.progress import progress_bar

MOST_FILES = 3  # that a message names
REPEATED = "its id was seen before"  # as the getter says it
MOST_REASONS = 20  # a column that is no label at all has as many as there are rows

Chunk = tuple[pd.DataFrame, pd.DataFrame]


def read_clean(
    given: dict[str, Iterable[Chunk]],
    config,
    nlp,
    why_unfit: Callable[[str], str | None],
    clean: Callable[[str], str] = clean_text,
) -> tuple[pd.DataFrame, pd.DataFrame, Counter]:
    """Read the chunks of all parts, clean their texts, replace personal data.

    Args:
        given: chunks of (rows, kept aside) from a getter, for each part.
        config: with the section `personal_data`.
        nlp: pipeline that finds names, None where they stay.
        why_unfit: from a cleaned text to the reason why it cannot be used.
        clean: what a text goes through before personal data is looked for.

    Returns:
        Rows with their part, rows kept aside, and how many of each kind of personal
        data were replaced.

    Raises:
        ValueError: most ids of a part repeat.
    """
    replaced = Counter()
    kept, aside = [], []
    for part, chunks in given.items():
        bar = progress_bar(f"reading {part}", "chunk", None, chunks)
        read, unusable = 0, []
        for rows, unreadable in bar:
            read += len(rows) + len(unreadable)
            unusable.append(unreadable)
            rows, reasons, counts = clean_rows(rows, config, nlp, why_unfit, clean)
            rows = rows.assign(part=part)
            for count in counts:
                replaced.update(count)
            unfit = rows.assign(reason=reasons, stage="unfit")[reasons.notna()]
            kept.append(rows[reasons.isna()])
            aside += [unreadable, unfit[[*unreadable.columns, "stage"]]]
        refuse_repeated_ids(pd.concat(unusable), read)
    rows = pd.concat(kept, ignore_index=True)
    return rows, pd.concat(aside, ignore_index=True), replaced


def refuse_repeated_ids(aside: pd.DataFrame, count: int) -> None:
    """Refuse a part most of whose rows are kept aside for their ids.

    Args:
        aside: rows kept aside (source, id, reason).
        count: all rows of the part, as they were read.
    """
    repeated = aside[aside["reason"] == REPEATED]
    if len(repeated) > count / 2:
        raise ValueError(
            f"{name_files(repeated)}: {len(repeated):,} of {count:,} rows have an id "
            f"that was seen before, such as '{repeated['id'].iloc[0]}'; expected one "
            "for each row: name another column under data.columns.id, or null"
        )


def clean_rows(
    rows: pd.DataFrame,
    config,
    nlp,
    why_unfit: Callable[[str], str | None],
    clean: Callable[[str], str] = clean_text,
) -> tuple[pd.DataFrame, pd.Series, list[dict[str, int]]]:
    """Clean the texts of a chunk, and replace personal data.

    Args:
        rows: with the column text.
        config: with the section `personal_data`.
        nlp: pipeline that finds names, None where they stay.
        why_unfit: from a cleaned text to the reason why it cannot be used.
        clean: what a text goes through before personal data is looked for.

    Returns:
        The rows, why each cannot be used (missing where it can), and how many of each
        kind of personal data were replaced in it.
    """
    texts, counts = [], []
    for text in map(clean, rows["text"]):
        text, count = replace_personal_data(text, config.personal_data.phone_regions)
        texts.append(text)
        counts.append(count)
    if nlp:
        named = list(replace_names(texts, nlp))
        texts = [text for text, _ in named]
        for count, (_, names) in zip(counts, named, strict=True):
            count["name"] = names
    rows = rows.assign(text=pd.Series(texts, rows.index, dtype="str"))
    reasons = pd.Series(map(why_unfit, texts), rows.index, dtype="str")
    return rows, reasons, counts


def drop_duplicates(
    rows: pd.DataFrame, threshold: float, unit: str, columns: Sequence[str] = ()
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Keep one training text of each cluster, none that resembles a held-out one.

    Args:
        threshold: Jaccard similarity of near-duplicates.
        columns: of the rows kept aside, beside those that all have.

    Returns:
        Rows with the numbers of their clusters, `exact` and `near`, and the others.
    """
    rows = number_clusters(rows, threshold, unit)
    rows_of = rows[["exact", "near", "part", "id"]]
    reasons = judge_duplicates(rows_of.assign(characters=rows["text"].str.len()), unit)
    kept = reasons.isna()
    repeated = rows.assign(reason=reasons, stage="duplicate")[~kept]
    columns = ["source", "row", "id", *columns, "reason", "stage"]
    return rows[kept].reset_index(drop=True), repeated[columns]


def judge_duplicates(rows: pd.DataFrame, unit: str) -> pd.Series:
    """Why each row is left out as a duplicate, missing where it is kept.

    Args:
        rows: columns exact and near (numbers of clusters), part, characters, id.
    """
    training = rows["part"] == TRAIN
    held_out = rows["near"].isin(rows.loc[~training, "near"]) & training
    pool = rows[training & ~held_out]
    pool = pool[pool["near"].duplicated(keep=False)]
    first = choose_representatives(
        pool[["exact", "near"]], pool["characters"], pool["id"]
    )
    kept = ~held_out
    kept[pool.index[~first]] = False
    same = rows["exact"].isin(rows.loc[kept, "exact"])
    reason = np.where(same, "exact duplicate", "near duplicate")
    reason = np.where(held_out, f"duplicate of a held-out {unit}", reason)
    return pd.Series(reason, rows.index, dtype="str").mask(kept)


def number_clusters(rows: pd.DataFrame, threshold: float, unit: str) -> pd.DataFrame:
    """Rows with the numbers of their clusters of duplicates, `exact` and `near`."""
    if "near" in rows:
        return rows
    exact, signatures = fingerprint(
        progress_bar("finding duplicates", unit, len(rows), rows["text"])
    )
    clusters = cluster_fingerprints(exact, signatures, threshold)
    return rows.assign(exact=clusters["exact"], near=clusters["near"])


def split_off(
    rows: pd.DataFrame,
    given: Iterable[str],
    keys: Sequence[pd.Series],
    split,
    unit: str,
) -> pd.Series:
    """The part of each row; only what the user did not bring is split off.

    Args:
        given: parts that the user brought.
        keys: what keeps rows together, first what groups are called after: when rows
            are added, an employer then stays on its side.
        split: with the shares `validation` and `test`, and `seed`.

    Raises:
        ValueError: no training row is left, or there are fewer groups than parts.
    """
    parts = rows["part"].copy()
    training = parts == TRAIN
    if not training.any():
        raise ValueError(f"no training {unit} is left: all resemble held-out ones")
    try:
        parts[training] = split_groups(
            linked_groups(*(key[training] for key in keys)),
            validation=0 if VALIDATION in given else split.validation,
            test=0 if TEST in given else split.test,
            seed=split.seed,
            unit=unit,
        )
    except ValueError as error:
        raise ValueError(f"{name_files(rows[training])}: {error}") from error
    return parts


def keep_choosing_apart(rows: pd.DataFrame, limit: float, unit: str) -> None:
    """Refuse official parts that would choose the epoch by what is then scored."""
    near = {part: rows.loc[rows["part"] == part, "near"] for part in PARTS}
    share = near[VALIDATION].isin(near[TEST]).mean()
    if share > limit:
        raise ValueError(
            f"validation: {share:.1%} of its {unit}s have a near-duplicate in test, "
            f"and the limit is {limit:.1%}; bring parts that are apart"
        )


def compare_parts(
    rows: pd.DataFrame, nlp, threshold: float, unit: str
) -> dict[str, dict]:
    """What of each held-out part stands in training: see `overlap.measure_overlap`."""
    overlap = measure_overlap(
        _sentences(rows.loc[rows["part"] == TRAIN, "text"], TRAIN, nlp, unit),
        {
            part: _sentences(texts, part, nlp, unit)
            for part, texts in held_out_texts(rows).items()
        },
        threshold,
    )
    shared = count_shared_employers(rows)
    for part, numbers in overlap.items():
        numbers["employers_in_train"] = shared[part]
    return _named(overlap, unit)


def held_out_texts(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """The texts of validation and of test."""
    return {part: rows.loc[rows["part"] == part, "text"] for part in (VALIDATION, TEST)}


def count_shared_employers(rows: pd.DataFrame) -> dict[str, int]:
    """How many employers of each held-out part have training rows too."""
    train, *held_out = (
        set(as_keys(rows.loc[rows["part"] == part, "employer"].unique()).dropna())
        for part in (TRAIN, VALIDATION, TEST)
    )
    shared = [len(own & train) for own in held_out]
    return dict(zip((VALIDATION, TEST), shared, strict=True))


def count_names(column: pd.Series) -> int:
    """How many employers, or adverts, are named in a column."""
    return as_keys(column.unique()).nunique()


def measure_seen(
    texts: Iterable[str] | None,
    held_out: Mapping[str, Collection[str]],
    threshold: float,
    unit: str,
) -> dict[str, dict] | None:
    """What of the held-out parts a checkpoint was trained on in an earlier run.

    Args:
        texts: that the checkpoint was trained on; None where that is not known.
        held_out: texts of each of those parts.
    """
    if texts is None:
        return None
    nlp = load_sentence_pipeline()
    seen = measure_overlap(
        split_sentences(texts, nlp),
        {part: _sentences(own, part, nlp, unit) for part, own in held_out.items()},
        threshold,
    )
    for part, numbers in seen.items():
        print(
            f"{part}: {numbers['verbatim']:.1%} of its sentences, "
            f"{numbers['near']:.1%} of its {unit}s stand in what the checkpoint was "
            "trained on"
        )
    return _named(seen, unit)


def refuse_overlap(overlap: dict[str, dict], split) -> None:
    """Raise ValueError for a held-out part that stands in training beyond a limit.

    Args:
        overlap: from `compare_parts`.
        split: with the limits `max_verbatim_overlap` and `max_near_overlap`.
    """
    limits = {"verbatim": split.max_verbatim_overlap, "near": split.max_near_overlap}
    for part, numbers in overlap.items():
        check_overlap(numbers, limits, part)


def print_kept(kept: int, aside: pd.DataFrame, unit: str) -> None:
    """Say what is left before the split, which may fail for what is missing."""
    print(f"{kept:,} {unit}s kept, {len(aside):,} kept aside")
    for row in count_reasons(aside, unit):
        print(f"kept aside: {row['reason']} ({row[f'{unit}s']:,})")


def count_reasons(aside: pd.DataFrame, unit: str) -> list[dict]:
    """How many rows were kept aside, by reason; of equal numbers by the alphabet."""
    counts = aside["reason"].value_counts().sort_index()
    counts = counts.sort_values(ascending=False, kind="stable")
    rows = [
        {"reason": reason, f"{unit}s": int(count)}
        for reason, count in counts[:MOST_REASONS].items()
    ]
    if len(counts) > MOST_REASONS:
        rows.append({"reason": "others", f"{unit}s": int(counts[MOST_REASONS:].sum())})
    return rows


def funnel(
    aside: pd.DataFrame, kept: int, unit: str, stages: dict[str, str]
) -> list[dict]:
    """Rows left after each stage.

    Args:
        stages: what is left after each stage, in words, in their order.
    """
    counts = aside["stage"].fillna("unreadable").value_counts()
    left = kept + len(aside)
    rows = [{"stage": "rows read", f"{unit}s": left}]
    for stage, label in stages.items():
        left -= int(counts.get(stage, 0))
        rows.append({"stage": label, f"{unit}s": left})
    return rows


def hash_parts(*columns: Iterable[str]) -> str:
    """A fingerprint of rows, such as parts and texts, that ignores their order."""
    return hash_digests(hash_rows(*columns))


def hash_rows(*columns: Iterable[str]) -> list[bytes]:
    """A digest of 16 bytes of each row."""
    return [
        hashlib.blake2b("\n".join(values).encode(), digest_size=16).digest()
        for values in zip(*columns, strict=True)
    ]


def hash_digests(digests: Iterable[bytes]) -> str:
    """The fingerprint of rows that have these digests, in any order."""
    return hashlib.blake2b(b"".join(sorted(digests)), digest_size=16).hexdigest()


def nothing_left(aside: pd.DataFrame, unit: str) -> str:
    """Say why no row is left, and which was the first to go.

    Args:
        aside: columns source, row and reason.
    """
    reasons = ", ".join(
        f"{row['reason']} ({row[f'{unit}s']:,})" for row in count_reasons(aside, unit)
    )
    if not reasons:
        return f"no {unit} is left: the input is empty; expected one at least"
    first = aside.iloc[0]
    return (
        f"no {unit} is left; kept aside: {reasons}, of {name_files(aside)}; the first "
        f"is row {first['row']}: {first['reason']}; expected at least one "
        f"{unit} to which none of this applies"
    )


def name_files(rows: pd.DataFrame) -> str:
    """The first files that rows come from."""
    return ", ".join(rows["source"].unique()[:MOST_FILES])


def _named(overlap: dict[str, dict], unit: str) -> dict[str, dict]:
    """Counts of `overlap.measure_overlap` under the name of what was compared."""
    if unit == "advert":
        return overlap
    return {
        part: {key.replace("adverts", "rows"): value for key, value in numbers.items()}
        for part, numbers in overlap.items()
    }


def _sentences(
    texts: Collection[str], part: str, nlp, unit: str
) -> Iterator[list[str]]:
    return split_sentences(
        progress_bar(f"comparing {part}", unit, len(texts), texts), nlp
    )
