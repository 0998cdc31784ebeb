"""What annotation tools export: spans of characters in a text.

A span is a dict of start, end (characters of the text, end exclusive), label, layer,
problem (None, or why it cannot be read; start and end may then be None) and repaired
(whether it began where its tag said that it goes on).
"""

import gc
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from ojd_daps_language_models.getters.storage import File
from ojd_daps_language_models.getters.tables import Row, check_columns, open_stream

LAYER = "entities"  # where there is only one
DOCBIN = "a DocBin of spaCy"
DOCCANO_COLUMNS = ("label", "labels", "entities")

Record = Mapping[str, Any]


class Annotation(NamedTuple):
    """A text with its spans, or the reason why they cannot be used.

    words: start and end of each token that the file brought, None if it brought none.
    """

    text: Any
    spans: Sequence[dict] = ()
    words: list[tuple[int, int]] | None = None
    problem: str | None = None


# From a record and its text to what is annotated there.
Decoder = Callable[[Record, Any], Annotation]


def value_at(record: Record, column: str | None) -> Any:
    """The value of a column, None where it is missing; a dot leads into a record."""
    if column is None or column in record:
        return record.get(column)
    outer, _, inner = column.partition(".")
    inside = record.get(outer)
    return value_at(inside, inner) if inner and isinstance(inside, Mapping) else None


def read_span(
    start: Any, end: Any, label: Any, layer: str, text: Any = None, own: Any = None
) -> dict:
    """A span as a file says it, with the first thing that is wrong with it.

    Args:
        start: its first character.
        end: the one after its last.
        label: what it is called; a list where it may be called several things.
        layer: the label set that it is of.
        text: the text that it is in.
        own: its own text, where the file repeats that.
    """
    problem = None
    place = {"start": start, "end": end}
    for name, value in place.items():
        if isinstance(value, float) and value.is_integer():
            place[name] = int(value)
        elif not isinstance(value, int) or isinstance(value, bool):
            place[name] = None
            fault = f"its {name} is not a whole number: {str(value)[:40]!r}"
            problem = problem or (f"no {name} is given" if value is None else fault)
    if not problem and isinstance(text, str) and isinstance(own, str):
        found = _confirm(text, place["start"], place["end"], own)
        if found:
            place = dict(zip(place, found, strict=True))
        else:
            problem = "its text is not what stands there"
    labels = label if isinstance(label, list) else [label]
    labels = [str(name) for name in labels if name not in (None, "")]
    if len(labels) > 1:
        problem = problem or f"several labels: {', '.join(labels)}"
    elif not labels:
        problem = problem or "no label is given"
    of = {"label": ", ".join(labels), "layer": layer}
    return place | of | {"problem": problem, "repaired": False}


def prodigy(file: File, records: Sequence[Record], layers: Mapping | None) -> Decoder:
    """Prodigy: `spans` of a record, or the columns that the layers name."""
    columns = layers or {LAYER: "spans"}

    def decode(record: Record, text: Any) -> Annotation:
        answer = record.get("answer")
        if answer not in (None, "accept"):
            return Annotation(text, problem=f"its answer is {str(answer)[:40]!r}")
        return _from_lists(record, text, columns)

    return decode


def doccano(file: File, records: Sequence[Record], layers: Mapping | None) -> Decoder:
    """Doccano: lists of start, end and label, or records of them beside relations."""
    names = (
        name
        for record in records
        for name in DOCCANO_COLUMNS
        if record.get(name) and isinstance(record[name], list)
    )
    columns = layers or {LAYER: next(names, DOCCANO_COLUMNS[0])}

    def decode(record: Record, text: Any) -> Annotation:
        return _from_lists(record, text, columns)

    return decode


def label_studio(
    file: File, records: Sequence[Record], layers: Mapping | None
) -> Decoder:
    """Label Studio's JSON and JSON-MIN; a layer is the name of a `Labels` control."""
    layer_of = {control: layer for layer, control in (layers or {}).items()}
    controls = set(chain.from_iterable(map(_controls, records)))
    if layers and controls:
        check_columns(file, list(layers.values()), sorted(controls))

    def decode(task: Record, text: Any) -> Annotation:
        result = _label_studio_result(task)
        if result is None:
            return Annotation(text, problem="no annotation was completed")
        spans = []
        for item in result:
            kind, value = str(item.get("type")), item.get("value")
            layer = layer_of.get(str(item.get("from_name"))) if layers else LAYER
            if layer is None or not kind.endswith("labels"):
                continue  # relations and choices are no spans
            value = value if isinstance(value, Mapping) else {}
            place = value.get("start"), value.get("end"), value.get(kind)
            span = read_span(*place, layer, text, value.get("text"))
            if kind != "labels":
                span["problem"] = f"it is of type {kind[:40]!r}; expected 'labels'"
            spans.append(span)
        return Annotation(text, spans)

    return decode


