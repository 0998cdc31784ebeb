"""Annotated texts: the same spans from every format, and no bad row unaccounted for."""

import gzip
import json
import zlib

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from ojd_daps_language_models.configs import EntityData
from ojd_daps_language_models.getters import records
from ojd_daps_language_models.getters.entities import (
    check_entities,
    iter_entities,
    iter_entity_parts,
)
from ojd_daps_language_models.getters.storage import list_files

ONLY_TEXT = {"id": None, "employer": None, "advert": None}
LAYERS = {"SKILL": "tags_skill", "KNOWLEDGE": "tags_knowledge"}
# Texts as tokens, and spans of them as first token, the one after the last, and label.
TEXTS = [
    ("Good Python and SQL wanted", [(1, 2, "SKILL"), (3, 4, "SKILL")]),
    ("Free parking 🚗 , free lunch", [(0, 2, "BENEFIT"), (4, 6, "BENEFIT")]),
    ("Café work", []),
    ("plan care deliver care", [(0, 2, "SKILL"), (2, 4, "SKILL")]),
]


DAMAGED = "not a DocBin of spaCy, or damaged"


def write(path, content) -> str:
    if callable(content):
        content = content()
    if isinstance(content, list):
        content = "".join(json.dumps(record) + "\n" for record in content)
    if isinstance(content, pa.Table):
        parquet.write_table(content, path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content, encoding="utf-8")
    return str(path)


def read(path, columns=ONLY_TEXT, chunk_rows=10_000, **section):
    """All texts and all rows kept aside, each as one table."""
    data = EntityData(columns=columns, **section)
    chunks = list(iter_entities(str(path), data, chunk_rows))
    return tuple(
        pd.concat(tables, ignore_index=True) for tables in zip(*chunks, strict=True)
    )


def spans_of(text) -> list[tuple]:
    """What each span covers, and its label, in the order of the text."""
    return sorted(
        (span["start"], text["text"][span["start"] : span["end"]], span["label"])
        for span in text["spans"]
        if not span["problem"]
    )


def problems(path, **section) -> list:
    (text,) = read(path, **section)[0].to_dict("records")
    return [span["problem"] for span in text["spans"]]


def reasons(path, **section) -> list[tuple]:
    aside = read(path, **section)[1]
    return list(aside[["row", "reason"]].itertuples(index=False, name=None))


def characters(text: str, span: tuple) -> tuple[int, int, str]:
    first, stop, label = span
    words = text.split(" ")
    start = len(" ".join(words[:first])) + (first > 0)
    return start, len(" ".join(words[:stop])), label


def tags_of(text: str, spans, scheme: str) -> list[str]:
    tags = ["O"] * len(text.split(" "))
    begin, inside, end, single = {
        "IOB2": "BIIB",
        "BIOES": "BIES",
        "BILOU": "BILU",
        "IOB1": "IIII",
    }[scheme]
    for first, stop, label in spans:
        tags[first:stop] = [f"{inside}-{label}"] * (stop - first)
        tags[first] = f"{begin}-{label}"
        tags[stop - 1] = f"{end}-{label}"
        if stop == first + 1:
            tags[first] = f"{single}-{label}"
        if scheme == "IOB1" and first and tags[first - 1].endswith(label):
            tags[first] = f"B-{label}"
    return tags


# The same texts in every format


