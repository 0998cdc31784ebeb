"""Tokens and their tags, in CoNLL files or as lists in records, as spans of characters.

The schemes are IOB2, IOB1 (where B- only parts neighbours of one label, Ramshaw and
Marcus, 1995), BIOES and BILOU; B, I and O alone will do where a layer is one label. As
in conlleval, a tag that goes on with nothing begins a span, which is then `repaired`.
"""

import codecs
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, chain, islice, pairwise
from typing import Any

from ojd_daps_language_models.getters.annotations import (
    LAYER,
    Annotation,
    Decoder,
    Record,
    read_span,
    value_at,
)
from ojd_daps_language_models.getters.storage import File, file_suffix
from ojd_daps_language_models.getters.tables import Row, as_text, open_stream, seekable

CONLL = "CoNLL: a token and its tags on each line"
TAGS = (
    "a tag for each token: O, or B- or I- and a label (IOB), with E- and S- (BIOES) or "
    "L- and U- (BILOU)"
)
TOKENS, DOCUMENT = "-TOKENS-", "-DOCSTART-"  # keys that no comment has

_TAG = re.compile(r"O|[BIESLU](-\S.*)?")
_COMMENT = re.compile(r"# *([\w.-]+) *= *(.*)")


def tags(
    file: File,
    records: Sequence[Record],
    layers: Mapping[str, str] | None,
    tokens: str,
    tag_names: Sequence[str] | None,
) -> Decoder:
    """Records with a list of tokens, and a list of tags for each layer.

    Args:
        file: that the records are from.
        records: the first of them.
        layers: column of each layer; None: the one that looks like tags.
        tokens: column of the tokens.
        tag_names: what numbers stand for; None: what a Parquet file of the hub says.

    Raises:
        ValueError: several columns look like tags, or nothing says what numbers mean.
    """
    columns = layers or {LAYER: _tag_column(file, records, tokens)}
    names = dict.fromkeys(columns.values(), tag_names)
    numbered = [
        column
        for column in names
        if _is_numbered(value_at(record, column) for record in records)
    ]
    if numbered and tag_names is None:
        names |= _class_names(file)
        if unnamed := [column for column in numbered if not names.get(column)]:
            raise ValueError(
                f"{file.name}: the tags in '{unnamed[0]}' are numbers, and nothing "
                "says what they stand for; write it under data.tag_names, from 0, such "
                "as tag_names: [O, B-SKILL, I-SKILL]"
            )

    def split(record: Record) -> tuple[Any, dict[str, Any]]:
        return value_at(record, tokens), {
            layer: _by_name(value_at(record, column), names[column])
            for layer, column in columns.items()
        }

    return _decoder(records, split)


def conll(file: File, records: Sequence[Record], layers: Mapping | None) -> Decoder:
    """Texts of `read_conll`, which found the tags of each layer already.

    Raises:
        ValueError: numbers stand before the tokens of most texts, and would be learnt.
    """
    texts = [record[TOKENS][0] for record in records]
    numbered = [t for t in texts if t == [str(n) for n in range(1, len(t) + 1)]]
    if len(numbered) > len(texts) / 2:
        raise ValueError(
            f"{file.name}: its first column numbers the tokens from 1; expected the "
            "tokens themselves there: remove that column"
        )
    return _decoder(records, lambda record: record[TOKENS])


