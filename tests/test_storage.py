import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from s3_stand_in import cut_connection

from ojd_daps_language_models.getters import storage
from ojd_daps_language_models.getters.storage import (
    count_bytes,
    list_files,
    open_file,
)
from ojd_daps_language_models.getters.tables import read_rows

ROOT = Path(__file__).parent.parent


def names(path) -> list[str]:
    return [file.name for file in list_files(str(path))]


def fill(folder, *files):
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text\nwords\n")


def test_a_folder_gives_its_own_files_sorted_and_names_what_it_leaves_out(
    tmp_path, caplog
):
    fill(
        tmp_path, "b.csv", "a.jsonl.gz", ".c.csv", "_SUCCESS", "notes.txt", "old/d.csv"
    )
    assert names(tmp_path) == ["a.jsonl.gz", "b.csv"]
    assert "'.c.csv', '_SUCCESS', 'notes.txt'" in caplog.text


def test_a_glob_goes_into_folders_only_where_it_says_so(tmp_path):
    fill(tmp_path, "a.csv", "x/b.csv", "x/y/c.csv", "x/d.pdf")
    assert names(tmp_path / "*.csv") == ["a.csv"]
    assert names(tmp_path / "*" / "*") == ["b.csv"]
    assert names(tmp_path / "**" / "*.csv") == ["a.csv", "b.csv", "c.csv"]


def test_what_is_in_hidden_folders_is_left_out_unless_they_are_named(
    tmp_path, s3, hub, caplog
):
    """Notebooks keep copies of data there, and Spark what it has not finished."""
    files = "a.csv", ".ipynb_checkpoints/b.csv", "_temporary/0/c.csv"
    fill(tmp_path / ".home", *files)
    for file in files:
        s3.put(f".home/{file}", b"text\nwords\n")
    own = {f".home/{file}": b"text\nwords\n" for file in files}
    hub.repositories["datasets/owner/adverts"] = own
    for root in (tmp_path, f"s3://{s3.bucket}", "hf://datasets/owner/adverts"):
        caplog.clear()
        assert names(f"{root}/.home/**/*.csv") == ["a.csv"]
        assert "_temporary/0/c.csv" in caplog.text
        assert names(f"{root}/.home/_temporary/**/*.csv") == ["c.csv"]


def test_files_of_one_name_are_told_apart(tmp_path):
    fill(tmp_path, "x/a.csv", "y/a.csv")
    assert names(tmp_path / "*" / "a.csv") == [
        str(tmp_path / "x" / "a.csv"),
        str(tmp_path / "y" / "a.csv"),
    ]


def test_a_file_with_glob_characters_in_its_name_is_a_file(tmp_path, s3, hub):
    name = "adverts[1].csv"
    fill(tmp_path, name, "adverts1.csv")
    both = {name: b"text\nwords\n", "adverts1.csv": b"text\nwords\n"}
    hub.repositories["datasets/owner/adverts"] = both
    for key, content in both.items():
        s3.put(key, content)
    for root in (tmp_path, f"s3://{s3.bucket}", "hf://datasets/owner/adverts"):
        assert names(f"{root}/{name}") == [name]