def task(number: int, text: str, spans) -> dict:
    """A task of Label Studio, whose browser counts an emoji as two."""
    result = []
    for start, end, label in spans:
        before, own = text[:start], text[start:end]
        place = [len(part.encode("utf-16-le")) // 2 for part in (before, before + own)]
        value = {"start": place[0], "end": place[1], "text": own, "labels": [label]}
        result.append({"from_name": "ner", "type": "labels", "value": value})
    data = {"text": text, "id": f"T{number}", "employer": "Acme"}
    annotations = [{"result": result, "was_cancelled": False}]
    return {"id": number, "data": data, "annotations": annotations}


def as_docbin(texts, layer=None) -> bytes:
    import spacy
    from spacy.tokens import Doc, DocBin, Span

    vocab = spacy.blank("en").vocab
    binned = DocBin(store_user_data=True)
    for number, (text, spans) in enumerate(texts):
        words = text.split(" ")
        doc = Doc(vocab, words, spaces=[True] * (len(words) - 1) + [False])
        found = [Span(doc, *span) for span in spans]
        if layer:
            doc.spans[layer] = found
        else:
            doc.ents = found
        doc.user_data = {"id": f"T{number}", ("._.", "employer", None, None): "Acme"}
        binned.add(doc)
    return binned.to_bytes()


def in_every_format() -> dict:
    names = [{"id": f"T{number}", "employer": "Acme"} for number, _ in enumerate(TEXTS)]
    placed = [
        (text, [characters(text, span) for span in spans]) for text, spans in TEXTS
    ]
    keys = [("start", "end", "label"), ("start_offset", "end_offset", "label")]
    listed, related = (
        [[dict(zip(key, span, strict=True)) for span in spans] for _, spans in placed]
        for key in keys
    )
    tagged = {
        scheme: [
            name | {"tokens": text.split(" "), "ner": tags_of(text, spans, scheme)}
            for name, (text, spans) in zip(names, TEXTS, strict=True)
        ]
        for scheme in ("IOB2", "IOB1", "BIOES", "BILOU")
    }
    tasks = [task(number, *each) for number, each in enumerate(placed)]
    prodigy = [
        name | {"text": text, "spans": spans, "answer": "accept"}
        for name, (text, _), spans in zip(names, placed, listed, strict=True)
    ]
    classes = sorted({tag for row in tagged["IOB2"] for tag in row["ner"]})
    numbered = pa.Table.from_pylist(
        [
            row | {"ner": [classes.index(tag) for tag in row["ner"]]}
            for row in tagged["IOB2"]
        ]
    )
    feature = {"feature": {"names": classes, "_type": "ClassLabel"}, "_type": "List"}
    features = {"info": {"features": {"ner": feature, "id": {"dtype": "string"}}}}
    numbered = numbered.replace_schema_metadata({"huggingface": json.dumps(features)})
    conll = "".join(
        f"# id = {row['id']}\n# employer = Acme\n"
        + "".join(
            f"{token}{separator}NN{separator}{tag}\n"
            for token, tag in zip(row["tokens"], row["ner"], strict=True)
        )
        + "\n"
        for row, separator in zip(tagged["IOB2"], "\t \t ", strict=True)
    )
    return {
        "prodigy.jsonl": prodigy,
        "prodigy.json": json.dumps(prodigy),
        "prodigy.parquet": pa.Table.from_pylist(prodigy),
        "label_studio.json": json.dumps(tasks),
        "label_studio_completions.json": json.dumps(tasks).replace(
            '"annotations"', '"completions"'
        ),
        "label_studio_min.json": json.dumps(
            [
                each["data"]
                | {"ner": [item["value"] for item in each["annotations"][0]["result"]]}
                for each in tasks
            ]
        ),
        "doccano.jsonl": [
            name | {"text": text, "label": spans}
            for name, (text, spans) in zip(names, placed, strict=True)
        ],
        "doccano_labels.jsonl": [
            name | {"text": text, "labels": spans, "Comments": []}
            for name, (text, spans) in zip(names, placed, strict=True)
        ],
        "doccano_relations.jsonl": [
            name | {"text": text, "entities": spans, "relations": []}
            for name, (text, _), spans in zip(names, placed, related, strict=True)
        ],
        "a.conll": conll,
        "windows.iob2": "\ufeff" + conll.replace("\n", "\r\n"),
        "no_end.bio": conll.rstrip(),
        "a.conll.gz": gzip.compress(conll.encode()),
        **{f"{scheme}.jsonl": rows for scheme, rows in tagged.items()},
        "names.parquet": pa.Table.from_pylist(tagged["IOB2"]),
        "numbers.parquet": numbered,
        "a.spacy": lambda: as_docbin(TEXTS),
    }


@pytest.mark.parametrize("name", in_every_format())
def test_every_format_gives_the_same_spans(name, tmp_path):
    path = write(tmp_path / name, in_every_format()[name])
    columns = {"advert": None}
    found, aside = read(path, columns)
    assert found["text"].tolist() == [text for text, _ in TEXTS]
    expected = [[characters(text, span) for span in spans] for text, spans in TEXTS]
    for (_, text), spans in zip(found.iterrows(), expected, strict=True):
        assert spans_of(text) == [
            (start, text["text"][start:end], label) for start, end, label in spans
        ]
    flat = found["spans"].explode().dropna()
    assert {span["layer"] for span in flat} == {"entities"}
    assert not any(span["repaired"] or span["problem"] for span in flat)
    assert found["id"].tolist() == ["T0", "T1", "T2", "T3"]
    assert set(found["employer"]) == {"Acme"}
    assert len(aside) == 0
    check_entities(path, EntityData(columns=columns))
    form = name.partition(".")[0].partition("_")[0]
    form = {"a": name.split(".")[1], "windows": "conll", "no": "conll"}.get(form, form)
    form = form if form in ("prodigy", "label", "doccano", "conll", "spacy") else "tags"
    form = "label_studio" if form == "label" else form
    assert len(read(path, columns, format=form)[0]) == len(TEXTS)


def test_the_columns_and_their_types_are_those_of_records(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"text": "Cook", "spans": []}, {"text": ""}])
    found, aside = read(path, chunk_rows=1)
    kinds = {name: str(kind) for name, kind in found.dtypes.items()}
    assert kinds == {
        **dict.fromkeys(("id", "text", "employer", "advert", "source"), "str"),
        **{"row": "int64", "words": "object", "spans": "object"},
    }
    assert list(aside.columns) == ["source", "row", "id", "reason"]
    assert found["id"].tolist() == ["a.jsonl:1"]
    assert found["words"].tolist() == [None]
    assert reasons(path) == [(2, "the text is empty")]


def test_tokens_bring_their_words_and_blank_ones_are_none(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"tokens": ["A", "", "bc"], "ner": ["O"] * 3}])
    found, _ = read(path)
    assert found["text"].tolist() == ["A  bc"]
    assert found["words"].tolist() == [[(0, 1), (3, 5)]]


# Layers and tags


