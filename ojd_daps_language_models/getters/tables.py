"""What the bytes mean: rows of CSV, JSON Lines, JSON and Parquet files, one by one.

Rows come with their number, and one that cannot be read comes with the reason, so that
a caller can count it. No file is ever held as a whole.

CSV is read by the standard library: pyarrow's reader is three times as fast, but needs
0.6 GB for what takes none here, refuses a value that is longer than its block, and
cannot read a file in which single bytes are not UTF-8.
"""

import codecs
import csv
import difflib
import gzip
import io
import json
import logging
import re
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice, repeat
from pathlib import Path
from shutil import copyfileobj
from traceback import extract_tb
from typing import Any, BinaryIO, NamedTuple, TextIO

from ojd_daps_language_models.getters.storage import (
    FORMATS,
    File,
    explained_faults,
    file_suffix,
    open_file,
)

logger = logging.getLogger(__name__)

BUFFER = 2**20
LONGEST_VALUE = 2**26  # characters; no value of a sound file is longer
RECORDS_WITH_ALL_COLUMNS = 1000
BINARY = {
    b"PK\x03\x04": "a zip file or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"PAR1": "a Parquet file",
    b"%PDF": "a PDF",
    b"BZh": "bzip2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ": "xz",
    b"\xff\xfe": "UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8",
}


class Row(NamedTuple):
    """A row of a file: its values by column, or the reason why they cannot be read.

    number: counted from 1 after the header; of JSON Lines, the line.
    """

    number: int
    values: Mapping[str, Any]
    problem: str | None = None


class EmptyFileError(ValueError):
    """No row is in a file, which may be no fault where it is one of many."""


class MissingColumnError(ValueError):
    """A file lacks a column.

    fault: which, and what was found, without a word on the configuration.
    """

    def __init__(self, fault: str):
        stop = "" if fault.endswith("?") else "."
        super().__init__(
            f"{fault}{stop} Your names of columns, or null, go into the configuration"
        )
        self.fault = fault


def read_rows(file: File, columns: Sequence[str] | None) -> Iterator[Row]:
    """Read the named columns of a file row by row; None: all that a row has.

    Gzip is recognised by its first bytes, a byte order mark is skipped, and bytes that
    are not UTF-8 are read as Windows-1252, with a warning. Values of CSV are strings;
    those of the other formats have the types of the file.

    Raises:
        EmptyFileError: the file has no rows.
        ValueError: it lacks a column, is not of the format that its name says, is cut
            short, or most of its rows cannot be read.
        OSError: it cannot be opened, or the connection breaks for good.
    """
    suffix = file_suffix(file.name)
    if suffix not in FORMATS:
        expected = f"expected {', '.join(FORMATS)}, or one of them with .gz"
        raise ValueError(f"{file.name}: unknown format '{suffix}'; {expected}")
    count = broken = 0
    first_problem = ""
    with open_stream(file, FORMATS[suffix]) as stream:
        head = stream.peek(BUFFER)
        if suffix == ".parquet":
            rows = _parquet_rows(stream, file, columns)
        else:
            text = as_text(stream, file, FORMATS[suffix])
            if suffix in (".csv", ".tsv"):
                rows = _csv_rows(text, file, columns)
            else:
                is_array = head.removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"["
                rows = _json_rows(text, is_array, file, columns)
        for row in rows:
            count += 1
            if row.problem:
                broken += 1
                first_problem = first_problem or f"row {row.number}: {row.problem}"
            yield row
    if not count:
        raise EmptyFileError(f"{file.name}: no rows; expected at least one record")
    if broken > count / 2:
        raise ValueError(
            f"{file.name}: {broken:,} of {count:,} rows cannot be read as "
            f"{FORMATS[suffix]}; the first is {first_problem}"
        )


@contextmanager
def open_stream(file: File, expected: str) -> Iterator[io.BufferedReader]:
    """Open a file, unpacked; its faults within the context become one clear line.

    Raises:
        EmptyFileError: no byte is in it; the message says what was `expected`.
        ValueError, OSError: as `read_rows`.
    """
    with (
        explained_faults(file.location),
        open_file(file) as stored,
        _explained_gzip_faults(file),
    ):
        stream = _decompressed(stored)
        if not stream.peek(1):
            raise EmptyFileError(f"{file.name}: an empty file; expected {expected}")
        yield stream


def as_text(stream: io.BufferedReader, file: File, expected: str) -> TextIO:
    """The text of a stream, read as `read_rows` says; ValueError where it is none."""
    _refuse_binary(stream.peek(BUFFER)[:4096], file, expected)
    return io.TextIOWrapper(stream, "utf-8-sig", _as_windows_1252(file), newline="")


@contextmanager
def seekable(stream: io.BufferedReader) -> Iterator[BinaryIO]:
    """A stream that can be read from its end: what was gzip is unpacked first."""
    if not isinstance(stream.raw, gzip.GzipFile):
        yield stream
        return
    with tempfile.TemporaryFile() as unpacked:
        copyfileobj(stream, unpacked, BUFFER)
        unpacked.seek(0)
        yield unpacked