def spacy(file: File, records: Sequence[Record], layers: Mapping | None) -> Decoder:
    """SpaCy: `doc.ents`, or the groups of `doc.spans` that the layers name."""
    docs = [record["doc"] for record in records]
    groups = sorted({key for doc in docs for key in doc.spans})
    if layers:
        check_columns(file, list(layers.values()), groups)
    elif groups and not any(doc.ents for doc in docs):
        raise ValueError(
            f"{file.name}: nothing is in doc.ents; doc.spans has {groups}; say under "
            f"data.layers which to learn, such as layers: {{SKILL: {groups[0]}}}"
        )

    def decode(record: Record, _: Any) -> Annotation:
        doc = record["doc"]
        spans = [
            read_span(span.start_char, span.end_char, span.label_, layer)
            for layer, key in (layers or {LAYER: None}).items()
            for span in (doc.spans.get(key, ()) if layers else doc.ents)
        ]
        words = [(token.idx, token.idx + len(token)) for token in doc]
        return Annotation(doc.text, spans, words)

    return decode


def read_docs(file: File) -> Iterator[Row]:
    """The documents of a DocBin, as `doc`, beside what is in their user data.

    No pickle is read: DocBin is msgpack, whose arrays of Python objects are refused.

    Raises:
        ValueError: it is not a DocBin.
        OSError: it cannot be opened, or the connection breaks.
    """
    from spacy.tokens import DocBin
    from spacy.vocab import Vocab

    with open_stream(file, DOCBIN) as stream:
        content = stream.read()
    try:
        for number, doc in enumerate(DocBin().from_bytes(content).get_docs(Vocab()), 1):
            extensions = {
                key[1]: value
                for key, value in doc.user_data.items()
                if isinstance(key, tuple) and key[0] == "._." and key[2] is None
            }
            yield Row(number, {**doc.user_data, **extensions, "doc": doc})
    except (ValueError, KeyError, TypeError, struct.error) as error:
        gc.enable()  # msgpack's reader switches it off, and fails before it is on
        raise ValueError(
            f"{file.name}: not {DOCBIN}, or damaged ({error}); write it again with "
            "DocBin.to_disk"
        ) from error


def is_label_studio_list(value: Any) -> bool:
    """Whether it is what JSON-MIN has for the spans of a text."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, Mapping) and "labels" in item for item in value)
    )


def _from_lists(record: Record, text: Any, columns: Mapping[str, str]) -> Annotation:
    """The spans of each layer's column: lists of three, or records."""
    spans = []
    for layer, column in columns.items():
        found = value_at(record, column)
        if not isinstance(found, list | None):
            return Annotation(text, problem=f"'{column}' is not a list of spans")
        for item in found or []:
            own = None
            if isinstance(item, Mapping):
                start = item.get("start", item.get("start_offset"))
                end = item.get("end", item.get("end_offset"))
                label, own = item.get("label"), item.get("text")
            else:
                given = item if isinstance(item, list) else []
                start, end, label = [*given, None, None, None][:3]
            spans.append(read_span(start, end, label, layer, text, own))
    return Annotation(text, spans)


def _label_studio_result(task: Record) -> list[Record] | None:
    """What was annotated in a task: the ground truth, else what was done last."""
    if not isinstance(task.get("data"), Mapping):  # JSON-MIN: a row an annotation
        controls = _controls(task)
        if not controls and task.get("annotation_id", "") is None:
            return None
        return [
            {"from_name": control, "type": "labels", "value": item}
            for control in controls
            for item in task[control]
        ]
    completed = [
        annotation
        for annotation in _annotations(task)
        if not annotation.get("was_cancelled")
    ]
    if not completed:
        return None

    def rank(place: int) -> tuple[bool, str, int]:
        annotation = completed[place]
        done = annotation.get("updated_at") or annotation.get("created_at")
        return bool(annotation.get("ground_truth")), str(done), place

    return _records(completed[max(range(len(completed)), key=rank)].get("result"))


def _annotations(task: Record) -> list[Record]:
    return _records(task.get("annotations") or task.get("completions"))


def _records(value: Any) -> list[Record]:
    given = value if isinstance(value, list) else []
    return [item for item in given if isinstance(item, Mapping)]


def _controls(task: Record) -> list[str]:
    """Names of the controls that spans of a task were made with."""
    if isinstance(task.get("data"), Mapping):
        return [
            str(item.get("from_name"))
            for annotation in _annotations(task)
            for item in _records(annotation.get("result"))
        ]
    return [name for name, value in task.items() if is_label_studio_list(value)]


def _confirm(text: str, start: int, end: int, own: str) -> tuple[int, int] | None:
    """Offsets at which a span's own text stands, None where it does not.

    Browsers count in units of UTF-16, of which an emoji has two, and tools write line
    breaks of a span as blanks or as a backslash and an n.
    """

    def flat(some: str) -> str:
        return " ".join(some.replace("\\n", "\n").split())

    if 0 <= start <= end <= len(text) and flat(text[start:end]) == flat(own):
        return start, end
    if text.isascii() or not 0 <= start <= end:
        return None
    units = text.encode("utf-16-le", "surrogatepass")
    inside = units[2 * start : 2 * end].decode("utf-16-le", "replace")
    if flat(inside) != flat(own):
        return None
    before = len(units[: 2 * start].decode("utf-16-le", "replace"))
    return before, before + len(inside)