def test_how_much_text_there_is_can_be_told_without_reading_it(tmp_path, s3, hub):
    fill(tmp_path, "a.csv", "b.jsonl.gz", "x/c.parquet", "x/a.csv", "d[1].csv")
    one = len("text\nwords\n")
    keys = [path.relative_to(tmp_path) for path in tmp_path.rglob("*.*")]
    files = {key.as_posix(): (tmp_path / key).read_bytes() for key in keys}
    for key, content in files.items():
        s3.put(f"adverts/{key}", content)
        s3.put(f"adverts_old/{key}", content)
    hub.repositories["datasets/owner/adverts"] = files
    bucket = f"s3://{s3.bucket}/adverts"
    for place in (str(tmp_path), bucket):
        assert count_bytes(place) == count_bytes(f"{place}/") == 7 * one
        assert count_bytes(f"{place}/b.jsonl.gz") == 5 * one
        assert count_bytes(f"{place}/d[1].csv") == one
        assert count_bytes(f"{place}/**/*.csv") == 3 * one
        assert count_bytes(f"{place}/nothing") == 0
    assert count_bytes("hf://datasets/owner/adverts") == 12 * one
    assert count_bytes("hf://datasets/owner/adverts/x") == 5 * one


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere.csv", "nowhere.csv: no such file or folder"),
        ("*.parquet", r"\*.parquet: no file matches"),
        ("*.pdf", r"\*.pdf: no file of a known format .*found 'a.pdf'"),
        (
            "papers",
            "papers: no file of a known format .*'a.pdf'.*folders.*'old'.*/\\*\\*",
        ),
        ("empty", "empty: nothing is there"),
    ],
)
def test_a_path_with_nothing_to_read_is_one_clear_error(
    path, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path, "a.pdf", "papers/a.pdf", "papers/old/a.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=message):
        list_files(path)


@pytest.mark.parametrize("path", ["https://x.org/a.csv", "s3://", "hf://owner/name"])
def test_an_address_of_another_kind_says_which_are_known(path):
    with pytest.raises(ValueError, match="expected"):
        list_files(path)


# S3


def test_s3_gives_a_key_a_prefix_or_a_glob_as_the_disk_does(s3, caplog):
    for key in ("a.csv", "x/b.csv", "x/c d@1.csv", "x/y/e.csv", "x/_SUCCESS", "xz.csv"):
        s3.put(key, b"text\nwords\n")
    s3.put("x/", b"")
    root = f"s3://{s3.bucket}"
    assert names(root) == ["a.csv", "xz.csv"]
    assert names(f"{root}/x") == names(f"{root}/x/") == ["b.csv", "c d@1.csv"]
    assert names(f"{root}/x/b.csv") == ["b.csv"]
    assert names(f"{root}/x/*.csv") == ["b.csv", "c d@1.csv"]
    assert names(f"{root}/**/*.csv") == [
        "a.csv",
        "b.csv",
        "c d@1.csv",
        "e.csv",
        "xz.csv",
    ]
    assert "_SUCCESS" in caplog.text
    with open_file(list_files(f"{root}/x/c d@1.csv")[0]) as file:
        assert file.read() == b"text\nwords\n"


SEEN = """
import pathlib, sys
from ojd_daps_language_models.getters import storage
url, folder = sys.argv[1:]
(file,) = storage.list_files(url)
with storage.open_file(file) as stream:
    print(stream.read().decode(), storage.count_bytes(url))
storage.download_s3_folder(url.rpartition("/")[0], pathlib.Path(folder), (".csv",))
"""


@pytest.mark.parametrize(
    "settings",
    [
        {"METAFLOW_S3_ENDPOINT_URL": "ENDPOINT"},
        {
            "METAFLOW_DATATOOLS_CLIENT_PARAMS": '{"endpoint_url": "ENDPOINT", '
            '"config": {"s3": {"addressing_style": "path"}}}'
        },
    ],
    ids=["endpoint", "parameters"],
)
def test_a_store_that_only_metaflow_s_settings_name_is_read(settings, s3, tmp_path):
    url = s3.put("x/a.csv", b"text\nwords\n")
    environment = os.environ | {
        name: value.replace("ENDPOINT", s3.endpoint) for name, value in settings.items()
    }
    del environment["AWS_ENDPOINT_URL"]
    printed = subprocess.check_output(
        [sys.executable, "-c", SEEN, url, str(tmp_path)], env=environment, cwd=ROOT
    )
    assert printed.decode() == "text\nwords\n 11\n"
    assert (tmp_path / "a.csv").read_bytes() == b"text\nwords\n"


def test_a_listing_of_many_pages_is_read_to_its_end(s3, monkeypatch):
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "10")
    for number in range(25):
        s3.put(f"{number}.csv", b"text\n")
    assert s3.client.list_objects_v2(Bucket=s3.bucket)["IsTruncated"]
    assert len(list_files(f"s3://{s3.bucket}")) == 25