def parquet_groups(file: File) -> list[tuple[int, int]]:
    """Number and bytes of each row group of a Parquet file that has rows.

    Raises:
        ValueError, OSError: as `read_rows`.
    """
    from pyarrow import parquet

    with open_stream(file, FORMATS[".parquet"]) as stream, seekable(stream) as whole:
        with _explained_parquet_faults(file):
            metadata = parquet.read_metadata(whole)
        groups = map(metadata.row_group, range(metadata.num_row_groups))
        return [
            (number, group.total_byte_size)
            for number, group in enumerate(groups)
            if group.num_rows
        ]


def check_columns(file: File, columns: Sequence[str], found: Sequence[str]) -> None:
    """Raise where one is there twice, or missing: with those found and the nearest."""
    if repeated := [name for name in columns if found.count(name) > 1]:
        raise ValueError(f"{file.name}: two columns are called '{repeated[0]}'")
    missing = [name for name in columns if name not in found]
    if not missing:
        return
    shown = ", ".join(f"'{name[:60]}'" for name in list(found)[:30])
    message = (
        f"{file.name}: no column {', '.join(repr(name) for name in missing)}; "
        f"found {shown or 'none'}"
    )
    lowered = {name.lower(): name for name in found}
    for name in missing:
        near = difflib.get_close_matches(name.lower(), lowered, n=1)
        if near:
            message += f"; did you mean '{lowered[near[0]]}' for '{name}'?"
    raise MissingColumnError(message)


def _decompressed(stored: BinaryIO) -> io.BufferedReader:
    stream = io.BufferedReader(stored, BUFFER)
    if stream.peek(2)[:2] == b"\x1f\x8b":
        return io.BufferedReader(gzip.GzipFile(fileobj=stream), BUFFER)
    return stream


@contextmanager
def _explained_gzip_faults(file: File) -> Iterator[None]:
    try:
        yield
    except EOFError as error:
        raise ValueError(
            f"{file.name}: the gzip file is cut short; copy or download it again"
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{file.name}: the gzip file is damaged ({error})") from error


@contextmanager
def _explained_parquet_faults(file: File) -> Iterator[None]:
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowInvalid, OSError) as error:
        if Path(extract_tb(error.__traceback__)[-1].filename).parent.name != "pyarrow":
            raise  # the stream's own, of S3 or gzip, which has its explanation
        fault = " ".join(str(error).split())
        raise ValueError(
            f"{file.name}: not Parquet, or cut short or damaged ({fault}); copy it "
            "again"
        ) from error


def _refuse_binary(head: bytes, file: File, expected: str) -> None:
    kind = next(
        (kind for start, kind in BINARY.items() if head.startswith(start)), None
    )
    if kind or b"\0" in head:
        raise ValueError(
            f"{file.name}: binary content ({kind or 'of an unknown kind'}); expected "
            f"{expected}"
        )


def _as_windows_1252(file: File) -> str:
    """Register and name an error handler that reads the wrong bytes, with a warning."""
    noted = False

    def decode(error: UnicodeError) -> tuple[str, int]:
        nonlocal noted
        if not noted:
            logger.warning("%s: not UTF-8 throughout; read as Windows-1252", file.name)
            noted = True
        wrong = error.object[error.start : error.end]
        return wrong.decode("cp1252", "replace"), error.end

    name = f"Windows-1252 in {file.location}"
    codecs.register_error(name, decode)
    return name


def _csv_rows(text: TextIO, file: File, columns: Sequence[str] | None) -> Iterator[Row]:
    separator = "\t" if file_suffix(file.name) == ".tsv" else ","
    csv.field_size_limit(LONGEST_VALUE)
    reader = csv.reader(text, delimiter=separator, strict=True)
    header, number = [], 0
    try:
        header = next(filter(None, reader), [])
        if len(header) == 1:
            _refuse_separator(header[0], separator, file)
        columns = header if columns is None else columns
        check_columns(file, columns, header)
        places = {name: header.index(name) for name in columns}
        for number, values in enumerate(_paired(reader), 1):
            if values is None:
                fault = "neither doubled nor the end of a value"
                yield Row(number, {}, f"a quotation mark in it is {fault}")
            elif len(values) == len(header):
                yield Row(number, {name: values[at] for name, at in places.items()})
            elif values:
                amount = "more" if len(values) > len(header) else "fewer"
                yield Row(number, {}, f"{amount} values than the header has columns")
    except csv.Error as error:
        place = f"row {number + 1}" if header else "the header"
        fault = f"{error}, perhaps as a quotation mark is never closed"
        if "end of data" in str(error):
            fault = "a quotation mark is opened and never closed"
        raise ValueError(
            f"{file.name}: {place}: {fault}; expected quotation marks within a value "
            "to be doubled"
        ) from error