def skill_rows() -> list[dict]:
    """The structure of SkillSpan, with words made up."""
    return [
        {
            "idx": 7,
            "tokens": ["plan", "menus", "in", "French"],
            "tags_skill": ["B", "I", "I", "I"],
            "tags_knowledge": ["O", "O", "O", "B"],
            "source": "house",
        },
        {
            "idx": 8,
            "tokens": ["and", "cook", "well"],
            "tags_skill": ["O", "I", "O"],
            "tags_knowledge": ["O", "O", "O"],
            "source": "house",
        },
    ]


def test_both_layers_of_bare_tags_are_read_and_an_odd_tag_is_mended(tmp_path):
    path = write(tmp_path / "a.json", skill_rows())
    found, _ = read(path, ONLY_TEXT | {"advert": "idx"}, layers=LAYERS)
    assert found["advert"].tolist() == ["7", "8"]
    spans = [
        (text["text"][span["start"] : span["end"]], *list(span.values())[2:])
        for _, text in found.iterrows()
        for span in text["spans"]
    ]
    assert spans == [
        ("plan menus in French", "SKILL", "SKILL", None, False),
        ("French", "KNOWLEDGE", "KNOWLEDGE", None, False),
        ("cook", "SKILL", "SKILL", None, True),
    ]


def test_several_columns_of_tags_have_to_be_chosen_from(tmp_path):
    path = write(tmp_path / "a.json", skill_rows())
    message = (
        "a.json: several columns look like tags: 'tags_skill', 'tags_knowledge'; say "
        "under data.layers .*layers: {tags_skill: tags_skill"
    )
    for look in (
        read,
        lambda path: check_entities(path, EntityData(columns=ONLY_TEXT)),
    ):
        with pytest.raises(ValueError, match=message):
            look(path)
    suggested = r"no column 'tags_skil'.*mean 'tags_skill' for 'tags_skil'\? Your"
    with pytest.raises(ValueError, match=suggested):
        read(path, layers={"SKILL": "tags_skil"})


def test_a_column_of_parts_of_speech_is_not_taken_for_tags(tmp_path):
    row = {"tokens": ["Cook"], "pos": ["NN"], "ner": ["B-SKILL"], "forms": [["x"]]}
    found, _ = read(write(tmp_path / "a.jsonl", [row]))
    assert spans_of(found.loc[0]) == [(0, "Cook", "SKILL")]


@pytest.mark.parametrize(
    ("tags", "spans", "repaired"),
    [
        ("B-X I-X O B-X B-X", ["ab", "d", "e"], []),
        ("B-X I-Y O I-X I-X", ["a", "b", "de"], ["b", "de"]),
        ("B-X E-X O S-X I-X", ["ab", "d", "e"], ["e"]),
        ("B-X L-X O U-X L-X", ["ab", "d", "e"], ["e"]),
        ("I-X I-X O I-Y I-X", ["ab", "d", "e"], []),  # IOB1
        ("I-X B-X I-X O O", ["a", "bc"], []),
        ("I-X B-X O B-X I-X", ["a", "b", "de"], ["a"]),  # not IOB1
        ("B I O I O", ["ab", "d"], ["d"]),
        ("B-A-b I-A-b O O O", ["ab"], []),
    ],
)
def test_tags_of_every_scheme_become_spans(tags, spans, repaired, tmp_path):
    rows = [{"tokens": list("abcde"), "ner": tags.split()}]
    found, _ = read(write(tmp_path / "a.jsonl", rows))
    text = found.loc[0]
    parts = [
        text["text"][span["start"] : span["end"]].replace(" ", "")
        for span in text["spans"]
    ]
    assert parts == spans
    assert [
        part
        for part, span in zip(parts, text["spans"], strict=True)
        if span["repaired"]
    ] == repaired


def test_columns_of_conll_are_chosen_by_number(tmp_path):
    content = "Cook\tB\tO\nFrench\tI\tB\n"
    found, _ = read(write(tmp_path / "a.conll", content), layers={"A": "2", "B": "3"})
    assert [span["layer"] for span in found["spans"][0]] == ["A", "B"]
    assert spans_of(found.loc[0]) == [(0, "Cook French", "A"), (5, "French", "B")]
    found, _ = read(write(tmp_path / "a.conll", content))
    assert spans_of(found.loc[0]) == [(5, "French", "entities")]
    for wrong in ("ner", "1", "-1"):
        with pytest.raises(ValueError, match=f"a.conll: .*is '{wrong}'.*of a column"):
            read(tmp_path / "a.conll", layers={"A": wrong})


def test_conll_says_whose_texts_they_are(tmp_path):
    content = """# employer = Early

a O

-DOCSTART- -X- O
# employer = Acme & Co

# id = x1
# free words
# O
= B-X

b O
-DOCSTART-

# advert = own
#c\tB-X
"""
    found, aside = read(write(tmp_path / "a.conll", content), {})
    assert found["text"].tolist() == ["a", "# =", "b", "#c"]
    assert found["id"].tolist() == ["a.conll:3", "x1", "a.conll:13", "a.conll:17"]
    assert found["row"].tolist() == [3, 10, 13, 17]
    assert found["advert"].fillna("-").tolist() == [
        *("-", "a.conll:1", "a.conll:1", "own")
    ]
    assert found["employer"].fillna("-").tolist() == [
        *("Early", "Acme & Co", "Acme & Co", "-")
    ]
    assert len(aside) == 0


