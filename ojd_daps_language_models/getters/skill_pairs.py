"""Pairs of skills, and sentences of adverts with the skills that they mention."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import pandas as pd

from ojd_daps_language_models.getters.records import (
    Chunk,
    check_records,
    iter_records,
    text_problem,
)
from ojd_daps_language_models.getters.storage import File
from ojd_daps_language_models.getters.tables import Row, read_rows

SKILL_COLUMNS = ("skill", "name", "description", "group", "area")
RELATION_COLUMNS = ("skill", "other")
ASIDE_COLUMNS = ("source", "row", "id", "reason")


class SkillInput(NamedTuple):
    """What a source says of skills.

    pairs: id, skill (missing where only its name tells it from others), name, other
        (another label of it, or in files of pairs a skill like it), score (0 to 1,
        missing where there is none), source, row.
    kept_aside: source, row, id, reason.
    skills: skill, name, description, group (narrow), area (wide); of those that are
        known beside the pairs.
    relations: skill, other; pairs of related skills.
    """

    pairs: pd.DataFrame
    kept_aside: pd.DataFrame
    skills: pd.DataFrame
    relations: pd.DataFrame


def check_pairs(path: str, columns: Mapping[str, str | None]) -> None:
    """Look for the files of pairs and their columns: cheap, for the launch.

    Args:
        path: see `records.iter_records`.
        columns: the file's name of `skill`, `other`, `score` and `id`.

    Raises:
        ValueError: a column `score` would not be read, beside what
            `records.check_records` raises.
        OSError: likewise.
    """
    wanted = pair_columns(columns)
    check_records(path, wanted, "skill_similarity")
    if columns["score"] is None:
        check_records(path, wanted, "skill_similarity", _rows_without_scores)


def read_pairs(
    path: str, columns: Mapping[str, str | None], max_characters: int
) -> SkillInput:
    """Read pairs of skills; rows that cannot be used are kept aside.

    Args:
        path: see `records.iter_records`.
        columns: the file's name of `skill`, `other`, `score` and `id`.
        max_characters: a longer label is kept aside.

    Raises:
        ValueError: most scores are none, beside what `records.iter_records` raises.
        OSError: likewise.
    """
    chunks = list(
        iter_records(
            path,
            pair_columns(columns),
            lambda pair: _problem(pair, columns["score"], max_characters),
            "skill_similarity",
        )
    )
    pairs, aside = (
        pd.concat(tables, ignore_index=True) for tables in zip(*chunks, strict=True)
    )
    _refuse_scores(len(pairs), aside)
    pairs = pairs.rename(columns={"text": "name"})
    pairs["score"] = pairs["score"].astype(float)
    pairs["skill"] = pd.Series(None, pairs.index, dtype="str")
    return SkillInput(
        pairs, aside, empty_table(SKILL_COLUMNS), empty_table(RELATION_COLUMNS)
    )


def pair_columns(columns: Mapping[str, str | None]) -> dict[str, str | None]:
    """The columns of pairs under the names that `records` asks for."""
    others = {name: columns[name] for name in ("id", "other", "score")}
    return {"text": columns["skill"], **others}


def iter_mentions(path: str, columns: Mapping[str, str]) -> Iterator[Chunk]:
    """Read sentences, each with the name of a skill that it mentions.

    Args:
        path: see `records.iter_records`; `sample` is the one of advert sentences.
        columns: the file's name of `text` and `label`.

    Yields:
        sentences: id, text, label, source, row; and those kept aside.
    """

    def judge(mention: dict[str, Any]) -> str | None:
        if mention["label"] is None:
            return "the label is missing"
        return text_problem(mention["text"], 100_000)

    return iter_records(
        path, {"id": None, **columns}, judge, "skill_similarity_sentences"
    )


def empty_table(columns: Sequence[str]) -> pd.DataFrame:
    """A table without rows; its columns are text, but for `row`."""
    return pd.DataFrame(
        {
            name: pd.Series([], dtype="int64" if name == "row" else "str")
            for name in columns
        }
    )


def _rows_without_scores(file: File, columns: Sequence[str]) -> Iterator[Row]:
    """Rows with all their columns; ValueError where `score` is one that is not read."""
    with closing(read_rows(file, None)) as rows:
        for row in rows:
            if "score" in row.values and "score" not in columns:
                raise ValueError(
                    f"{file.name}: has a column 'score', and data.columns.score is "
                    "null, so that all pairs would be learnt as the same skill: name "
                    "it under data.columns.score, or rename the column"
                )
            if not row.problem:
                yield row


def _problem(
    pair: dict[str, Any], score_column: str | None, max_characters: int
) -> str | None:
    """Why a pair cannot be used, None if it can."""
    for ours, called in (("text", "the skill"), ("other", "the other label")):
        if problem := text_problem(pair[ours], max_characters):
            return problem.replace("the text", called)
    if score_column is None:
        return None
    if pair["score"] is None:
        return "the score is missing"
    try:
        score = float(pair["score"])
    except ValueError:
        return "the score is not a number"
    return None if 0 <= score <= 1 else "the score is not between 0 and 1"


def _refuse_scores(usable: int, aside: pd.DataFrame) -> None:
    """Refuse a file most of whose scores are none."""
    unscored = aside[aside["reason"].str.startswith("the score")]
    if len(unscored) > usable:
        first = unscored.iloc[0]
        raise ValueError(
            f"{first['source']}: {len(unscored):,} of {usable + len(aside):,} rows "
            f"have no score that can be used; the first is row {first['row']}: "
            f"{first['reason']}. Expected numbers from 0 to 1 in data.columns.score, "
            "which may be null where all pairs mean the same"
        )