def _paired(reader) -> Iterator[list[str] | None]:
    """The values of each row; None for each line that an unpaired quotation mark takes.

    How many rows those lines are, nobody can know; most files have a line for each.
    """
    lines = reader.line_num
    while True:
        try:
            for values in reader:
                lines = reader.line_num
                yield values
            return
        except csv.Error as error:  # after which the reader goes on at the next line
            if "expected after" not in str(error):
                raise
            yield from repeat(None, reader.line_num - lines)
            lines = reader.line_num


def _refuse_separator(only_column: str, expected: str, file: File) -> None:
    names = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
    for separator in names.keys() - {expected}:
        if separator in only_column:
            raise ValueError(
                f"{file.name}: one column, {only_column!r}, with a "
                f"{names[separator]} in it; expected a {names[expected]} between "
                "columns: commas in .csv, tabs in .tsv"
            )


def _json_rows(
    text: TextIO, is_array: bool, file: File, columns: Sequence[str] | None
) -> Iterator[Row]:
    rows = _array_rows(text, file) if is_array else _line_rows(text, file)
    if columns is None:
        yield from rows
        return
    first = list(islice(rows, RECORDS_WITH_ALL_COLUMNS))
    if any(not row.problem for row in first):
        found = list(dict.fromkeys(name for row in first for name in row.values))
        check_columns(file, columns, found)
    for row in chain(first, rows):
        values = {name: row.values.get(name) for name in columns}
        yield Row(row.number, {} if row.problem else values, row.problem)


def _line_rows(text: TextIO, file: File) -> Iterator[Row]:
    lines = iter(lambda: text.readline(LONGEST_VALUE), "")
    for number, line in enumerate(lines, 1):
        if len(line) == LONGEST_VALUE:
            raise ValueError(
                f"{file.name}: line {number} has over {LONGEST_VALUE:,} characters; "
                "expected one record a line"
            )
        if line.strip():
            try:
                yield _record_row(number, json.loads(line))
            except (ValueError, RecursionError):
                yield Row(number, {}, "the line is not JSON")


def _array_rows(text: TextIO, file: File) -> Iterator[Row]:
    decoder = json.JSONDecoder()
    between = re.compile(r"[\s,]*")
    buffer = text.read(BUFFER)
    place, number = buffer.index("[") + 1, 1
    while True:
        place = between.match(buffer, place).end()
        if buffer.startswith("]", place):
            rest = chain([buffer[place + 1 :]], iter(lambda: text.read(BUFFER), ""))
            if any(map(str.strip, rest)):
                raise ValueError(
                    f"{file.name}: something stands after the array, which ends with "
                    f"record {number - 1}; expected one array, or one record a line"
                )
            return
        try:
            value, place = decoder.raw_decode(buffer, place)
        except json.JSONDecodeError as error:
            # As much again as is left, so that a long record is not parsed too often.
            buffer = buffer[place:]
            place = 0
            more = text.read(max(BUFFER, len(buffer)))
            if not more or len(buffer) > LONGEST_VALUE:
                fault = "is not JSON" if more else "is cut short or not JSON"
                raise ValueError(
                    f"{file.name}: record {number} {fault} ({error.msg}); expected an "
                    "array of records"
                ) from error
            buffer += more
        except (ValueError, RecursionError) as error:  # too long a number, or too deep
            raise ValueError(
                f"{file.name}: record {number} cannot be read ({error}); expected an "
                "array of records"
            ) from error
        else:
            yield _record_row(number, value)
            number += 1


def _record_row(number: int, value: Any) -> Row:
    if isinstance(value, dict):
        return Row(number, value)
    return Row(number, {}, "not a record with named values")


def _parquet_rows(
    stream: io.BufferedReader, file: File, columns: Sequence[str] | None
) -> Iterator[Row]:
    from pyarrow import parquet

    number = 0
    try:
        with _explained_parquet_faults(file), seekable(stream) as whole:
            # Without these two a whole column of a row group is held, often the file.
            table = parquet.ParquetFile(whole, pre_buffer=False, buffer_size=BUFFER)
            columns = table.schema_arrow.names if columns is None else columns
            check_columns(file, columns, table.schema_arrow.names)
            groups = range(table.num_row_groups)
            if file.row_groups is not None:
                groups = file.row_groups
                number = sum(
                    table.metadata.row_group(group).num_rows
                    for group in range(groups[0])
                )
            for batch in table.iter_batches(1000, groups, list(columns)):
                values = [_python_values(batch.column(name)) for name in columns]
                for row in zip(*values, strict=True):
                    number += 1
                    yield Row(number, dict(zip(columns, row, strict=True)))
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file.name}: bytes that are not UTF-8 after row {number}; expected text"
        ) from error
    except OverflowError as error:
        raise ValueError(
            f"{file.name}: a date or time after row {number} is out of range "
            f"({error}); expected years from 1 to 9999"
        ) from error


def _python_values(column) -> list:
    """The values of an Arrow column; text that was stored as bare bytes as text."""
    return [
        value.decode() if isinstance(value, bytes) else value
        for value in column.to_pylist()
    ]
