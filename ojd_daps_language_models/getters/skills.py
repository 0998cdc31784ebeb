"""Skills of either kind of source, for each part that was given."""

from collections.abc import Sequence
from pathlib import PurePosixPath

import pandas as pd

from ojd_daps_language_models.getters.esco import check_esco, is_esco, read_esco
from ojd_daps_language_models.getters.records import Chunk, check_records
from ojd_daps_language_models.getters.skill_pairs import (
    ASIDE_COLUMNS,
    SkillInput,
    check_pairs,
    empty_table,
    iter_mentions,
    read_pairs,
)

MENTION_COLUMNS = ("file", "text", "label", "source", "row")


def check_skills(path: str, settings) -> None:
    """Look for files and columns without reading on: cheap, for the launch.

    Args:
        path: of pairs, or of ESCO's export.
        settings: with `format`, `language` and `columns`.

    Raises:
        ValueError, OSError: as `read_skills`, where the first rows show it; and a
            column `score` that would not be read.
    """
    if _is_esco(path, settings):
        check_esco(path, settings.language)
    else:
        check_pairs(path, dict(settings.columns))


def check_mentions(data: str, settings) -> None:
    """The same for the files of `data.sentences`, beside the skills in `data`."""
    for path in _mention_paths(data, settings):
        columns = dict(settings.sentence_columns)
        check_records(path, columns, "skill_similarity_sentences")


def read_skills(
    data: str, validation_data: str | None, test_data: str | None, settings
) -> dict[str, SkillInput]:
    """What is known of skills in each part that was given: train, validation, test.

    Args:
        data: path of the skills to train on.
        validation_data: path of an official validation part, if there is one.
        test_data: the same for the test part.
        settings: the section `data` of the configuration.
    """
    paths = {"train": data, "validation": validation_data, "test": test_data}
    return {part: _read(path, settings) for part, path in paths.items() if path}


def read_mentions(data: str, settings) -> Chunk:
    """Sentences of adverts with the skills that they mention.

    Args:
        data: path of the skills; the sentences of the sample mention skills of the
            sample, and are left out beside others.
        settings: with `sentences` and `sentence_columns`.

    Returns:
        mentions: file (its name without ending; where several have it, with it and
            the folders that tell them apart), text, label, source, row; a row for
            each skill that a sentence mentions.
        kept aside: source, row, id, reason.
    """
    mentions, aside = [empty_table(MENTION_COLUMNS)], [empty_table(ASIDE_COLUMNS)]
    paths = _mention_paths(data, settings)
    if len(paths) < len(settings.sentences):
        print("sentences: those of the sample are left out, for the data are others")
    for path in paths:
        for rows, unusable in iter_mentions(path, dict(settings.sentence_columns)):
            places = [
                str(PurePosixPath(path.removesuffix(source), source))
                for source in rows["source"]
            ]
            mentions.append(rows.assign(file=places)[list(MENTION_COLUMNS)])
            aside.append(unusable)
    found, unusable = (
        pd.concat(tables, ignore_index=True) for tables in (mentions, aside)
    )
    names = _names(found["file"].unique())
    return found.assign(file=found["file"].map(names).astype("str")), unusable


def _names(places: Sequence[str]) -> dict[str, str]:
    """What to call each file in scores, which are published: as little as will do."""
    names = [PurePosixPath(place.removesuffix(".gz")).stem for place in places]
    count = 0
    while len(set(names)) < len(names):
        count += 1
        names = ["/".join(PurePosixPath(place).parts[-count:]) for place in places]
    return dict(zip(places, names, strict=True))


def _read(path: str, settings) -> SkillInput:
    if _is_esco(path, settings):
        return read_esco(path, settings.language)
    return read_pairs(path, dict(settings.columns), settings.max_characters)


def _mention_paths(data: str, settings) -> list[str]:
    return [path for path in settings.sentences if path != "sample" or data == path]


def _is_esco(path: str, settings) -> bool:
    if settings.format != "auto":
        return settings.format == "esco" and path != "sample"
    return path != "sample" and is_esco(path)