def read_conll(file: File, layers: Mapping[str, str] | None) -> Iterator[Row]:
    """The texts of a CoNLL file, by the line of their first token.

    Their values are the comments before them, `# name = value`. Those between
    `-DOCSTART-` and the blank line after it are of all texts until the next; where
    there are several, each begins an advert.

    Args:
        file: one token a line, and a blank line after each text.
        layers: number of each layer's column, from 1; None: the last column.

    Raises:
        ValueError: a layer is not a number, or the file is not text.
        OSError: it cannot be opened, or the connection breaks.
    """
    for layer, number in (layers or {}).items():
        if not number.isdecimal() or int(number) < 2:
            raise ValueError(
                f"{file.name}: data.layers.{layer} is '{number}'; of CoNLL files it is "
                "the number of a column: 2, or more"
            )
    columns = {layer: int(number) - 1 for layer, number in (layers or {}).items()}
    with open_stream(file, CONLL) as stream:
        document, named, lines, adverts = {}, {}, [], 0
        text = as_text(stream, file, CONLL)
        for number, line in enumerate(chain(text, [""]), 1):
            line = line.rstrip(" \t\r\n")
            if line and not line.startswith(DOCUMENT):
                fields = re.split("\t" if "\t" in line else " +", line)
                comment = None if lines else _COMMENT.match(line)
                if comment:
                    named[comment[1]] = comment[2]
                elif lines or fields[0] != "#" or any(map(_is_tag, fields[1:])):
                    lines.append(fields)
                continue
            if lines:
                first = number - len(lines)
                yield _conll_text(first, lines, document | named, columns)
            else:
                document |= named
            named, lines = {}, []
            if line:
                adverts += 1
                document = {}
                if adverts > 1 or _has_documents(file):
                    document[DOCUMENT] = f"{file.name}:{adverts}"


def _has_documents(file: File) -> bool:
    """Whether `-DOCSTART-` parts adverts: where there is only one, it is a header."""
    with open_stream(file, CONLL) as stream:
        lines = (line.removeprefix(codecs.BOM_UTF8) for line in stream)
        marks = (line for line in lines if line.startswith(DOCUMENT.encode()))
        return len(list(islice(marks, 2))) == 2


def _conll_text(
    first: int, lines: list[list[str]], named: dict, columns: Mapping[str, int]
) -> Row:
    width = len(lines[0])
    for number, fields in enumerate(lines, first):
        if len(fields) != width:
            count = f"{len(fields)} columns, and line {first} has {width}"
            return Row(first, named, f"line {number} has {count}")
    if width < 2:
        return Row(first, named, "its lines have one column, and no tag")
    if columns and max(columns.values()) >= width:
        wanted = f"a layer is column {max(columns.values()) + 1}"
        return Row(first, named, f"its lines have {width} columns, and {wanted}")
    layers = {
        layer: [fields[place] for fields in lines]
        for layer, place in (columns or {LAYER: -1}).items()
    }
    return Row(first, {**named, TOKENS: ([fields[0] for fields in lines], layers)})


def _decoder(records: Sequence[Record], split) -> Decoder:
    """Join tokens with blanks, and find the spans.

    Args:
        records: the first of a file, which tell whether it is IOB1.
        split: from a record to its tokens and the tags of each layer.
    """
    seen = [layers for _, layers in map(split, records)]
    names = dict.fromkeys(chain.from_iterable(seen))
    is_iob1 = {layer: _is_iob1(layers[layer] for layers in seen) for layer in names}

    def decode(record: Record, _: Any) -> Annotation:
        tokens, layers = split(record)
        if tokens is None:
            return Annotation(None)
        if not _is_list_of(str, tokens):
            return Annotation(None, problem="its tokens are not a list of texts")
        ends = list(accumulate(len(token) + 1 for token in tokens))
        words = [
            (end - 1 - len(token), end - 1)
            for token, end in zip(tokens, ends, strict=True)
        ]
        text = " ".join(tokens)
        spans = []
        for layer, given in layers.items():
            if problem := _tags_problem(given, len(tokens)):
                return Annotation(text, problem=problem)
            spans += _spans(given, words, layer, is_iob1.get(layer, False))
        return Annotation(text, spans, words)

    return decode


def _tags_problem(given: Any, count: int) -> str | None:
    if not isinstance(given, list):
        return "its tags are not a list"
    if len(given) != count:
        return f"{len(given)} tags for {count} tokens"
    wrong = next((tag for tag in given if not _is_tag(tag)), "O")
    if isinstance(wrong, int):
        return f"the tag {wrong} has no name"
    if wrong != "O":
        return f"the tag {str(wrong)[:40]!r} is of no known scheme"
    return None


