"""Rows of files as records of a task, chunk by chunk, and those that are unfit."""

import logging
import math
import numbers
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import date
from typing import Any

import pandas as pd

from ojd_daps_language_models.configs import MISSING
from ojd_daps_language_models.getters.storage import (
    FORMATS,
    File,
    list_files,
    sample_path,
)
from ojd_daps_language_models.getters.tables import EmptyFileError, Row, read_rows

logger = logging.getLogger(__name__)

MOST_LOOKED_AT = 20  # of files on S3: some seconds
NUMBER = re.compile(r"\s*[-+]?\d[\d,]*(\.\d+)?(e[-+]?\d+)?%?\s*", re.IGNORECASE)

Chunk = tuple[pd.DataFrame, pd.DataFrame]
# From a file and the names of its columns to its rows.
Reader = Callable[[File, Sequence[str]], Iterator[Row]]


def iter_records(
    path: str | Sequence[File],
    columns: Mapping[str, str | None],
    judge: Callable[[dict[str, Any]], str | None],
    task: str,
    chunk_rows: int = 10_000,
    aside: Sequence[str] = (),
    read: Reader = read_rows,
    formats: Mapping[str, str] = FORMATS,
    objects: Sequence[str] = (),
) -> Iterator[Chunk]:
    """Read records chunk by chunk, and keep aside the rows that cannot be used.

    Args:
        path: file, folder, glob, `s3://…`, `hf://datasets/owner/name`, or `sample`; or
            some of the files of one, which need have no row.
        columns: the file's name of each of ours, among them `text` and `id`; None for
            those that it does not have. Without an id, and where one is missing, it is
            made: `adverts.csv:12`.
        judge: why a record cannot be used, None if it can; it may amend the record. The
            text is as it was in the file, the other values are text or None.
        task: whose sample `sample` is.
        chunk_rows: rows read for each chunk.
        aside: columns that are kept of rows kept aside too.
        read: from a file and the names of its columns to rows.
        formats: suffixes of the files that `read` can read.
        objects: columns that stay what they are, whatever that is.

    Yields:
        records: our columns (strings, missing where not mapped), source (file name),
            row (from 1 after a header; of JSON Lines, the line).
        kept aside: source, row, id, those of `aside`, reason. Among them the rows whose
            id was seen before in any of the files.

    Raises:
        ValueError: a file cannot be read as what it says it is, lacks a column, or no
            file has a row.
        OSError: nothing is there, access is refused, or the connection breaks.
    """
    wanted = _wanted(columns)
    seen: set[int] = set()  # hashes of 64 bits: ids themselves may be long
    records, kept_aside = [], []
    aside_columns = ["source", "row", "id", *aside, "reason"]  # no text: it may be long

    def as_tables() -> Chunk:
        return (
            _as_table(records, [*columns, "source", "row"], objects),
            _as_table(kept_aside, aside_columns),
        )

    for file, row in _rows_of_all(path, wanted, task, read, formats):
        record = _as_record(file, row, columns, objects)
        reason = row.problem or judge(record)
        if not reason and hash(record["id"]) in seen:
            reason = "its id was seen before"
        if reason:
            record["reason"] = reason
            kept_aside.append({name: record[name] for name in aside_columns})
        else:
            seen.add(hash(record["id"]))
            records.append(record | {"text": _encodable(record["text"])})
        if len(records) + len(kept_aside) == chunk_rows:
            yield as_tables()
            records, kept_aside = [], []
    if records or kept_aside:
        yield as_tables()


def iter_parts(
    read: Callable[[str], Iterator[Chunk]],
    data: str,
    validation_data: str | None,
    test_data: str | None,
) -> dict[str, Iterator[Chunk]]:
    """The chunks of each part that was given: train, validation, test.

    Args:
        read: from a path to chunks.
        data: path of what to train on.
        validation_data: path of an official validation part, if there is one.
        test_data: the same for the test part.
    """
    paths = {"train": data, "validation": validation_data, "test": test_data}
    return {part: read(path) for part, path in paths.items() if path}


