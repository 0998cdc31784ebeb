import gzip
import io
import json
import re
import zlib

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from ojd_daps_language_models.getters import tables
from ojd_daps_language_models.getters.storage import File
from ojd_daps_language_models.getters.tables import EmptyFileError, read_rows

RECORDS = [
    {"id": 1, "text": 'Cook, "head" chef\nwanted'},
    {"id": 2, "text": "Café £30,000 € “now”"},
]
SHEET = """id,text
1,"Cook, ""head"" chef
wanted"
2,"Café £30,000 € “now”"
"""


def read(folder, name: str, content: bytes, columns=("text",)) -> list:
    (folder / name).write_bytes(content)
    return list(read_rows(File(str(folder / name), name), columns))


def texts(*args) -> list[str]:
    return [row.values["text"] for row in read(*args)]


def as_parquet(table: pa.Table, **options) -> bytes:
    sink = io.BytesIO()
    parquet.write_table(table, sink, **options)
    return sink.getvalue()


def in_every_format() -> dict[str, bytes]:
    lines = "".join(json.dumps(record) + "\n" for record in RECORDS)
    return {
        "a.csv": SHEET.encode(),
        "a.tsv": re.sub("^(id|1|2),", r"\1\t", SHEET, flags=re.MULTILINE).encode(),
        "a.jsonl": lines.encode(),
        "a.ndjson": lines.encode(),
        "a.json": json.dumps(RECORDS, indent=2).encode(),
        "lines.json": lines.encode(),
        "array.jsonl": json.dumps(RECORDS).encode(),
        "a.parquet": as_parquet(pa.Table.from_pylist(RECORDS)),
    }


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("name", in_every_format())
def test_every_format_gives_the_same_rows(name, packed, tmp_path):
    content = in_every_format()[name]
    if packed:
        name, content = name + ".gz", gzip.compress(content)
    rows = read(tmp_path, name, content, ("text", "id"))
    assert [row.number for row in rows] == [1, 2]
    assert [row.values["text"] for row in rows] == [row["text"] for row in RECORDS]
    assert [str(row.values["id"]) for row in rows] == ["1", "2"]


def test_gzip_is_known_by_its_content_not_by_its_name(tmp_path):
    assert texts(tmp_path, "a.csv", gzip.compress(b"text\nwords\n")) == ["words"]
    assert texts(tmp_path, "a.csv.gz", b"text\nwords\n") == ["words"]


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
        min_size=1,
    )
)
@settings(deadline=None)
def test_any_text_survives_csv_json_and_parquet(tmp_path_factory, written):
    import csv

    folder = tmp_path_factory.mktemp("any")
    sheet = io.StringIO(newline="")
    writer = csv.writer(sheet, quoting=csv.QUOTE_ALL)
    writer.writerows([["text"], *([text] for text in written)])
    records = [{"text": text} for text in written]
    lines = "\n".join(json.dumps(record, ensure_ascii=False) for record in records)
    contents = {
        "a.csv": sheet.getvalue().encode(),
        "a.jsonl": lines.encode(),
        "a.json": json.dumps(records).encode(),
        "a.parquet": as_parquet(pa.Table.from_pylist(records)),
    }
    for name, content in contents.items():
        assert texts(folder, name, content) == written, name


@given(st.data())
@settings(deadline=None)
def test_a_long_array_is_read_whole_wherever_its_blocks_end(tmp_path_factory, data):
    records = [{"text": "w" * data.draw(st.integers(0, 40))} for _ in range(20)]
    content = json.dumps(records, indent=data.draw(st.sampled_from([None, 1]))).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "BUFFER", data.draw(st.integers(1, 50)))
        found = texts(tmp_path_factory.mktemp("array"), "a.json", content)
    assert found == [record["text"] for record in records]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json"])
def test_a_byte_order_mark_is_no_part_of_the_first_name(name, tmp_path):
    content = b"\xef\xbb\xbf" + in_every_format()[name]
    assert texts(tmp_path, name, content) == [record["text"] for record in RECORDS]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json"])
