"""Texts with annotated spans, as annotation tools and datasets bring them."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, islice
from typing import Any

from ojd_daps_language_models.getters import annotations, storage
from ojd_daps_language_models.getters.annotations import (
    DOCBIN,
    DOCCANO_COLUMNS,
    Decoder,
    Record,
    is_label_studio_list,
    value_at,
)
from ojd_daps_language_models.getters.records import (
    Chunk,
    check_records,
    iter_parts,
    iter_records,
    text_problem,
)
from ojd_daps_language_models.getters.storage import File, file_suffix
from ojd_daps_language_models.getters.tables import (
    EmptyFileError,
    Row,
    check_columns,
    read_rows,
)
from ojd_daps_language_models.getters.tags import (
    CONLL,
    DOCUMENT,
    TAGS,
    conll,
    read_conll,
    tags,
)

ENTITY_COLUMNS = ("id", "text", "employer", "advert", "words", "spans")
FIRST_RECORDS = 1000  # that tell the format
RECORDS = (".json", ".jsonl", ".ndjson", ".parquet")
FORMATS = {
    **{suffix: storage.FORMATS[suffix] for suffix in RECORDS},
    **dict.fromkeys((".conll", ".iob", ".iob2", ".bio"), CONLL),
    ".spacy": DOCBIN,
}
# Where other files say whose a text is, for messages.
OWNERS = {
    "conll": "a comment before a text, such as '# advert = 12'",
    "spacy": "the user data or an extension of a doc",
}
# What makes records of each kind, for messages.
MARKS = {
    "label_studio": "'data' and 'annotations', or lists of records with 'labels'",
    "tags": "a list of tokens",
    "prodigy": "a list of 'spans', or an 'answer'",
    "doccano": "'label', 'labels' or 'entities' that are lists",
}


def iter_entities(path: str, data, chunk_rows: int = 10_000) -> Iterator[Chunk]:
    """Read annotated texts chunk by chunk; rows that cannot be used are kept aside.

    Args:
        path: see `records.iter_records`.
        data: with `format`, `columns`, `layers`, `tag_names` and `max_characters`.
        chunk_rows: texts read for each chunk.

    Yields:
        texts: id, text, employer, advert, source and row as of `records.iter_records`
            (row: of CoNLL, the line of the first token), `words` (start and end of
            each token that the file brought, in characters; None if it brought none)
            and `spans` (dicts, see `annotations`).
        kept aside: source, row, id, reason.

    Raises:
        ValueError: as `records.iter_records`; or a file is not of its format, no format
            fits, a layer is missing, or the tags of most texts cannot be read.
        OSError: as `records.iter_records`.
    """
    return iter_records(
        path,
        {name: name for name in ENTITY_COLUMNS},
        lambda record: text_problem(record["text"], data.max_characters),
        "ner",
        chunk_rows,
        read=partial(_read, data),
        formats=FORMATS,
        objects=("words", "spans"),
    )


def iter_entity_parts(
    data_path: str,
    validation_data: str | None,
    test_data: str | None,
    settings,
) -> dict[str, Iterator[Chunk]]:
    """The chunks of each part that was given: train, validation, test.

    Args:
        data_path: path of the texts to train on.
        validation_data: path of an official validation part, if there is one.
        test_data: the same for the test part.
        settings: see `data` of `iter_entities`.
    """

    def read(path: str) -> Iterator[Chunk]:
        return iter_entities(path, settings)

    return iter_parts(read, data_path, validation_data, test_data)


def check_entities(path: str, data) -> list[File]:
    """Look for files, format and columns without reading on: cheap, for the launch.

    Raises:
        ValueError, OSError: as `iter_entities`, where the first texts show it.
    """
    columns = {name: name for name in ENTITY_COLUMNS}
    return check_records(path, columns, "ner", partial(_read, data), FORMATS)


def _read(data, file: File, _: Sequence[str]) -> Iterator[Row]:
    """The texts of a file as rows of `ENTITY_COLUMNS`."""
    form = _form_of_name(file, data.format)
    layers = dict(data.layers) if data.layers else None
    if form == "conll":
        rows = read_conll(file, layers)
    elif form == "spacy":
        rows = annotations.read_docs(file)
    else:
        rows = read_rows(file, None)
    first = list(islice(rows, FIRST_RECORDS))
    if not first:
        raise EmptyFileError(f"{file.name}: no rows; expected at least one text")
    records = [row.values for row in first if not row.problem]
    if form == "records":
        form = _form_of_records(file, records, data)
        _check_columns(file, form, records, data)
    else:
        _check_owners(file, form, [row.values for row in first], data.columns)
    decode = _decoder(form, file, records, layers, data)
    columns = data.columns
    count = broken = 0
    problem = ""
    for row in chain(first, rows):
        record = _fields(row.values, form)
        found = annotations.Annotation(None, problem=row.problem)
        if not row.problem:
            found = decode(row.values, value_at(record, columns.text))
        count += 1
        if found.problem and form in ("tags", "conll"):
            broken += 1
            problem = problem or f"row {row.number}: {found.problem}"
        advert = value_at(record, columns.advert)
        values = {
            "id": value_at(record, columns.id),
            "text": found.text,
            "employer": value_at(record, columns.employer),
            "advert": record.get(DOCUMENT) if advert is None else advert,
            "words": found.words and _no_blanks(found.text, found.words),
            "spans": list(found.spans),
        }
        yield Row(row.number, values, found.problem)
    if broken > count / 2:
        raise ValueError(
            f"{file.name}: the tags of {broken:,} of {count:,} texts cannot be read; "
            f"the first is {problem}; expected {TAGS}"
        )


def _form_of_name(file: File, wanted: str) -> str:
    """`conll`, `spacy` or `records`."""
    suffix = file_suffix(file.name)
    asked = "records" if wanted in MARKS else wanted
    if suffix not in FORMATS:
        if wanted == "conll":  # people also call it .txt
            return wanted
        raise ValueError(
            f"{file.name}: unknown format '{suffix}'; expected {', '.join(FORMATS)}, "
            "or one of them with .gz; of CoNLL files with another name say "
            "data.format: conll"
        )
    named = {CONLL: "conll", DOCBIN: "spacy"}.get(FORMATS[suffix], "records")
    if asked not in ("auto", named):
        raise ValueError(
            f"{file.name}: data.format is '{wanted}', and '{suffix}' stands for "
            f"{FORMATS[suffix]}; say data.format: auto, or rename the file"
        )
    return named


def _form_of_records(file: File, records: Sequence[Record], data) -> str:
    """The format whose marks most records have, or the one asked for."""
    counts = {
        form: sum(_has_marks(form, record, data) for record in records)
        for form in MARKS
    }
    fitting = sorted(filter(counts.get, counts), key=counts.get, reverse=True)
    if data.format in fitting:
        return data.format
    found = ", ".join(repr(name[:60]) for name in dict.fromkeys(chain(*records)))
    found = f"found {found or 'no columns'}"
    if data.format != "auto":
        hint = f"; it looks like {fitting[0]}" if fitting else ""
        raise ValueError(
            f"{file.name}: not of the format {data.format}, which has "
            f"{MARKS[data.format]}; {found}{hint}"
        )
    if fitting:
        return fitting[0]
    known = "; ".join(f"{marks} ({form})" for form, marks in MARKS.items())
    raise ValueError(f"{file.name}: no annotation is in it; {found}; expected {known}")


def _has_marks(form: str, record: Record, data) -> bool:
    if form == "label_studio":
        if isinstance(record.get("data"), Mapping):
            return "annotations" in record or "completions" in record
        return any(map(is_label_studio_list, record.values()))
    if form == "tags":
        tokens = value_at(record, data.columns.tokens) or [None]
        return isinstance(tokens, list) and all(isinstance(t, str) for t in tokens)
    if form == "prodigy" and "answer" in record:
        return True
    known = ("spans",) if form == "prodigy" else DOCCANO_COLUMNS
    columns = data.layers.values() if data.layers else known
    kinds = Mapping if form == "prodigy" else (Mapping, list)
    lists = [value_at(record, column) for column in columns]
    lists = [value for value in lists if isinstance(value, list)]
    return any(not items or isinstance(items[0], kinds) for items in lists)


def _fields(record: Record, form: str) -> Record:
    """Where to look for columns: of Label Studio, in `data` first."""
    inside = record.get("data") if form == "label_studio" else None
    return {**record, **inside} if isinstance(inside, Mapping) else record


def _check_columns(file: File, form: str, records: Sequence[Record], data) -> None:
    columns = data.columns
    wanted = [columns.tokens if form == "tags" else columns.text]
    wanted += [columns.id, columns.employer, columns.advert]
    if form != "label_studio":
        wanted += (data.layers or {}).values()
    found = dict.fromkeys(
        name for record in records for name in _names(_fields(record, form))
    )
    check_columns(file, [name for name in wanted if name], list(found))


def _check_owners(file: File, form: str, records: Sequence[Record], columns) -> None:
    """Raise where no text says whose it is by a name that the configuration has."""
    missing = {
        ours: name
        for ours, name in (("employer", columns.employer), ("advert", columns.advert))
        if name and all(value_at(record, name) is None for record in records)
    }
    if any(DOCUMENT in record for record in records):
        missing.pop("advert", None)
    if missing:
        names = " and no ".join(map(repr, missing.values()))
        nulls = ", ".join(f"{ours}: null" for ours in missing)
        raise ValueError(
            f"{file.name}: no text has {names}; expected {OWNERS[form]}. Your names go "
            "into the configuration, or null where the file has none: data: "
            f"{{columns: {{{nulls}}}}}"
        )


def _names(record: Record, before: str = "") -> Iterator[str]:
    for name, value in record.items():
        yield before + name
        if isinstance(value, Mapping):
            yield from _names(value, f"{before}{name}.")


def _decoder(
    form: str, file: File, records: Sequence[Record], layers: Any, data
) -> Decoder:
    if form == "tags":
        return tags(file, records, layers, data.columns.tokens, data.tag_names)
    make = conll if form == "conll" else getattr(annotations, form)
    return make(file, records, layers)


def _no_blanks(text: str, words: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    return [(start, end) for start, end in words if text[start:end].strip()]