@pytest.mark.parametrize("begin", ["", "\ufeff", "a B-X\n\n"])
def test_one_docstart_is_a_header_and_several_begin_adverts(begin, tmp_path):
    path, texts = tmp_path / "a.conll", "-DOCSTART- -X- O\nb B-X\n\nc B-X\n\n"
    found, _ = read(write(path, begin + texts))
    assert found["text"].tolist()[-2:] == ["b", "c"]
    assert found["advert"].isna().all()
    path = write(
        tmp_path / "a.conll", begin + texts + texts.replace("\n\n", "\r\n\r\n")
    )
    adverts = read(path)[0]["advert"].dropna().tolist()
    assert adverts == ["a.conll:1"] * 2 + ["a.conll:2"] * 2


def test_comments_below_the_only_docstart_are_of_all_texts(tmp_path):
    content = "-DOCSTART- -X- O\n# employer = Acme\n\nb B-X\n\nc B-X\n"
    columns = {"id": None, "advert": None}
    found, _ = read(write(tmp_path / "a.conll", content), columns)
    assert found["employer"].tolist() == ["Acme", "Acme"]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.conll", "Cook B-X\n", "a comment before a text, such as '# advert = 12'"),
        ("a.spacy", lambda: as_docbin(TEXTS), "the user data or an extension of a doc"),
    ],
)
def test_a_name_of_employer_or_advert_that_no_text_has_is_refused(
    name, content, expected, tmp_path
):
    """They would be missing without a word, and adverts be on two sides."""
    path = write(tmp_path / name, content)
    columns = {"employer": "firm", "advert": "posting"}
    said = (
        rf"{name}: no text has 'firm' and no 'posting'; expected {expected}\. Your .*"
    )
    said += r"data: {columns: {employer: null, advert: null}}"
    for look in (iter_entities, check_entities):
        with pytest.raises(ValueError, match=said):
            list(look(path, EntityData(columns=columns)))
    columns = dict.fromkeys(columns)
    assert read(path, columns)[0]["advert"].isna().all()


def test_numbers_may_be_tokens(tmp_path):
    content = "1 O\n2 O\n\n1 O\ncook B-X\n\n"
    assert read(write(tmp_path / "a.conll", content))[0]["text"].tolist()[0] == "1 2"


def test_no_other_blank_parts_the_columns_of_conll(tmp_path):
    found, _ = read(write(tmp_path / "a.conll", "25\u00a0000 B-X\n\u2028 O\n"))
    assert spans_of(found.loc[0]) == [(0, "25\u00a0000", "X")]


def test_numbers_in_tags_need_names(tmp_path):
    rows = [{"tokens": ["a", "b"], "ner": [0, 2]}, {"tokens": ["c"], "ner": [1]}]
    path = write(tmp_path / "a.jsonl", [*rows, {"tokens": ["d"], "ner": [3]}])
    with pytest.raises(ValueError, match=r"a.jsonl: the tags in 'ner' are numbers"):
        read(path)
    names = ["O", "B-SKILL", "B-BENEFIT"]
    found, _ = read(path, tag_names=names)
    assert [spans_of(text) for _, text in found.iterrows()] == [
        [(2, "b", "BENEFIT")],
        [(0, "c", "SKILL")],
    ]
    assert reasons(path, tag_names=names) == [(3, "the tag 3 has no name")]
    with pytest.raises(ValueError, match=r"a.parquet: the tags in 'ner' are numbers"):
        read(write(tmp_path / "a.parquet", pa.Table.from_pylist(rows)))


def test_names_of_numbers_are_found_in_packed_parquet_of_older_releases(tmp_path):
    names = {"names": ["O", "B-X"], "_type": "ClassLabel"}
    features = {"info": {"features": {"ner": [names]}}}
    table = pa.table({"tokens": [["a"]], "ner": [[1]]})
    table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    plain = write(tmp_path / "a.parquet", table)
    with open(plain, "rb") as file:
        path = write(tmp_path / "b.parquet.gz", gzip.compress(file.read()))
    assert spans_of(read(path)[0].loc[0]) == [(0, "a", "X")]


def test_groups_of_spans_of_spacy_are_layers(tmp_path):
    path = write(tmp_path / "a.spacy", as_docbin(TEXTS, "sc"))
    found, _ = read(path, layers={"SKILL": "sc"})
    assert sum(map(len, found["spans"])) == 6
    assert found["spans"][0][0]["layer"] == "SKILL"
    with pytest.raises(ValueError, match=r"a.spacy: nothing is in doc.ents.*'sc'"):
        read(path)
    with pytest.raises(ValueError, match=r"a.spacy: no column 'other'; found 'sc'"):
        read(path, layers={"SKILL": "other"})