def test_windows_1252_is_read_right_and_noted_once(name, tmp_path, caplog):
    content = json.dumps(RECORDS[1:] * 2, ensure_ascii=False)
    if name == "a.jsonl":
        content = content.strip("[]").replace("}, {", "}\n{")
    elif name == "a.csv":
        content = 'text\n"Café £30,000 € “now”"\n"Café £30,000 € “now”"\n'
    found = texts(tmp_path, name, content.encode("cp1252"))
    assert found == [RECORDS[1]["text"]] * 2
    assert [record.getMessage() for record in caplog.records] == [
        f"{name}: not UTF-8 throughout; read as Windows-1252"
    ]


def test_a_single_wrong_byte_does_not_change_the_other_rows(tmp_path):
    content = "text\nCafé\nnaïve \N{EURO SIGN}\n".encode() + b"caf\xe9\n"
    assert texts(tmp_path, "a.csv", content) == ["Café", "naïve €", "café"]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_lines_may_end_as_on_any_system(ending, tmp_path):
    content = ending.join(["id,text", "1,words", "2,more"]).encode()
    assert texts(tmp_path, "a.csv", content) == ["words", "more"]


@pytest.mark.parametrize("name", in_every_format())
def test_all_columns_are_read_where_none_is_named(name, tmp_path):
    rows = read(tmp_path, name, in_every_format()[name], None)
    assert [list(row.values) for row in rows] == [["id", "text"]] * 2


def test_types_of_parquet_arrive_as_python_values(tmp_path):
    table = pa.table(
        {
            "category": pa.array(["a", None]).dictionary_encode(),
            "large": pa.array(["b", "c"], pa.large_string()),
            "view": pa.array(["d", "e"], pa.string_view()),
            "binary": pa.array([b"caf\xc3\xa9", None], pa.binary()),
            "number": pa.array([1, None]),
            "list": pa.array([["x"], []]),
            "record": pa.array([{"x": 1}, None]),
        }
    )
    first, second = read(tmp_path, "a.parquet", as_parquet(table), table.column_names)
    assert list(first.values.values()) == ["a", "b", "d", "café", 1, ["x"], {"x": 1}]
    assert list(second.values.values()) == [None, "c", "e", None, None, [], None]


def test_rows_of_another_width_are_marked_and_the_others_read(tmp_path):
    content = b"id,text\n1,words\n2\n3,more,values\n\n5,end\n6,of\n"
    rows = read(tmp_path, "a.csv", content)
    assert [row.number for row in rows] == [1, 2, 3, 5, 6]
    assert [row.problem for row in rows] == [
        None,
        "fewer values than the header has columns",
        "more values than the header has columns",
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("name", "lines", "broken"),
    [
        ("a.tsv", ['3\t"Chef', "4\tCook", '5\t15" screen'], [3, 4, 5]),
        ("a.csv", ['3,"never closed', '4,"Cook"', "5,Cook"], [3, 4]),
        ("a.csv", [r'3,"the \"head\" chef"', '4,"the ""head"" chef"', "5,Cook"], [3]),
    ],
)
def test_rows_that_a_quotation_mark_runs_together_are_all_counted(
    name, lines, broken, tmp_path
):
    between = "\t" if name == "a.tsv" else ","
    sound = [f"{number}{between}Cook" for number in range(1, 10)]
    content = "\n".join([f"id{between}text", *sound[:2], *lines, *sound[5:]])
    rows = read(tmp_path, name, content.encode(), ("id", "text"))
    assert [row.number for row in rows] == list(range(1, 10))
    assert {row.number: row.problem for row in rows if row.problem} == dict.fromkeys(
        broken, "a quotation mark in it is neither doubled nor the end of a value"
    )
    assert all(row.values["id"] == str(row.number) for row in rows if row.values)


def test_a_broken_line_in_the_middle_is_marked_with_its_number(tmp_path):
    content = b'{"text": "a"}\n\n{"text": "b\n["c"]\n{"text": "d"}\n{"text": "e"}\n'
    rows = read(tmp_path, "a.jsonl", content)
    assert [(row.number, row.values.get("text"), row.problem) for row in rows] == [
        (1, "a", None),
        (3, None, "the line is not JSON"),
        (4, None, "not a record with named values"),
        (5, "d", None),
        (6, "e", None),
    ]