def test_an_absent_bucket_and_an_absent_key_are_told_apart(s3):
    s3.put("a.csv", b"text\nwords\n")
    with pytest.raises(
        FileNotFoundError, match=r"s3://nowhere/a.csv: there is no such buc"
    ):
        list_files("s3://nowhere/a.csv")
    with pytest.raises(
        FileNotFoundError, match=r"b.csv: no such key or prefix in the buc"
    ):
        list_files(f"s3://{s3.bucket}/b.csv")
    with pytest.raises(FileNotFoundError, match="no file matches"):
        list_files(f"s3://{s3.bucket}/*.json")


def test_a_key_that_vanishes_before_it_is_read_is_named(s3):
    (file,) = list_files(s3.put("a.csv", b"text\nwords\n"))
    s3.client.delete_object(Bucket=s3.bucket, Key="a.csv")
    with pytest.raises(FileNotFoundError, match=r"a.csv: there is no such key"):
        list(read_rows(file, ["text"]))


def test_refused_access_says_what_to_check(s3):
    url = s3.put("a.csv", b"text\nwords\n")
    (file,) = list_files(url)
    refusal = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Deny",
                "Principal": "*",
                "Action": ["s3:GetObject", "s3:HeadObject", "s3:ListBucket"],
                "Resource": f"arn:aws:s3:::{s3.bucket}/*",
            }
        ],
    }
    s3.client.put_bucket_policy(Bucket=s3.bucket, Policy=json.dumps(refusal))
    for refused in (lambda: list_files(url), lambda: list(read_rows(file, ["text"]))):
        with pytest.raises(PermissionError, match=r"a\.csv: S3 refused.*AWS_PROFILE"):
            refused()


def test_without_credentials_it_says_how_to_log_in(s3, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)  # it keeps credentials
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with pytest.raises(PermissionError, match=r"no usable AWS credentials.*sso login"):
        list_files(f"s3://{s3.bucket}/a.csv")