def test_a_docbin_keeps_its_white_space_which_is_no_word(tmp_path):
    import spacy
    from spacy.tokens import DocBin

    doc = spacy.blank("en")("Cook,  now\n(well).")
    found, _ = read(write(tmp_path / "a.spacy", DocBin(docs=[doc]).to_bytes()))
    assert found["text"].tolist() == ["Cook,  now\n(well)."]
    words = [doc.text[start:end] for start, end in found["words"][0]]
    assert words == ["Cook", ",", "now", "(", "well", ")", "."]


def test_layers_of_spans_are_columns_or_controls(tmp_path):
    span = {"start": 0, "end": 4, "label": "X"}
    row = {"text": "Cook", "a": [span], "b": [span, span], "answer": "accept"}
    found, _ = read(write(tmp_path / "a.jsonl", [row]), layers={"A": "a", "B": "b"})
    assert [span["layer"] for span in found["spans"][0]] == ["A", "B", "B"]
    path = write(tmp_path / "b.json", [task(1, "Cook", [(0, 4, "X")])])
    found, _ = read(path, layers={"A": "ner"})
    assert [span["layer"] for span in found["spans"][0]] == ["A"]
    with pytest.raises(ValueError, match=r"b.json: no column 'skills'; found 'ner'"):
        read(path, layers={"A": "skills"})


# Annotations that cannot be read


@pytest.mark.parametrize(
    ("span", "problem"),
    [
        ({"start": 0, "label": "X"}, "no end is given"),
        ({"end": 4, "label": "X"}, "no start is given"),
        (
            {"start": "0", "end": 4, "label": "X"},
            "its start is not a whole number: '0'",
        ),
        (
            {"start": 0, "end": 4.5, "label": "X"},
            "its end is not a whole number: '4.5'",
        ),
        (
            {"start": 0, "end": True, "label": "X"},
            "its end is not a whole number: 'True'",
        ),
        ({"start": 0, "end": 4}, "no label is given"),
        ({"start": 0, "end": 4, "label": ["A", "B"]}, "several labels: A, B"),
        (
            {"start": 0, "end": 4, "label": "X", "text": "Chef"},
            "its text is not what stands there",
        ),
        (
            {"start": 0, "end": 9, "label": "X", "text": "Cook"},
            "its text is not what stands there",
        ),
        ("Cook", "no start is given"),
        # what is left to others
        ({"start": 0.0, "end": 4, "label": 7}, None),
        ({"start": -3, "end": 400, "label": "UNKNOWN"}, None),
        ({"start": 3, "end": 1, "label": "X"}, None),
    ],
)
def test_a_span_that_cannot_be_read_says_why_and_stays(span, problem, tmp_path):
    sound = {"start": 0, "end": 4, "label": "X", "text": "Cook"}
    path = write(tmp_path / "a.jsonl", [{"text": "Cook", "spans": [sound, span]}])
    first, second = problems(path)
    assert first is None
    assert second == problem


def test_answers_other_than_accept_are_kept_aside(tmp_path):
    span = {"start": 0, "end": 4, "label": "X"}
    rows = [
        {"text": "Cook", "spans": [span], "answer": "reject", "id": 5},
        {"text": "Chef", "answer": "ignore"},
        {"text": "Baker", "answer": "accept"},
        {"text": "Cook", "spans": {"start": 1}},
    ]
    found, aside = read(write(tmp_path / "a.jsonl", rows), ONLY_TEXT | {"id": "id"})
    assert found["text"].tolist() == ["Baker"]
    assert found["spans"].tolist() == [[]]
    assert aside["id"].fillna("-").tolist() == ["5", "-", "-"]
    assert aside["reason"].tolist() == [
        "its answer is 'reject'",
        "its answer is 'ignore'",
        "'spans' is not a list of spans",
    ]


def results(*labels: str, **annotation) -> dict:
    value = {"start": 0, "end": 4, "text": "Cook", "labels": list(labels)}
    return {"result": [{"type": "labels", "value": value}], **annotation}


@pytest.mark.parametrize(
    ("annotations", "labels"),
    [
        ([results("A", created_at="2"), results("B", created_at="1")], ["A"]),
        ([results("A"), results("B")], ["B"]),
        (
            [results("A", updated_at="2026-01-02"), results("B", was_cancelled=True)],
            "A",
        ),
        ([results("A", ground_truth=True), results("B", created_at="9")], ["A"]),
        (
            [results("A", created_at=1609789589), results("B", created_at=1609789588)],
            "A",
        ),
        ([{"result": []}], []),
    ],
)
def test_one_annotation_of_a_task_counts(annotations, labels, tmp_path):
    path = write(
        tmp_path / "a.json",
        [
            {"id": 1, "data": {"text": "Cook"}, "annotations": annotations},
            {"id": 2, "data": {"text": "Chef"}, "annotations": []},
            {
                "id": 3,
                "data": {"text": "Baker"},
                "annotations": [results("A", was_cancelled=True)],
            },
        ],
    )
    found, aside = read(path, ONLY_TEXT | {"id": "id"})
    assert [span["label"] for span in found["spans"][0]] == list(labels)
    assert aside["id"].tolist() == ["2", "3"]
    assert set(aside["reason"]) == {"no annotation was completed"}