def test_a_column_that_few_records_have_is_found(tmp_path):
    content = b'{"id": 1}\n' * 900 + b'{"text": "late"}\n'
    assert texts(tmp_path, "a.jsonl", content)[-2:] == [None, "late"]


LINES = b'{"text": "words"}\n' * 3
SOUND = as_parquet(pa.table({"text": ["words"]}))
DAMAGED = SOUND[:4] + b"\xff" * 20 + SOUND[24:]  # where its first page begins


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "a.csv: an empty file; expected CSV"),
        (
            "a.jsonl.gz",
            gzip.compress(b"", mtime=0),
            "a.jsonl.gz: an empty file; expected JSON",
        ),
        ("a.parquet", b"", "a.parquet: an empty file; expected Parquet"),
        ("a.csv", b"id,text\n", "a.csv: no rows"),
        ("a.json", b"[]", "a.json: no rows"),
        ("a.jsonl", b"\n\n", "a.jsonl: no rows"),
        (
            "a.parquet",
            as_parquet(pa.table({"text": pa.array([], pa.string())})),
            "no rows",
        ),
    ],
)
def test_a_file_without_rows_is_told_apart_from_a_broken_one(
    name, content, message, tmp_path
):
    with pytest.raises(EmptyFileError, match=message):
        read(tmp_path, name, content)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.csv",
            b"id;text\n1;words\n",
            "'id;text', with a semicolon.*expected a comma",
        ),
        ("a.csv", b"id\ttext\n1\twords\n", "with a tab in it.*expected a comma"),
        ("a.tsv", b"id,text\n1,words\n", "with a comma in it.*expected a tab"),
        ("a.csv", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a.csv: binary content"),
        (
            "a.csv",
            b"PK\x03\x04text,id\n",
            "binary content .*Excel workbook.*expected CSV",
        ),
        ("a.csv", "text\nwords\n".encode("utf-16"), "UTF-16 text; save it as UTF-8"),
        (
            "a.jsonl",
            as_parquet(pa.table({"text": ["words"]})),
            "binary content .a Parquet",
        ),
        ("a.xlsx", b"PK\x03\x04", "a.xlsx: unknown format '.xlsx'; expected .csv"),
        ("a.csv", b'id,text\n1,words\n2,"never\n3,closed\n', "row 2: a quotation mark"),
        ("a.csv", b'id,"text\n1,words\n', "the header: a quotation mark is opened and"),
        (
            "a.csv",
            b'text\n"a\nb\nc"d\ne\n',
            "3 of 4 rows .*; the first is row 1: a quotation mark in it is neither",
        ),
        ("a.csv", b"text,text\na,b\n", "two columns are called 'text'"),
        (
            "a.csv",
            b"id,description\n1,a\n",
            "no column 'text'; found 'id', 'description'\\. Your names",
        ),
        ("a.csv", b"id,Texts\n1,words\n", "found 'id', 'Texts'; did you mean 'Texts'"),
        ("a.jsonl", b'{"body": "words"}\n', "no column 'text'; found 'body'"),
        ("a.json", b'[{"body": "words"}]', "no column 'text'; found 'body'"),
        ("a.jsonl", b"{}\n", "no column 'text'; found none"),
        ("a.parquet", as_parquet(pa.table({"body": ["a"]})), "'text'; found 'body'"),
        (
            "a.jsonl",
            LINES + b"broken\n" * 4,
            "4 of 7 rows .*JSON Lines; the first is row 4",
        ),
        (
            "a.json",
            b'{\n "data": [\n {"text": "a"}\n ]\n}',
            "rows cannot be read as JSON",
        ),
        (
            "a.json",
            b'[{"text": "a"}]\n[{"text": "b"}]\n',
            "ends with record 1; expected one array, or one record a line",
        ),
        ("a.json", b'[{"text": "a"}]' + b" " * 2**21 + b"}", "after the array"),
        ("a.json", b'[{"text": "a"}, {"te', "record 2 is cut short or not JSON"),
        ("a.json", b'[{"text": "a"} {"b" 1}, ' + b" " * 2**21, "record 2 is"),
        (
            "a.parquet",
            as_parquet(pa.table({"text": ["a"]}))[:-20],
            "not Parquet, or cut",
        ),
        ("a.parquet", b"text\nwords\n", "not Parquet, or cut short"),
        ("a.parquet", DAMAGED, "or damaged .*; copy it again"),
        (
            "a.parquet",
            as_parquet(pa.Table.from_arrays([["a"], ["b"]], ["text", "text"])),
            "two columns are called 'text'",
        ),
        (
            "a.parquet",
            as_parquet(pa.table({"text": pa.array([0, 4_000_000], pa.date32())})),
            "date or time .* row 0.*; expected years from 1 to 9999",
        ),
        (
            "a.json",
            b'[{"text": 1}, {"text": ' + b"[" * 2**17,
            "record 2 cannot be read",
        ),
        ("a.json", b'[{"text": ' + b"1" * 5000 + b"}]", "record 1 cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_clear_error(
    name, content, message, tmp_path
):
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path, name, content)
    assert str(caught.value).startswith(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.csv.gz", "a.jsonl.gz", "a.parquet.gz"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
def test_truncated_gzip_is_one_clear_error(name, share, tmp_path):
    numbers = [str(zlib.crc32(bytes([i % 256, i // 256]))) for i in range(20_000)]
    content = {
        "a.csv.gz": "text\n" + "\n".join(numbers),
        "a.jsonl.gz": "\n".join(json.dumps({"text": number}) for number in numbers),
    }.get(name, "").encode() or as_parquet(pa.table({"text": numbers}))
    packed = gzip.compress(content)
    with pytest.raises(ValueError, match=f"{name}: the gzip file is cut short"):
        read(tmp_path, name, packed[: int(len(packed) * share)])


@pytest.mark.parametrize("name", ["a.csv.gz", "a.parquet.gz"])
def test_damaged_gzip_is_one_clear_error(name, tmp_path):
    packed = bytearray(gzip.compress(b"text\n" + bytes(range(65, 90)) * 10**5))
    packed[-6] ^= 0xFF  # in its checksum
    with pytest.raises(ValueError, match="the gzip file is damaged"):
        read(tmp_path, name, bytes(packed))


def test_a_fault_of_the_store_is_not_taken_for_one_of_the_file(monkeypatch):
    class Store(io.BytesIO):
        breaks = False

        def readinto(self, buffer):
            if self.breaks:
                raise OSError("failed to read")
            return super().readinto(buffer)

    table = pa.table({"text": ["words"] * 3000})
    store = Store(as_parquet(table, row_group_size=1000))
    monkeypatch.setattr(tables, "BUFFER", 100)
    monkeypatch.setattr(tables, "open_file", lambda file: store)
    rows = read_rows(File("a.parquet", "a.parquet"), ["text"])
    next(rows)
    store.breaks = True
    with pytest.raises(OSError, match="failed to read"):
        list(rows)


def test_a_value_of_many_megabytes_is_no_trouble(tmp_path):
    long = "words " * 2**20
    for name, content in {
        "a.csv": f"text\nshort\n{long}\n",
        "a.jsonl": json.dumps({"text": "short"}) + "\n" + json.dumps({"text": long}),
        "a.json": json.dumps([{"text": "short"}, {"text": long}]),
    }.items():
        assert texts(tmp_path, name, content.encode()) == ["short", long], name


def test_a_value_without_end_is_refused_before_memory_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "LONGEST_VALUE", 1000)
    monkeypatch.setattr(tables, "BUFFER", 100)
    for name, content in {
        "a.csv": "text\n" + "w" * 2000,
        "a.jsonl": json.dumps({"text": "w" * 2000}),
        "a.json": json.dumps([{"text": "w" * 5000}]),
    }.items():
        with pytest.raises(ValueError, match=name):
            read(tmp_path, name, content.encode())
