import json
import math
import tracemalloc
from datetime import date, datetime
from types import SimpleNamespace

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from ojd_daps_language_models.getters import records
from ojd_daps_language_models.getters.adverts import (
    ADVERT_COLUMNS,
    iter_advert_parts,
    iter_adverts,
)
from ojd_daps_language_models.getters.records import check_records

OURS = ("text", "id", "employer", "title", "date")
SAME_NAMES = {name: name for name in OURS}
ONLY_TEXT = dict.fromkeys(OURS) | {"text": "text"}
TEXT_AND_ID = ONLY_TEXT | {"id": "id"}


def read(path, columns=ONLY_TEXT, max_characters=1000, **options):
    """All adverts and all rows kept aside, each as one table."""
    chunks = list(iter_adverts(str(path), columns, max_characters, **options))
    return tuple(
        pd.concat(tables, ignore_index=True) for tables in zip(*chunks, strict=True)
    )


def write(path, content) -> str:
    if isinstance(content, list):
        content = "".join(json.dumps(record) + "\n" for record in content)
    path.write_text(content)
    return str(path)


def test_columns_are_mapped_and_those_not_mapped_are_missing(tmp_path):
    path = write(
        tmp_path / "a.csv", "key,body,firm\n7,Cook wanted, Acme \n8,Chef wanted,n/a\n"
    )
    found, aside = read(
        path, ONLY_TEXT | {"text": "body", "id": "key", "employer": "firm"}
    )
    assert tuple(found.columns) == (*ADVERT_COLUMNS, "source", "row")
    assert tuple(aside.columns) == ("source", "row", "id", "reason")
    assert found["text"].tolist() == ["Cook wanted", "Chef wanted"]
    assert found["id"].tolist() == ["7", "8"]
    assert found["employer"].isna().tolist() == [False, True]
    assert found["employer"][0] == "Acme"
    assert found[["title", "date"]].isna().all(axis=None)
    assert found["source"].tolist() == ["a.csv", "a.csv"]
    assert found["row"].tolist() == [1, 2]
    assert len(aside) == 0


def test_the_types_are_the_same_with_and_without_rows(tmp_path):
    path = write(
        tmp_path / "a.jsonl", [{"text": "Cook wanted"}] * 2 + [{"text": ""}] * 2
    )
    for chunk, kept_aside in iter_adverts(path, ONLY_TEXT, 1000, chunk_rows=2):
        assert {str(kind) for kind in chunk.drop(columns="row").dtypes} == {"str"}
        assert {str(kind) for kind in kept_aside.drop(columns="row").dtypes} == {"str"}
        assert chunk["row"].dtype == kept_aside["row"].dtype == "int64"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "the text is missing"),
        (math.nan, "the text is missing"),
        ("NaN", "the text is missing"),
        ("", "the text is empty"),
        (" \n\u00a0", "the text is empty"),
        (" " * 50, "the text is empty"),
        (12, "the text is a number"),
        (1.5, "the text is a number"),
        (True, "the text is a number"),
        (" 12,500.00 ", "the text is a number"),
        (["Cook"], "the text is a list, an object or a date"),
        ({"en": "Cook"}, "the text is a list, an object or a date"),
        ("w" * 5_000_000, "the text is longer than 1,000 characters"),
    ],
)
def test_a_text_that_is_none_is_kept_aside_with_the_reason(text, reason, tmp_path):
    path = write(
        tmp_path / "a.jsonl",
        [{"id": 1, "text": "Cook"}, {"id": 2, "text": text}, {"id": 3, "text": "Chef"}],
    )
    found, aside = read(path, TEXT_AND_ID)
    assert found["id"].tolist() == ["1", "3"]
    assert aside.to_dict("records") == [
        {"source": "a.jsonl", "row": 2, "id": "2", "reason": reason}
    ]


def test_what_is_kept_aside_carries_no_text(tmp_path):
    path = write(tmp_path / "a.csv", "id,text\n1,Secret words\n1,Secret words\n2,\n")
    _, aside = read(path, TEXT_AND_ID)
    assert len(aside) == 2
    assert not aside.map(lambda value: "Secret" in str(value)).any(axis=None)