def _spans(
    given: Sequence[str],
    words: Sequence[tuple[int, int]],
    layer: str,
    is_iob1: bool,
) -> list[dict]:
    spans = []
    going = None
    for (start, end), tag in zip(words, given, strict=True):
        if tag == "O":
            going = None
            continue
        kind, label = _split(tag, layer)
        if kind in "IEL" and going and going["label"] == label:
            going["end"] = end
        else:
            going = read_span(start, end, label, layer)
            going["repaired"] = kind in "IEL" and not is_iob1
            spans.append(going)
        if kind in "ESLU":
            going = None
    return spans


def _is_iob1(sequences: Iterable[Any]) -> bool:
    """Whether spans begin with I-, and B- only stands between two of one label."""
    begins_with_i = False
    for sequence in sequences:
        known = sequence if isinstance(sequence, list) else []
        known = [tag for tag in known if _is_tag(tag)]
        for before, tag in pairwise(["O", *known]):
            kind, label = _split(tag)
            goes_on = before != "O" and _split(before)[1] == label
            if kind in "ESLU" or (kind == "B" and not goes_on):
                return False
            begins_with_i |= kind == "I" and not goes_on
    return begins_with_i


def _split(tag: str, layer: str = "") -> tuple[str, str]:
    kind, _, label = tag.partition("-")
    return kind, label or layer


def _is_tag(value: Any) -> bool:
    return isinstance(value, str) and bool(_TAG.fullmatch(value))


def _is_list_of(kinds: type | tuple[type, ...], value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, kinds) for item in value)


def _is_numbered(sequences: Iterable[Any]) -> bool:
    lists = (value for value in sequences if isinstance(value, list))
    kinds = set(map(type, chain.from_iterable(lists)))
    return int in kinds and str not in kinds


def _by_name(given: Any, names: Sequence[str] | None) -> Any:
    """The tags with names for numbers; a number that has none stays as it is."""
    if not names or not isinstance(given, list):
        return given
    return [
        names[tag] if isinstance(tag, int) and 0 <= tag < len(names) else tag
        for tag in given
    ]


def _tag_column(file: File, records: Sequence[Record], tokens: str) -> str:
    """The only column that looks like tags."""
    lists = {}
    for column in dict.fromkeys(chain.from_iterable(records)):
        values = [value for record in records if (value := record.get(column))]
        is_other = values and column != tokens
        if is_other and all(_is_list_of((str, int), value) for value in values):
            lists[column] = list(chain.from_iterable(values))
    tagged = [
        column
        for column, items in lists.items()
        if sum(isinstance(item, int) or _is_tag(item) for item in items)
        >= len(items) / 2
    ]
    found = tagged or list(lists)
    if len(found) == 1:
        return found[0]
    if not found:
        raise ValueError(
            f"{file.name}: no column beside '{tokens}' is a list; expected {TAGS}"
        )
    such = ", ".join(f"{column}: {column}" for column in found)
    raise ValueError(
        f"{file.name}: several columns look like tags: {', '.join(map(repr, found))}; "
        "say under data.layers which to learn, and how each is to be called, such as "
        f"layers: {{{such}}}"
    )


def _class_names(file: File) -> dict[str, list[str]]:
    """Names of the classes in each column, as `datasets` writes them into Parquet."""
    if file_suffix(file.name) != ".parquet":
        return {}
    from pyarrow import parquet

    with open_stream(file, "Parquet") as stream, seekable(stream) as table:
        metadata = parquet.read_schema(table).metadata or {}
    features = json.loads(metadata.get(b"huggingface", b"{}"))
    features = features.get("info", {}).get("features", {})
    return {column: _names_in(feature) for column, feature in features.items()}


def _names_in(feature: Any) -> list[str]:
    """The names of a ClassLabel, also within the lists of old and new releases."""
    if isinstance(feature, list):
        feature = feature[0]
    if not isinstance(feature, dict):
        return []
    return feature.get("names") or _names_in(feature.get("feature"))