def test_what_nobody_annotated_is_no_text_without_entities(tmp_path):
    """JSON-MIN has a row for each annotation, and one without for other tasks."""
    span = {"start": 0, "end": 4, "text": "Cook", "labels": ["A"]}
    rows = [
        {"id": 1, "text": "Cook", "ner": [span], "annotation_id": 7},
        {"id": 1, "text": "Cook", "ner": [span | {"labels": ["B"]}]},
        {"id": 2, "text": "Chef", "annotation_id": None},
        {"id": 3, "text": "Baker", "annotation_id": 8},
        {"id": 4, "text": "Cook", "ner": [span], "annotation_id": None},
    ]
    path, columns = write(tmp_path / "a.json", rows), ONLY_TEXT | {"id": "id"}
    found, aside = read(path, columns, format="label_studio")
    labels = [[span["label"] for span in spans] for spans in found["spans"]]
    assert found["id"].tolist() == ["1", "3", "4"]
    assert labels == [["A"], [], ["A"]]
    assert aside[["id", "reason"]].values.tolist() == [
        ["1", "its id was seen before"],
        ["2", "no annotation was completed"],
    ]


def test_what_label_studio_adds_to_spans_is_no_entity(tmp_path):
    html = {"start": "/p[1]", "startOffset": 0, "hypertextlabels": ["X"]}
    result = [
        *results("SKILL", "BENEFIT")["result"],
        {"type": "relation", "from_id": "a", "to_id": "b"},
        {"type": "choices", "value": {"choices": ["good"]}},
        {"type": "hypertextlabels", "value": html},
        {"type": "labels", "value": {"start": 0, "end": 4, "labels": []}},
    ]
    row = {"id": 1, "data": {"text": "Cook"}, "annotations": [{"result": result}]}
    assert problems(write(tmp_path / "a.json", [row])) == [
        "several labels: SKILL, BENEFIT",
        "it is of type 'hypertextlabels'; expected 'labels'",
        "no label is given",
    ]


@pytest.mark.parametrize("own", ["two\\nlines", "two lines", " two\nlines"])
def test_line_breaks_in_a_span_may_be_written_in_other_ways(own, tmp_path):
    span = {"start": 0, "end": 9, "label": "X", "text": own}
    path = write(tmp_path / "a.jsonl", [{"text": "two\nlines", "spans": [span]}])
    assert problems(path) == [None]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.data())
@settings(deadline=None)
def test_offsets_of_a_browser_are_understood(tmp_path_factory, text, data):
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    text = f"a🚗 {text}"
    path = write(
        tmp_path_factory.mktemp("any") / "a.json",
        [task(1, text, [(start + 3, end + 3, "X")])],
    )
    ((span,),) = read(path, max_characters=10_000)[0]["spans"]
    assert span["problem"] is None
    found = text[span["start"] : span["end"]]
    assert found.split() == text[start + 3 : end + 3].split()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (
            {"tokens": ["a"], "ner": ["X-SKILL"]},
            "the tag 'X-SKILL' is of no known scheme",
        ),
        ({"tokens": ["a"], "ner": ["B-"]}, "the tag 'B-' is of no known scheme"),
        ({"tokens": ["a"], "ner": [None]}, "the tag 'None' is of no known scheme"),
        ({"tokens": ["a", "b"], "ner": ["O"]}, "1 tags for 2 tokens"),
        ({"tokens": ["a"], "ner": None}, "its tags are not a list"),
        ({"tokens": ["a", None], "ner": ["O"]}, "its tokens are not a list of texts"),
        ({"tokens": "a b", "ner": ["O", "O"]}, "its tokens are not a list of texts"),
        ({"tokens": None, "ner": ["O"]}, "the text is missing"),
        ({"tokens": [], "ner": []}, "the text is empty"),
        (
            {"tokens": ["w" * 50] * 3, "ner": ["O"] * 3},
            "the text is longer than 100 cha",
        ),
        ({"tokens": ["12"], "ner": ["O"]}, "the text is a number"),
    ],
)
def test_tags_that_cannot_be_read_are_kept_aside(row, reason, tmp_path):
    sound = {"tokens": ["a", "b"], "ner": ["B-X", "O"]}
    path = write(tmp_path / "a.jsonl", [sound, row])
    section = {"layers": {"X": "ner"}, "max_characters": 100}
    ((number, found),) = reasons(path, **section)
    assert number == 2 and found.startswith(reason)
    assert len(read(path, **section)[0]) == 1


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("a\tO\nb\n", "line 5 has 1 columns, and line 4 has 2"),
        ("a\nb\n", "its lines have one column, and no tag"),
        ("a O\nb SKILL\n", "the tag 'SKILL' is of no known scheme"),
    ],
)
def test_a_broken_text_of_conll_is_kept_aside_by_its_line(lines, reason, tmp_path):
    path = write(tmp_path / "a.conll", f"x O\n\n# id = k\n{lines}\ny O\n")
    found, aside = read(path, ONLY_TEXT | {"id": "id"})
    assert found["text"].tolist() == ["x", "y"]
    assert aside.values.tolist() == [["a.conll", 4, "k", reason]]
    with pytest.raises(
        ValueError, match=r"a.conll: .* of 2 .*the first is row 1: its "
    ):
        read(write(tmp_path / "a.conll", "x O\n\ny O\n"), layers={"A": "3"})