def test_a_broken_line_is_kept_aside_with_its_line_number(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"text": "Cook"}\n{"tex\n{"text": "Chef"}\n')
    found, aside = read(path)
    assert found["row"].tolist() == [1, 3]
    assert aside[["row", "reason"]].values.tolist() == [[2, "the line is not JSON"]]
    assert aside["id"].isna().all()


def test_ids_are_made_where_there_are_none(tmp_path):
    write(tmp_path / "a.csv", "id,text\nx,Cook\n,Chef\n")
    write(tmp_path / "b.jsonl", [{"id": None, "text": "Baker"}])
    found, _ = read(tmp_path, TEXT_AND_ID)
    assert found["id"].tolist() == ["x", "a.csv:2", "b.jsonl:1"]
    found, _ = read(tmp_path)
    assert found["id"].tolist() == ["a.csv:1", "a.csv:2", "b.jsonl:1"]


def test_numbers_as_ids_are_the_same_text_in_every_format(tmp_path):
    table = pd.DataFrame({"id": [7.0, 12.0, None], "text": ["Cook", "Chef", "Baker"]})
    table.to_csv(tmp_path / "a.csv", index=False)
    table.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    table.to_parquet(tmp_path / "a.parquet")
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        found, _ = read(tmp_path / name, TEXT_AND_ID)
        assert found["id"].tolist() == ["7", "12", f"{name}:3"]


def test_codes_are_the_same_with_gaps_and_without(tmp_path):
    write(tmp_path / "a.csv", "text,employer\nCook,12.0\nChef,\n")
    write(tmp_path / "b.csv", "text,employer\nBaker,12\n")
    found, _ = read(tmp_path, {"text": "text", "employer": "employer"})
    assert found["employer"].tolist()[::2] == ["12", "12"]


def test_an_id_that_starts_with_zeros_keeps_them(tmp_path):
    path = write(tmp_path / "a.csv", "id,text\n007,Cook\n")
    assert read(path, TEXT_AND_ID)[0]["id"].tolist() == ["007"]


def test_repeated_ids_are_kept_aside_across_files_and_chunks(tmp_path):
    write(tmp_path / "a.csv", "id,text\n1,Cook\n2,Chef\n1,Cook again\n")
    write(tmp_path / "b.csv", "id,text\n2,Chef again\n3,Baker\n")
    found, aside = read(tmp_path, TEXT_AND_ID, chunk_rows=1)
    assert found["text"].tolist() == ["Cook", "Chef", "Baker"]
    assert aside["reason"].tolist() == ["its id was seen before"] * 2
    assert aside[["source", "row"]].values.tolist() == [["a.csv", 3], ["b.csv", 1]]


def test_an_unusable_row_does_not_use_up_its_id(tmp_path):
    path = write(tmp_path / "a.csv", "id,text\n1,\n1,Cook\n")
    assert read(path, TEXT_AND_ID)[0]["text"].tolist() == ["Cook"]


def test_dates_and_records_of_parquet_become_text(tmp_path):
    table = pa.table(
        {
            "text": ["Cook", "Chef"],
            "day": [date(2026, 1, 31), None],
            "moment": [datetime(2026, 1, 31), datetime(2026, 1, 31, 9, 30)],
            "firm": pa.array(["Acme", None]).dictionary_encode(),
        }
    )
    parquet.write_table(table, tmp_path / "a.parquet")
    columns = ONLY_TEXT | {"date": "day", "title": "moment", "employer": "firm"}
    found, _ = read(tmp_path / "a.parquet", columns)
    assert found["date"][0] == "2026-01-31"
    assert found["title"].tolist() == ["2026-01-31", "2026-01-31T09:30:00"]
    assert found["employer"][0] == "Acme"
    assert found["date"].isna()[1]
    assert found["employer"].isna()[1]


def test_a_parquet_column_that_holds_lists_is_kept_aside(tmp_path):
    table = pa.table({"text": [["Cook"], ["Chef"]]})
    parquet.write_table(table, tmp_path / "a.parquet")
    found, aside = read(tmp_path / "a.parquet")
    assert len(found) == 0
    assert len(aside) == 2


def test_half_an_emoji_does_not_stop_the_run(tmp_path):
    path = write(
        tmp_path / "a.jsonl", r'{"text": "Cook \ud83d wanted \ud83d\ude00"}' + "\n"
    )
    found, _ = read(path)
    assert found["text"].tolist() == [
        "Cook \N{REPLACEMENT CHARACTER} wanted \U0001f600"
    ]


@given(
    st.lists(
        st.one_of(
            st.none(),
            st.booleans(),
            st.floats(),
            st.text(st.characters(), max_size=60),
            st.lists(st.integers(), max_size=2),
            st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
        ),
        min_size=1,
    ),
    st.integers(1, 7),
)
@settings(deadline=None)
def test_every_row_is_either_an_advert_or_kept_aside(
    tmp_path_factory, values, chunk_rows
):
    path = write(
        tmp_path_factory.mktemp("any") / "a.jsonl",
        [{"id": value, "text": value} for value in values],
    )
    found, aside = read(path, TEXT_AND_ID, max_characters=50, chunk_rows=chunk_rows)
    rows = sorted([*found["row"], *aside["row"]])
    assert rows == list(range(1, len(values) + 1))
    assert found["id"].is_unique
    assert found["text"].str.len().between(1, 50).all()
    assert aside["reason"].notna().all()


def test_a_file_without_rows_is_no_fault_where_others_have_some(tmp_path, caplog):
    write(tmp_path / "a.csv", "text\nCook\n")
    write(tmp_path / "b.csv", "text\n")
    write(tmp_path / "c.jsonl", "")
    assert len(read(tmp_path)[0]) == 1
    assert "b.csv: no rows" in caplog.text
    assert "c.jsonl: an empty file" in caplog.text
    (tmp_path / "a.csv").unlink()
    with pytest.raises(ValueError, match="none of its 2 files has a row"):
        read(tmp_path)


def test_a_missing_column_names_the_file_that_lacks_it(tmp_path):
    write(tmp_path / "a.csv", "id,text\n1,Cook\n")
    path = write(tmp_path / "b.csv", "id,description\n1,Cook\n")
    for look in (read, lambda path: check_records(path, ONLY_TEXT, "mlm")):
        with pytest.raises(
            ValueError, match=r"b.csv: no column 'text'; found 'id', 'desc"
        ):
            look(str(tmp_path))
    with pytest.raises(
        ValueError, match="no column 'text', 'employer', 'title', 'date'"
    ):
        read(path, SAME_NAMES)


def test_a_mapping_without_text_is_refused(tmp_path):
    path = write(tmp_path / "a.csv", "text\nCook\n")
    with pytest.raises(ValueError, match="column of the text"):
        read(path, dict.fromkeys(OURS))


def test_the_check_at_launch_reads_only_the_first_rows(tmp_path):
    path = write(tmp_path / "a.csv", 'text\nCook\n"never closed')
    assert [file.name for file in check_records(path, ONLY_TEXT, "mlm")] == ["a.csv"]
    with pytest.raises(ValueError, match="quotation mark"):
        read(path)


def test_the_check_at_launch_looks_at_files_on_s3_as_at_those_on_disk(
    s3, monkeypatch, capsys
):
    s3.put("a.csv", b"text\n")
    for name in "bcd":
        s3.put(f"{name}.csv", b"text\nCook\n")
    s3.put("e.csv", b"description\nCook\n")
    with pytest.raises(ValueError, match=r"e.csv: no column 'text'"):
        check_records(f"s3://{s3.bucket}", ONLY_TEXT, "mlm")
    monkeypatch.setattr(records, "MOST_LOOKED_AT", 2)
    assert len(check_records(f"s3://{s3.bucket}", ONLY_TEXT, "mlm")) == 5
    assert "of 5 files, one in 3 is looked at now" in capsys.readouterr().out


def test_the_check_at_launch_downloads_no_more_than_tells_the_columns(hub):
    content = {"a.csv": b"text\n", "b.csv": b"text\nCook\n", "c.csv": b"words\nCook\n"}
    hub.repositories["datasets/owner/adverts"] = content
    assert len(check_records("hf://datasets/owner/adverts", ONLY_TEXT, "mlm")) == 3
    hub.repositories["datasets/owner/adverts"] = content | {"b.csv": b"words\nCook\n"}
    with pytest.raises(ValueError, match=r"b.csv: no column 'text'"):
        check_records("hf://datasets/owner/adverts", ONLY_TEXT, "mlm")


def test_the_parts_that_were_given_are_read(tmp_path):
    data = write(tmp_path / "a.csv", "text\nCook\n")
    test = write(tmp_path / "b.csv", "text\nChef\n")
    wanted = SimpleNamespace(columns=ONLY_TEXT, max_characters=1000)
    parts = iter_advert_parts(data, None, test, wanted)
    assert list(parts) == ["train", "test"]
    ((found, _),) = parts["test"]
    assert found["text"].tolist() == ["Chef"]


def test_sample_means_the_one_that_is_shipped(tmp_path, monkeypatch):
    path = write(tmp_path / "mlm.jsonl", [{"text": "Cook"}])
    monkeypatch.setattr(records, "sample_path", lambda task: f"{tmp_path}/{task}.jsonl")
    assert read("sample")[0].equals(read(path)[0])


def test_memory_does_not_grow_with_the_file(tmp_path):
    def peak(rows: int) -> int:
        path = write(
            tmp_path / "a.jsonl", [{"text": f"{i} " * 100} for i in range(rows)]
        )
        tracemalloc.start()
        for _ in iter_adverts(path, ONLY_TEXT, 1000, chunk_rows=500):
            pass
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    small = peak(2000)
    assert peak(16_000) < 1.5 * small + 200 * 14_000  # ids are remembered


def test_texts_of_rows_kept_aside_are_not_held(tmp_path):
    path = write(tmp_path / "a.csv", "text\n" + ("w" * 10**6 + "\n") * 40)
    tracemalloc.start()
    ((_, aside),) = iter_adverts(path, ONLY_TEXT, 1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(aside) == 40
    assert peak < 20e6