def test_an_unreachable_s3_is_one_clear_error(s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(ConnectionError, match=r"s3://any/a.csv: S3 cannot be reached"):
        list_files("s3://any/a.csv")


@pytest.mark.parametrize("form", ["jsonl", "jsonl.gz", "parquet"])
def test_a_connection_cut_midway_loses_and_repeats_nothing(form, s3, monkeypatch):
    url = s3.put(f"a.{form}", encoded(many_records(), form))
    monkeypatch.setattr("smart_open.s3.time.sleep", lambda seconds: None)
    with cut_connection(s3.endpoint, after_bytes=200_000, times=2) as cuts:
        monkeypatch.setenv("AWS_ENDPOINT_URL", cuts.endpoint)
        rows = [
            row.values
            for file in list_files(url)
            for row in read_rows(file, ["id", "text"])
        ]
        assert cuts.made == 2
    assert rows == many_records()


def test_a_connection_that_stays_cut_is_one_clear_error(s3, monkeypatch):
    url = s3.put("a.jsonl", encoded(many_records(), "jsonl"))
    monkeypatch.setattr("smart_open.s3.time.sleep", lambda seconds: None)
    with cut_connection(s3.endpoint, after_bytes=10_000, times=1000) as cuts:
        monkeypatch.setenv("AWS_ENDPOINT_URL", cuts.endpoint)
        (file,) = list_files(url)
        with pytest.raises(ConnectionError, match=r"a.jsonl: the connection broke"):
            list(read_rows(file, ["text"]))


def test_a_folder_is_downloaded_although_the_connection_is_cut(
    s3, monkeypatch, tmp_path
):
    weights = bytes(range(256)) * 4000
    s3.put("model/model.safetensors", weights)
    s3.put("model/1_Pooling/config.json", b"{}")
    s3.put("model/pytorch_model.bin", b"pickle")
    s3.put("model2/config.json", b"{}")
    with cut_connection(s3.endpoint, after_bytes=200_000, times=2) as cuts:
        monkeypatch.setenv("AWS_ENDPOINT_URL", cuts.endpoint)
        storage.download_s3_folder(
            f"s3://{s3.bucket}/model", tmp_path, (".json", ".safetensors")
        )
        assert cuts.made == 2
    assert (tmp_path / "model.safetensors").read_bytes() == weights
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")}
    assert found == {"model.safetensors", "1_Pooling/config.json"}


def test_a_key_cannot_write_outside_of_the_folder(s3, tmp_path):
    s3.put("model/../../evil.json", b"{}")
    with pytest.raises(ValueError, match="points out of its folder"):
        storage.download_s3_folder(
            f"s3://{s3.bucket}/model", tmp_path / "m", (".json",)
        )
    assert not list(tmp_path.rglob("evil.json"))


def many_records() -> list[dict]:
    return [{"id": i, "text": f"{i * 7919} " * 150} for i in range(3000)]


def encoded(records: list[dict], form: str) -> bytes:
    if form == "parquet":
        import pyarrow as pa
        from pyarrow import parquet

        sink = pa.BufferOutputStream()
        parquet.write_table(pa.Table.from_pylist(records), sink, compression="none")
        return sink.getvalue().to_pybytes()
    lines = "".join(json.dumps(record) + "\n" for record in records).encode()
    return gzip.compress(lines, 0) if form.endswith(".gz") else lines


# The hub


def test_a_data_set_of_the_hub_gives_its_data_files(hub, caplog):
    hub.repositories["datasets/owner/adverts"] = {
        "README.md": b"",
        "dataset_infos.json": b"{}",
        "data/train.csv": b"text\nwords\n",
        "data/test.jsonl": b'{"text": "more words"}\n',
    }
    root = "hf://datasets/owner/adverts"
    assert names(root) == ["test.jsonl", "train.csv"]
    assert "README.md" in caplog.text
    assert names(f"{root}/data/*.csv") == names(f"{root}@main/data/train.csv")
    rows = [row for file in list_files(root) for row in read_rows(file, ["text"])]
    assert [row.values["text"] for row in rows] == ["more words", "words"]


def test_a_data_set_is_read_at_the_commit_that_was_listed(hub):
    hub.repositories["datasets/owner/adverts"] = {"a.csv": b"text\nwords\n"}
    (file,) = list_files("hf://datasets/owner/adverts")
    assert file.location.startswith("hf://datasets/owner/adverts@c0ffee")


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        (
            "owner/none",
            FileNotFoundError,
            "no such dataset, or it is private.*HF_TOKEN",
        ),
        ("owner/adverts@old", FileNotFoundError, "no such revision"),
        ("owner/adverts/b.csv", FileNotFoundError, "nothing is there"),
        ("owner/adverts/*.csv", FileNotFoundError, "no file matches"),
        ("owner/gated", PermissionError, "gives access on request"),
    ],
)
def test_what_the_hub_refuses_is_one_clear_error(path, error, message, hub):
    hub.repositories["datasets/owner/adverts"] = {"a.json": b"[]"}
    hub.repositories["datasets/owner/gated"] = {"a.json": b"[]"}
    hub.gated.add("datasets/owner/gated")
    with pytest.raises(error, match=message):
        list_files(f"hf://datasets/{path}")


def test_an_unreachable_hub_is_one_clear_error(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        ConnectionError, match="owner/adverts: the hub cannot be reached"
    ):
        list_files("hf://datasets/owner/adverts")


def test_a_hub_that_is_switched_off_says_by_what(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE=1"):
        list_files("hf://datasets/owner/adverts")