def test_a_file_most_of_whose_tags_are_wrong_is_refused(tmp_path):
    rows = [{"tokens": ["a"], "ner": ["O"]}, *[{"tokens": ["b"], "ner": ["<x>"]}] * 2]
    path = write(tmp_path / "a.jsonl", rows)
    message = (
        r"a.jsonl: the tags of 2 of 3 texts cannot be read; the first is row 2: the "
        r"tag '<x>' is of no known scheme; expected a tag for each token: O, or B- or"
    )
    with pytest.raises(ValueError, match=message):
        read(path)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["start", "end", "label", "labels", "result", "value", "type", "text"]
            ),
            inside | st.just("labels"),
            max_size=4,
        )
    ),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("sound", "column", "section"),
    [
        ({"text": "Cook", "spans": []}, "spans", {}),
        ({"text": "Cook", "spans": []}, "spans", {"layers": {"A": "spans"}}),
        ({"text": "Cook", "label": []}, "label", {"format": "doccano"}),
        (task(1, "Cook", [(0, 4, "X")]), "annotations", {}),
        (task(1, "Cook", [(0, 4, "X")]), "annotations", {"layers": {"A": "ner"}}),
        (task(1, "Cook", [(0, 4, "X")]), "data", {}),
        ({"text": "Cook", "ner": [{"labels": []}]}, "ner", {}),
        ({"tokens": ["a"], "ner": ["O"]}, "tokens", {}),
        ({"tokens": ["a"], "ner": ["O"]}, "ner", {"layers": {"A": "ner"}}),
    ],
)
@given(values=st.lists(ANYTHING, max_size=3))
@settings(deadline=None, max_examples=40)
def test_whatever_is_annotated_every_row_is_accounted_for(
    tmp_path_factory, sound, column, section, values
):
    rows = [sound] * (len(values) + 1) + [sound | {column: value} for value in values]
    path = write(tmp_path_factory.mktemp("any") / "a.jsonl", rows)
    found, aside = read(path, **section)
    numbers = sorted([*found["row"], *aside["row"]])
    assert numbers == list(range(1, len(rows) + 1))
    for span in found["spans"].explode().dropna():
        if not span["problem"]:
            assert {type(span["start"]), type(span["end"])} == {int}


# Rows, columns and files


def test_columns_may_lie_within_records(tmp_path):
    meta = {"employer": "Acme", "advert": {"number": 7}}
    rows = [{"body": "Cook", "spans": [], "meta": meta, "a.b": "k1"}]
    path = write(tmp_path / "a.jsonl", rows)
    columns = {
        "text": "body",
        "id": "a.b",
        "employer": "meta.employer",
        "advert": "meta.advert.number",
    }
    found, _ = read(path, columns)
    assert found[["id", "text", "employer", "advert"]].values.tolist() == [
        ["k1", "Cook", "Acme", "7"]
    ]
    with pytest.raises(
        ValueError, match=r"no column 'meta.employe'; .*'meta.employer'"
    ):
        read(path, columns | {"employer": "meta.employe"})


def test_names_of_label_studio_are_in_data_or_beside_it(tmp_path):
    path = write(tmp_path / "a.json", [task(4, "Cook", [])])
    columns = {"employer": "employer", "advert": "project", "id": "id"}
    with pytest.raises(ValueError, match="no column 'project'"):
        read(path, columns)
    row = task(4, "Cook", []) | {"project": 9}
    row["data"].pop("id")
    found, _ = read(write(tmp_path / "a.json", [row]), columns)
    assert found[["id", "employer", "advert"]].values.tolist() == [["4", "Acme", "9"]]


def test_repeated_ids_and_broken_lines_are_kept_aside(tmp_path):
    rows = '{"id": 1, "text": "Cook", "spans": []}\n'
    path = write(tmp_path / "a.jsonl", rows * 2 + "{broken\n" + rows.replace("1", "2"))
    found, aside = read(path, ONLY_TEXT | {"id": "id"})
    assert found["id"].tolist() == ["1", "2"]
    assert aside[["row", "reason"]].values.tolist() == [
        [2, "its id was seen before"],
        [3, "the line is not JSON"],
    ]


