"""Job adverts, from wherever the user has them, as pandas tables chunk by chunk."""

import logging
import math
import numbers
import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import date
from typing import Any

import pandas as pd

from ojd_daps_language_models.getters.storage import File, list_files, sample_path
from ojd_daps_language_models.getters.tables import EmptyFileError, Row, read_rows

logger = logging.getLogger(__name__)

ADVERT_COLUMNS = ("id", "text", "employer", "title", "date", "source", "row")
KEPT_ASIDE_COLUMNS = ("source", "row", "id", "reason")
# What programs write where a value is missing.
MISSING = {"", "nan", "none", "null", "na", "n/a", "#n/a", "<na>", "nat"}
NUMBER = re.compile(r"\s*[-+]?\d[\d,]*(\.\d+)?(e[-+]?\d+)?%?\s*", re.IGNORECASE)

Chunk = tuple[pd.DataFrame, pd.DataFrame]


def iter_adverts(
    path: str,
    columns: Mapping[str, str | None],
    max_characters: int,
    chunk_rows: int = 10_000,
) -> Iterator[Chunk]:
    """Read adverts chunk by chunk, and set aside the rows that cannot be used.

    Args:
        path: file, folder, glob, `s3://…`, `hf://datasets/owner/name`, or `sample`.
        columns: the file's name of our `text`, `id`, `employer`, `title` and `date`;
            None for those that it does not have. Without an id, and where one is
            missing, it is made: `adverts.csv:12`.
        max_characters: a longer text is kept aside.
        chunk_rows: rows read for each chunk.

    Yields:
        adverts: id, text, employer, title, date (strings, missing where not mapped),
            source (file name), row (from 1 after a header; of JSON Lines, the line).
        kept aside: source, row, id, reason. Among them the rows whose id was seen
            before in any of the files.

    Raises:
        ValueError: a file cannot be read as what it says it is, lacks a column, or no
            file has a row.
        OSError: nothing is there, access is refused, or the connection breaks.
    """
    wanted = _wanted(columns)
    seen: set[int] = set()  # hashes of 64 bits: ids themselves may be long
    adverts, kept_aside = [], []
    for file, row in _rows_of_all(path, wanted):
        advert = _as_advert(file, row, wanted)
        reason = row.problem or _text_problem(advert["text"], max_characters)
        if not reason and hash(advert["id"]) in seen:
            reason = "its id was seen before"
        if reason:
            kept_aside.append(advert | {"reason": reason, "text": None})
        else:
            seen.add(hash(advert["id"]))
            adverts.append(advert | {"text": _encodable(advert["text"])})
        if len(adverts) + len(kept_aside) == chunk_rows:
            yield _as_tables(adverts, kept_aside)
            adverts, kept_aside = [], []
    if adverts or kept_aside:
        yield _as_tables(adverts, kept_aside)


def iter_parts(
    data: str, validation_data: str | None, test_data: str | None, settings
) -> dict[str, Iterator[Chunk]]:
    """The chunks of each part that was given: train, validation, test.

    Args:
        data: path of the adverts to train on; see `iter_adverts`.
        validation_data: path of an official validation part, if there is one.
        test_data: the same for the test part.
        settings: with `columns` and `max_characters`.
    """
    paths = {"train": data, "validation": validation_data, "test": test_data}
    return {
        part: iter_adverts(path, dict(settings.columns), settings.max_characters)
        for part, path in paths.items()
        if path
    }


def check_adverts(path: str, columns: Mapping[str, str | None]) -> list[File]:
    """Look for the files and the columns without reading on: cheap, for the launch.

    Of local files each is opened, of remote ones the first.

    Raises:
        ValueError, OSError: as `iter_adverts`, where the first rows show it.
    """
    files = _files(path)
    wanted = _wanted(columns)
    for file in files[:1] if "://" in files[0].location else files:
        with closing(read_rows(file, list(wanted.values()))) as rows:
            try:
                next(rows)
            except EmptyFileError:
                if len(files) == 1:
                    raise
    return files


def _files(path: str) -> list[File]:
    return list_files(str(sample_path("mlm")) if path == "sample" else path)


def _wanted(columns: Mapping[str, str | None]) -> dict[str, str]:
    wanted = {ours: theirs for ours, theirs in columns.items() if theirs is not None}
    if "text" not in wanted:
        raise ValueError("the column of the text is not given; only others may be null")
    return wanted


def _rows_of_all(path: str, wanted: Mapping[str, str]) -> Iterator[tuple[File, Row]]:
    """The rows of all files; one without rows is no fault where others have some."""
    files = _files(path)
    columns = list(dict.fromkeys(wanted.values()))
    empty = 0
    for file in files:
        try:
            for row in read_rows(file, columns):
                yield file, row
        except EmptyFileError as error:
            if len(files) == 1:
                raise
            logger.warning("%s", error)
            empty += 1
    if empty == len(files):
        raise ValueError(f"{path}: none of its {len(files)} files has a row")


def _as_advert(file: File, row: Row, wanted: Mapping[str, str]) -> dict[str, Any]:
    advert = dict.fromkeys(ADVERT_COLUMNS)
    for ours, theirs in wanted.items():
        value = row.values.get(theirs)
        advert[ours] = value if ours == "text" else _as_text(value)
    if not row.problem:
        # pandas writes a column of whole numbers with gaps as 1.0, 2.0
        own = re.sub(r"^(-?\d+)\.0+$", r"\1", advert["id"] or "")
        advert["id"] = own or f"{file.name}:{row.number}"
    return advert | {"source": file.name, "row": row.number}


def _text_problem(text: Any, max_characters: int) -> str | None:
    if text is None or (isinstance(text, float) and math.isnan(text)):
        return "the text is missing"
    if isinstance(text, numbers.Number):
        return "the text is a number"
    if not isinstance(text, str):
        return "the text is a list, an object or a date"
    if len(text) > max_characters:
        return f"the text is longer than {max_characters:,} characters"
    if len(text) < 40:
        if not text.strip():
            return "the text is empty"
        if text.strip().lower() in MISSING:
            return "the text is missing"
        if NUMBER.fullmatch(text):
            return "the text is a number"
    return "the text is empty" if text.isspace() else None


def _as_text(value: Any) -> str | None:
    """A value as text, None where it is missing or only says so."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    elif isinstance(value, date):  # a datetime is one too
        value = value.isoformat().removesuffix("T00:00:00")
    text = _encodable(str(value)).strip()
    return None if text.lower() in MISSING else text


def _encodable(text: str) -> str:
    """The text without halves of surrogate pairs: JSON can carry them, Arrow not."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _as_tables(adverts: list[dict], kept_aside: list[dict]) -> Chunk:
    return (
        _as_table(adverts, ADVERT_COLUMNS),
        _as_table(kept_aside, KEPT_ASIDE_COLUMNS),
    )


def _as_table(rows: list[dict], columns: tuple[str, ...]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            name: pd.Series(
                [row[name] for row in rows], dtype="int64" if name == "row" else "str"
            )
            for name in columns
        }
    )