def check_records(
    path: str,
    columns: Mapping[str, str | None],
    task: str,
    read: Reader = read_rows,
    formats: Mapping[str, str] = FORMATS,
) -> list[File]:
    """Look for the files and the columns without reading on: cheap, for the launch.

    Local files are all opened, of those on S3 at most 20, evenly spread, and of those
    on the hub, which are downloaded to be opened, as many as it takes to find a row.

    Raises:
        ValueError, OSError: as `iter_records`, where the first rows show it.
    """
    files = _files(path, task, formats)
    wanted = list(_wanted(columns).values())

    def has_row(file: File) -> bool:
        with closing(read(file, wanted)) as rows:
            try:
                next(rows, None)
            except EmptyFileError:
                if len(files) == 1:
                    raise
                return False
        return True

    if files[0].location.startswith("s3://"):
        step = math.ceil(len(files) / MOST_LOOKED_AT)
        if step > 1:
            print(f"{path}: of {len(files):,} files, one in {step} is looked at now")
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(has_row, files[::step]))
    elif "://" in files[0].location:
        any(map(has_row, files))
    else:
        list(map(has_row, files))
    return files


def text_problem(text: Any, max_characters: int) -> str | None:
    """Why a value cannot be the text of a record, None if it can."""
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


def _files(path: str, task: str, formats: Mapping[str, str]) -> list[File]:
    return list_files(str(sample_path(task)) if path == "sample" else path, formats)


def _wanted(columns: Mapping[str, str | None]) -> dict[str, str]:
    wanted = {ours: theirs for ours, theirs in columns.items() if theirs is not None}
    if "text" not in wanted:
        raise ValueError("the column of the text is not given; only others may be null")
    return wanted


def _rows_of_all(
    path: str | Sequence[File],
    wanted: Mapping[str, str],
    task: str,
    read: Reader,
    formats: Mapping[str, str],
) -> Iterator[tuple[File, Row]]:
    """The rows of all files; one without rows is no fault where others have some."""
    is_whole = isinstance(path, str)
    files = _files(path, task, formats) if is_whole else path
    columns = list(dict.fromkeys(wanted.values()))
    empty = 0
    for file in files:
        try:
            for row in read(file, columns):
                yield file, row
        except EmptyFileError as error:
            if is_whole and len(files) == 1:
                raise
            logger.warning("%s", error)
            empty += 1
    if is_whole and empty == len(files):
        raise ValueError(f"{path}: none of its {len(files)} files has a row")


def _as_record(
    file: File,
    row: Row,
    columns: Mapping[str, str | None],
    objects: Sequence[str],
) -> dict[str, Any]:
    record = {}
    for ours, theirs in columns.items():
        value = None if theirs is None else row.values.get(theirs)
        as_it_is = ours == "text" or ours in objects
        record[ours] = value if as_it_is else _as_text(value)
    if not row.problem:
        record["id"] = record["id"] or f"{file.name}:{row.number}"
    return record | {"source": file.name, "row": row.number}


def _as_text(value: Any) -> str | None:
    """A value as text, None where it is missing or only says so."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    elif isinstance(value, date):  # a datetime is one too
        value = value.isoformat().removesuffix("T00:00:00")
    text = _encodable(str(value)).strip()
    # pandas writes a column of whole numbers with gaps as 1.0, 2.0
    text = re.sub(r"^(-?\d+)\.0+$", r"\1", text)
    return None if text.lower() in MISSING else text


def _encodable(text: str) -> str:
    """The text without halves of surrogate pairs: JSON can carry them, Arrow not."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _as_table(
    rows: list[dict], columns: Sequence[str], objects: Sequence[str] = ()
) -> pd.DataFrame:
    kinds = {"row": "int64"} | dict.fromkeys(objects, "object")
    return pd.DataFrame(
        {
            name: pd.Series([row[name] for row in rows], dtype=kinds.get(name, "str"))
            for name in columns
        }
    )
