"""Adverts prepared in shards are those that are prepared all at once."""

import json

import pandas as pd
import pyarrow
import pytest
from pyarrow import parquet

from ojd_daps_language_models.configs import PrepareAdvertsConfig
from ojd_daps_language_models.getters.adverts import (
    MOST_SHARDS,
    iter_advert_parts,
    iter_shard,
    list_shards,
)
from ojd_daps_language_models.preprocessing import shards as preparation
from ojd_daps_language_models.preprocessing.adverts import prepare_adverts
from ojd_daps_language_models.sample_data.generate_adverts import generate_adverts
from ojd_daps_language_models.stores import Folder

CONFIG = PrepareAdvertsConfig.model_validate({"split": {"max_verbatim_overlap": 1}})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Adverts in four files and three formats, with all that is kept aside."""
    folder = tmp_path_factory.mktemp("adverts")
    rows = list(generate_adverts(190, seed=3))
    rows += [row | {"id": f"again {row['id']}"} for row in rows[40:60]]
    rows += [
        {"id": "1", "text": "", "employer": "A"},
        {"id": "1", "text": "Apply now", "employer": "A"},  # unfit
        {"id": "1", "text": rows[7]["text"], "employer": "B"},  # seen before
        {"id": "bare", "text": "? " * 30, "employer": "C"},  # without a word
        {"id": "bare too", "text": "! " * 30, "employer": "D"},
    ]
    rows = pd.DataFrame(rows).astype(object).where(lambda table: table.notna(), None)
    # Rows of each lot are spread, so that duplicates and ids stand in several files.
    for number, name in enumerate(["a.jsonl", "b.csv", "d.jsonl"]):
        own = rows[number::4]
        if name.endswith("csv"):
            own.to_csv(folder / name, index=False)
        else:
            own.to_json(folder / name, orient="records", lines=True)
    table = pyarrow.Table.from_pandas(rows[3::4].astype("str"), preserve_index=False)
    parquet.write_table(table, folder / "c.parquet", row_group_size=10)
    (folder / "empty.csv").write_text("id,text,employer,title,date\n")
    (folder / "test").mkdir()
    test = pd.concat([rows[5:20], rows[150:165]])
    test.to_json(folder / "test/test.jsonl", orient="records", lines=True)
    return folder


def at_once(paths, config):
    given = iter_advert_parts(
        paths["train"], paths.get("validation"), paths.get("test"), config.data
    )
    return prepare_adverts(given, config)


def in_shards(paths, config, store, megabytes, bands):
    """What the steps of the flow do; adverts, kept aside, report."""
    shards = list_shards(paths, megabytes)
    parts = [shard["part"] for shard in shards]
    for number, shard in enumerate(shards):
        chunks = iter_shard(shard, config.data)
        found_by = preparation.stage_shard(store, number, chunks, config)
    threshold = config.duplicates.near_threshold
    groups = preparation.group_bands(threshold, bands)
    for number, group in enumerate(groups):
        preparation.link_shards(store, parts, number, group, threshold)
    decided = preparation.divide_shards(store, parts, len(groups), paths, config)
    files = [preparation.write_shard(store, number) for number in range(len(shards))]
    report = {
        **found_by,
        **decided,
        "seen_by_checkpoint": None,
        "fingerprint": preparation.hash_shards(store, len(shards)),
    }
    tables = []
    for of_kind in zip(*files, strict=True):
        read = []
        for file in of_kind:
            with store.read(file["name"]) as path:
                assert path.stat().st_size == file["bytes"]
                read.append(parquet.read_table(path).to_pandas())
            assert len(read[-1]) == file["rows"]
        tables.append(pd.concat(read, ignore_index=True))
    return *tables, report


def in_order(rows):
    rows = rows.sort_values(["source", "row", "reason"], ignore_index=True)
    return rows.astype({"id": "str", "reason": "str"})


@pytest.mark.parametrize(
    ("megabytes", "bands", "with_test", "by"),
    [
        (0.02, 7, True, "employer"),
        (0.05, 51, False, "cluster"),
        (1000, 20, True, "cluster"),
    ],
)
def test_both_ways_give_the_same(folder, tmp_path, megabytes, bands, with_test, by):
    # Without a language, adverts without a word are kept too.
    given = {"split": {"by": by, "max_verbatim_overlap": 1}}
    given["data"] = {"language": "en" if by == "employer" else None}
    config = PrepareAdvertsConfig.model_validate(given)
    paths = {"train": str(folder)}
    if with_test:
        paths["test"] = str(folder / "test")
    adverts, aside, report = at_once(paths, config)
    assert len(set(aside["reason"])) >= 5
    in_pieces = in_shards(paths, config, Folder(tmp_path), megabytes, bands)
    columns = [*adverts.columns]
    pd.testing.assert_frame_equal(in_pieces[0][columns], adverts, check_dtype=False)
    pd.testing.assert_frame_equal(in_order(in_pieces[1]), in_order(aside))
    assert in_pieces[2] == report
    assert json.loads(json.dumps(in_pieces[2])) == report
    words = in_pieces[0]["sentences"].map(lambda own: " ".join(own).split())
    assert words.tolist() == adverts["text"].str.split().tolist()


def test_parts_that_share_sentences_are_refused(folder, tmp_path):
    strict = {"split": {"max_verbatim_overlap": 0}}
    config = PrepareAdvertsConfig.model_validate(strict)
    with pytest.raises(ValueError, match="of the held-out sentences stand word for"):
        in_shards({"train": str(folder)}, config, Folder(tmp_path), 0.05, 51)


def test_ids_that_repeat_across_shards_are_refused_where_most_do(tmp_path):
    """In none of the shards does one repeat."""
    rows = pd.DataFrame(generate_adverts(20, seed=3)).assign(id=range(20))
    for name in "abc":
        rows.to_csv(tmp_path / f"{name}.csv", index=False)
    store = Folder(tmp_path / "store")
    message = (
        r"b.csv, c.csv: 40 of 60 rows have an id that was seen before, such as '0'"
    )
    with pytest.raises(ValueError, match=message):
        in_shards({"train": str(tmp_path)}, CONFIG, store, 0.02, 51)


def test_shards_are_of_like_size_and_hold_each_row_once(folder):
    shards = list_shards({"train": str(folder)}, 0.02)
    assert len(shards) > 8
    pieces = [(name, groups) for s in shards for _, name, groups in s["files"]]
    names = [name for name, _ in pieces]
    assert sorted(set(names)) == [
        "a.jsonl",
        "b.csv",
        "c.parquet",
        "d.jsonl",
        "empty.csv",
    ]
    groups = [g for name, own in pieces if name == "c.parquet" for g in own]
    assert groups == list(range(6))
    assert all(groups is None for name, groups in pieces if name != "c.parquet")
    few = list_shards({"train": str(folder), "test": str(folder / "test")}, 1)
    assert [shard["part"] for shard in few] == ["train", "test"]
    assert len(list_shards({"train": str(folder)}, 1e-6)) <= MOST_SHARDS + 1


def test_the_last_shard_is_as_large_as_the_others(tmp_path):
    for name in "abcd":
        (tmp_path / f"{name}.csv").write_text("text\n" + "word " * 2000)
    shards = list_shards({"train": str(tmp_path)}, 0.035)
    assert [len(shard["files"]) for shard in shards] == [2, 2]


def test_shards_that_were_not_prepared_alike_are_refused():
    found = [{"names": "en_core_web_sm"}, {"names": "not looked for"}]
    with pytest.raises(ValueError, match="have to be installed on all machines"):
        preparation.check_alike(found)
    assert preparation.check_alike(found[:1] * 3) == found[0]


def test_a_shard_that_fails_leaves_no_file(folder, tmp_path):
    (shard,) = list_shards({"train": str(folder / "test")}, 1)

    def cut_off():
        yield from iter_shard(shard, CONFIG.data)
        raise ConnectionError

    store = Folder(tmp_path)
    with pytest.raises(ConnectionError):
        preparation.stage_shard(store, 0, cut_off(), CONFIG)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_more_tasks_than_metaflow_makes_are_refused():
    assert len(preparation.group_bands(0.8, 1)) <= preparation.MOST_TASKS
    with pytest.raises(ValueError, match=r"bands_per_task: 1 of 128 .* expected 2 or"):
        preparation.group_bands(0.5, 1)
    assert len(preparation.group_bands(0.5, 2)) == 64


def test_what_is_prepared_is_not_changed_any_more(tmp_path):
    preparation.open_staged(str(tmp_path))
    preparation.write_manifest(Folder(tmp_path), {"files": []})
    with pytest.raises(ValueError, match=r"these adverts are prepared.* a new run"):
        preparation.open_staged(str(tmp_path))