def test_windows_1252_is_read_as_such(tmp_path, caplog):
    content = b"caf\xe9 B-X\n"
    assert spans_of(read(write(tmp_path / "a.conll", content))[0].loc[0]) == [
        (0, "café", "X")
    ]
    assert "a.conll: not UTF-8 throughout; read as Windows-1252" in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "form", "message"),
    [
        (
            *("a.jsonl", [{"text": "a", "class": 1}], "auto"),
            "no annotation is in it; found 'text', 'class'; expected 'data' and 'annot",
        ),
        (
            *("a.jsonl", [{"text": "a", "label": []}], "prodigy"),
            "which has a list of 'spans'.*found 'text', 'label'; it looks like doccano",
        ),
        (
            *("a.jsonl", [{"text": "a", "spans": []}], "tags"),
            "not of the format tags, which has a list of tokens; .*like prodigy",
        ),
        ("a.jsonl", [{"tokens": ["a"]}], "tags", "no column beside 'tokens' is a list"),
        ("a.jsonl", [{"spans": []}], "auto", "no column 'text'; found 'spans'"),
        ("a.conll", "a O\n", "prodigy", "is 'prodigy', and '.conll' stands for CoNLL"),
        (
            "a.jsonl",
            [{"text": "a"}],
            "spacy",
            "is 'spacy', and '.jsonl' stands for JSON",
        ),
        ("a.spacy", b"not a DocBin", "auto", DAMAGED),
        ("a.spacy", zlib.compress(b"\x93\x01\x02\x03"), "auto", DAMAGED),
        ("a.spacy", lambda: as_docbin(TEXTS)[:-20], "auto", DAMAGED),
        ("a.spacy", lambda: as_docbin([]), "auto", "no rows; expected at least one te"),
        ("a.spacy", b"", "auto", "an empty file; expected a DocBin of spaCy"),
        ("a.conll", "", "auto", "an empty file; expected CoNLL"),
        ("a.conll", "\n\n# id = 1\n", "auto", "no rows; expected at least one text"),
        (
            *("a.conll", "# x\n1\tGood\tO\n2\tcook\tB-X\n\n1\tYes\tO\n", "auto"),
            "its first column numbers the tokens from 1; expected the tokens",
        ),
        ("a.conll", b"PK\x03\x04", "auto", "binary content .a zip.*expected CoNLL"),
        (
            "a.conll.gz",
            gzip.compress(b"a O\n", mtime=0)[:-9],
            "auto",
            "gzip file is cut short",
        ),
        ("a.jsonl", "{\n" * 3, "auto", "3 of 3 rows cannot be read as JSON Lines"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_clear_error(
    name, content, form, message, tmp_path
):
    path = write(tmp_path / name, content)
    data = EntityData(columns=ONLY_TEXT, format=form)
    for look in (iter_entities, check_entities):
        with pytest.raises(ValueError, match=message) as caught:
            list(look(path, data))
        assert str(caught.value).startswith(f"{name}: ")
        assert "\n" not in str(caught.value)


def test_conll_may_have_another_name_if_one_says_so(tmp_path):
    path = write(tmp_path / "a.txt", "Cook B-X\n")
    message = r"a.txt: unknown format '.txt'; expected .json, .*data.format: conll"
    with pytest.raises(ValueError, match=message):
        read(path)
    assert spans_of(read(path, format="conll")[0].loc[0]) == [(0, "Cook", "X")]


def test_a_pickle_within_a_docbin_is_not_loaded(tmp_path):
    import pickle

    import srsly
    from spacy.tokens import DocBin

    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "sprung"), "w")

    trap = {
        b"nd": True,
        b"type": "|O8",
        b"kind": b"O",
        b"shape": [1],
        b"data": pickle.dumps(Trap()),
    }
    binned = DocBin(store_user_data=True).from_bytes(as_docbin(TEXTS[:1]))
    binned.user_data = [srsly.msgpack_dumps({"id": trap})]
    with pytest.raises(ValueError, match=r"a.spacy: not a DocBin"):
        read(write(tmp_path / "a.spacy", binned.to_bytes()))
    assert not (tmp_path / "sprung").exists()


def test_only_this_task_lists_files_of_its_formats(tmp_path, caplog):
    write(tmp_path / "a.conll", "Cook B-X\n")
    write(tmp_path / "b.jsonl", [{"text": "Chef", "spans": []}])
    write(tmp_path / "c.spacy", as_docbin(TEXTS[:1]))
    write(tmp_path / "d.csv", "text\nwords\n")
    data = EntityData(columns=ONLY_TEXT)
    names = ["a.conll", "b.jsonl", "c.spacy"]
    assert [file.name for file in check_entities(str(tmp_path), data)] == names
    assert "left out 'd.csv'" in caplog.text
    assert sorted(set(read(tmp_path)[0]["source"])) == names
    assert [file.name for file in list_files(str(tmp_path))] == ["b.jsonl", "d.csv"]


def test_files_on_s3_and_of_the_hub_are_read(s3, hub, tmp_path):
    url = s3.put("x/a.conll", b"Cook B-X\n")
    table = pa.table({"tokens": [["Chef"]], "ner": [["B-X"]]})
    path = write(tmp_path / "a.parquet", table)
    with open(path, "rb") as file:
        hub.repositories["datasets/owner/ner"] = {"data/a.parquet": file.read()}
    for where, text in ((url, "Cook"), ("hf://datasets/owner/ner", "Chef")):
        found, _ = read(where)
        assert spans_of(found.loc[0]) == [(0, text, "X")]


def test_the_parts_that_were_given_are_read(tmp_path, monkeypatch):
    path = write(tmp_path / "ner.jsonl", [{"text": "Cook", "spans": []}])
    test = write(tmp_path / "b.conll", "Chef O\n")
    monkeypatch.setattr(records, "sample_path", lambda task: f"{tmp_path}/{task}.jsonl")
    data = EntityData(columns=ONLY_TEXT)
    parts = iter_entity_parts("sample", None, test, data)
    assert list(parts) == ["train", "test"]
    assert [next(chunks)[0]["text"][0] for chunks in parts.values()] == ["Cook", "Chef"]
    assert [file.location for file in check_entities("sample", data)] == [path]
