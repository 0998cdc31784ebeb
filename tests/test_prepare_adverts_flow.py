"""Adverts are prepared once, by tasks that can be repeated, for several trainings."""

import json
import re
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import SAMPLE

from flows import (
    artifacts,
    errors_of,
    report_of,
    run_flow,
    run_id_of,
    sentences_in,
)
from ojd_daps_language_models import advert_data, preflight
from ojd_daps_language_models.advert_data import texts_by_part
from ojd_daps_language_models.configs import (
    MLMConfig,
    NSPConfig,
    PrepareAdvertsConfig,
    parse_config,
)
from ojd_daps_language_models.getters import checkpoints, prepared
from ojd_daps_language_models.getters.adverts import iter_advert_parts
from ojd_daps_language_models.getters.prepared import (
    PreparedSentences,
    PreparedTexts,
    find_prepared,
    read_adverts,
    read_kept_aside,
)
from ojd_daps_language_models.preprocessing.adverts import prepare_adverts
from ojd_daps_language_models.preprocessing.pairs import make_pairs
from ojd_daps_language_models.preprocessing.splits import PARTS
from ojd_daps_language_models.preprocessing.token_files import open_tokens, read_tokens
from ojd_daps_language_models.stores import Folder

prepare = partial(run_flow, "prepare_adverts_flow")
LATEST = "run:PrepareAdvertsFlow/latest"
COLUMNS = ["id", "text", "employer", "title", "date", "source", "row", "part"]


def read_prepared(found):
    return read_adverts(found, COLUMNS), read_kept_aside(found)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Where the runs of this module are kept, with some of the sample in two files."""
    home = tmp_path_factory.mktemp("runs")
    rows = pd.read_json(SAMPLE, lines=True, dtype=False)[:160]
    (home / "adverts").mkdir()
    for number in range(2):
        rows[number::2].to_json(
            home / f"adverts/{number}.jsonl", orient="records", lines=True
        )
    settings = {"split": {"max_verbatim_overlap": 1}}
    (home / "task.yaml").write_text(yaml.safe_dump(settings))
    settings["shards"] = {"megabytes": 0.1, "bands_per_task": 60}
    (home / "shards.yaml").write_text(yaml.safe_dump(settings))
    return home


@pytest.fixture(scope="module")
def resumed(home):
    """A run whose second shard failed at first: what both said, and what was there."""
    failed = prepare(
        home,
        *("run", "--data", "adverts", "--max-workers", "1"),
        *("--with", "tests.faults.fail_in_task:at=prepare,task=1"),
        before=["--config", "config", str(home / "shards.yaml")],
    )
    assert failed.returncode != 0
    staged = [path.name for path in home.glob("**/staged/signatures/*")]
    done = prepare(home, "resume", "--origin-run-id", run_id_of(failed))
    assert done.returncode == 0, errors_of(done)
    return failed, staged, done


@pytest.fixture(scope="module")
def folder(resumed):
    """What the run has made."""
    return Path(re.search(r"prepared adverts: (\S+)", errors_of(resumed[2]))[1])


def test_only_the_shard_that_failed_is_repeated(resumed, folder):
    failed, staged, done = resumed
    assert "0000.bin" in staged
    started = re.findall(r"/prepare/\d+ \(pid \d+\)\] Task is starting", done.stdout)
    assert len(started) == 1
    assert folder.name == run_id_of(failed), "it goes on where it began"
    kept = [path.relative_to(folder).as_posix() for path in folder.rglob("*")]
    assert sorted(kept) == [
        *("adverts", "adverts/0000.parquet", "adverts/0001.parquet"),
        *("kept_aside", "kept_aside/0000.parquet", "kept_aside/0001.parquet"),
        "manifest.json",
    ]


def test_the_manifest_and_the_report_quote_no_advert(resumed, folder):
    texts = read_prepared(find_prepared(str(folder)))[0]["text"]
    assert not sentences_in((folder / "manifest.json").read_text(), texts)
    report = report_of(resumed[2])
    assert "Kept aside, by reason" in report
    assert not sentences_in(report, texts)


def test_they_are_what_a_training_would_have_made_of_the_files(folder, home):
    config = parse_config((home / "task.yaml").read_text(), NSPConfig)
    given = iter_advert_parts(str(home / "adverts"), None, None, config.data)
    adverts, kept_aside, report = prepare_adverts(given, config)
    found = find_prepared(str(folder))
    assert found["report"] == report
    for one, other in zip(read_prepared(found), (adverts, kept_aside), strict=True):
        order = ["source", "row"]
        pd.testing.assert_frame_equal(
            one.sort_values(order, ignore_index=True),
            other.sort_values(order, ignore_index=True),
        )
    table = read_adverts(found, ["text", "part"])
    for part in PARTS:
        texts = PreparedTexts(found, part)
        expected = table.loc[table["part"] == part, "text"].tolist()
        assert list(texts) == list(texts) == expected, "each time anew"
        assert len(texts) == len(expected)
        assert expected[0] in texts and "no advert" not in texts
    sentences, pairs, _ = make_pairs(adverts, config.pairs)
    kept = PreparedSentences(found)
    assert list(kept) == list(kept) == sentences, "each time anew"
    assert len(kept) == len(sentences) and sentences[0] in kept and [""] not in kept
    again = make_pairs(adverts, config.pairs, kept)
    pd.testing.assert_frame_equal(again.pairs, pairs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flow", "tokenized"), [("mlm_flow", set(PARTS)), ("nsp_flow", {"sentences"})]
)
def test_a_model_learns_from_them_as_from_the_files(
    resumed, home, tiny_bert, flow, tokenized
):
    config = ["--config", "config", str(home / "task.yaml")]
    found = {}
    for data in (LATEST, "adverts"):
        options = ("--checkpoint", tiny_bert, "--epochs", "0", "--data", data)
        done = run_flow(flow, home, "run", *options, before=config)
        assert done.returncode == 0, errors_of(done)
        found[data] = artifacts(flow, home, done)
    of_run, of_files = found[LATEST], found["adverts"]
    assert of_run["data_report"] == of_files["data_report"]
    texts = texts_by_part(of_files["adverts"])
    for part, own in texts_by_part(of_run["adverts"]).items():
        assert list(own) == list(texts[part])
    tokens = [tokens_of(run, home) for run in (of_run, of_files)]
    assert tokens[0].keys() == tokens[1].keys() == tokenized
    for part, fields in tokens[0].items():
        for name, values in fields.items():
            assert np.array_equal(values, tokens[1][part][name])
    if flow == "nsp_flow":
        pd.testing.assert_frame_equal(of_run["pairs"], of_files["pairs"])
        assert of_run["sentences"] is None and of_files["sentences"]
    run = f"run:PrepareAdvertsFlow/{run_id_of(resumed[2])}"
    assert of_run["lineage"]["data"] == of_run["recipe"]["data"]["path"] == run


def as_arrays(fields):
    return read_tokens(fields)._asdict() if "path" in fields else fields


def tokens_of(run, home):
    """Of each part the arrays, whether they are in the artifact or in files."""
    with open_tokens(run["tokens"], Folder(home / ".metaflow/tokens")) as tokens:
        return {
            part: {name: values.copy() for name, values in as_arrays(fields).items()}
            for part, fields in tokens.items()
        }


def copy_of(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_a_folder_can_be_moved(folder, tmp_path):
    copy = copy_of(folder, tmp_path)
    here, there = find_prepared(str(folder)), find_prepared(str(copy))
    assert there["data"] == str(copy)
    for one, other in zip(read_prepared(here), read_prepared(there), strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_a_missing_file_is_named(folder, tmp_path):
    copy = copy_of(folder, tmp_path)
    (copy / "adverts/0001.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"adverts/0001\.parquet: missing"):
        find_prepared(str(copy))


def test_a_file_that_is_cut_short_is_named(folder, tmp_path):
    path = copy_of(folder, tmp_path) / "kept_aside/0000.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"0000\.parquet: .* bytes, and .* written"):
        find_prepared(str(path.parents[1]))


def test_a_newer_schema_is_refused(folder, tmp_path):
    path = copy_of(folder, tmp_path) / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 99}))
    with pytest.raises(ValueError, match=r"newer version .*schema 99, and 1 can be"):
        find_prepared(str(path.parent))


def test_what_was_not_prepared_is_left_to_others(home, tmp_path):
    (tmp_path / "manifest.json").write_text('[{"text": "an advert"}]')
    for path in (tmp_path, home / "adverts", home / "nowhere", "sample", "hf://a/b"):
        assert find_prepared(str(path)) is None
    assert find_prepared("s3://bucket/adverts.csv") is None


def test_a_prefix_on_s3_may_have_a_dot(monkeypatch):
    manifest = {"schema": 1, "files": []}
    monkeypatch.setattr(prepared, "_read_manifest", lambda place: manifest)
    monkeypatch.setattr(prepared, "check_files", lambda prepared: None)
    place = "s3://bucket/adverts-2024.06"
    assert find_prepared(place)["place"] == place


def test_a_checkpoint_whose_adverts_are_gone_is_named(folder, tmp_path, monkeypatch):
    copy = copy_of(folder, tmp_path)
    found = find_prepared(str(copy))
    artifacts = {"origin": "embedded"}
    monkeypatch.setattr(checkpoints, "get_training_rows", lambda *_: found)
    monkeypatch.setattr(checkpoints, "get_run_artifact", lambda *a: artifacts[a[-1]])
    texts = checkpoints.get_training_texts("run:MLMFlow/12")
    expected = list(PreparedTexts(found, "train"))
    assert list(texts) == list(texts) == expected and len(texts) == len(expected) > 0
    all_parts = list(read_adverts(found, ["text"])["text"])
    private = checkpoints.collect_private_texts(found, "run:MLMFlow/12")
    assert list(private) == expected + all_parts and len(private) == len(list(private))
    assert len(all_parts) > len(expected)
    shutil.rmtree(copy)
    with pytest.raises(FileNotFoundError, match=r"MLMFlow/12 was trained on .*copy"):
        checkpoints.get_training_texts("run:MLMFlow/12")


def test_a_run_that_has_not_come_to_its_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(prepared, "get_run_artifact", lambda *_: str(tmp_path))
    with pytest.raises(FileNotFoundError, match="the run has not come to its end"):
        find_prepared("run:PrepareAdvertsFlow/12")


def test_the_run_of_another_flow_is_refused():
    with pytest.raises(ValueError, match="run:MLMFlow/1: no run that prepares adverts"):
        find_prepared("run:MLMFlow/1")


def test_official_parts_beside_prepared_adverts_are_refused(folder, home, tiny_bert):
    data = ("--data", folder, "--test-data", "adverts")
    done = run_flow("mlm_flow", home, "run", "--checkpoint", tiny_bert, *data)
    said = errors_of(done)
    assert done.returncode != 0 and "has its parts already" in said, said
    assert "Traceback" not in said


def test_pairs_of_one_employer_are_refused_where_adverts_have_none(monkeypatch):
    """That needs no advert to tell, and a run that was begun keeps its shares."""
    columns = "data: {columns: {employer: null}}\nsplit: {by: cluster}"
    config = parse_config(columns, PrepareAdvertsConfig).model_dump()
    kept = {name: config[name] for name in ("data", "split")}
    manifest = {"data": "run:PrepareAdvertsFlow/1", "config": kept}
    monkeypatch.setattr(advert_data, "find_prepared", lambda path: manifest)

    def check(model, text=""):
        own = parse_config(text, model).model_dump()
        config = SimpleNamespace(to_dict=lambda: own)
        parts = dict.fromkeys(["validation_data", "test_data"])
        return advert_data.check_adverts(
            SimpleNamespace(data=manifest["data"], config=config, **parts), ""
        )

    with pytest.raises(
        ValueError, match=r"pairs\.shares\.same_employer, which is 0\.2, .* or say pair"
    ) as error:
        check(NSPConfig)
    assert check(NSPConfig, str(error.value).partition("or say ")[2])[0] == manifest
    assert check(MLMConfig)[0] == manifest


def test_a_misspelt_key_is_refused_at_launch(home):
    (home / "typo.yaml").write_text("shards: {megabyte: 1}\n")
    done = prepare(home, "run", before=["--config", "config", str(home / "typo.yaml")])
    said = errors_of(done)
    assert done.returncode != 0 and "Traceback" not in said
    assert "shards.megabyte: no such key; did you mean 'megabytes'?" in said


def test_tasks_go_to_batch_only_where_the_profile_can_run_it(home, monkeypatch):
    here = errors_of(prepare(home, "show"))
    assert here.count("@resources") == 4 and "@batch" not in here
    monkeypatch.setenv("METAFLOW_DEFAULT_DATASTORE", "s3")
    monkeypatch.setenv("METAFLOW_DATASTORE_SYSROOT_S3", "s3://bucket/metaflow")
    monkeypatch.setenv("METAFLOW_BATCH_JOB_QUEUE", "queue")
    there = errors_of(prepare(home, "show"))
    assert there.count("@batch") == 4 and "@resources" not in there


def test_jobs_see_no_file_of_this_machine(monkeypatch):
    asked = {"prepare": {"engine": "batch"}}
    monkeypatch.setattr(preflight, "check_datastore", lambda: None)
    monkeypatch.setattr(preflight, "find_problems", lambda asked: [])
    monkeypatch.setattr(preflight, "_has_service", lambda: True)
    shards = [{"part": "train", "files": [("/data/a.csv", "a.csv", None)]}]
    with pytest.raises(ValueError, match=r"/data/a\.csv is on this machine"):
        preflight.check_shards(asked, shards)
    preflight.check_shards({}, shards)
    shards = [{"part": "train", "files": [("s3://bucket/a.csv", "a.csv", None)]}]
    preflight.check_shards(asked, shards)


@pytest.mark.slow
def test_on_s3_it_is_the_same(folder, home, s3, tmp_path, monkeypatch):
    for path in (home / "adverts").iterdir():
        data = s3.put(f"adverts/{path.name}", path.read_bytes()).rpartition("/")[0]
    monkeypatch.setenv("METAFLOW_DEFAULT_DATASTORE", "s3")
    monkeypatch.setenv("METAFLOW_DATASTORE_SYSROOT_S3", f"s3://{s3.bucket}/metaflow")
    config = ["--config", "config", str(home / "shards.yaml")]
    done = prepare(tmp_path, "run", "--data", f"{data}/", before=config)
    assert done.returncode == 0, errors_of(done)
    place = re.search(r"prepared adverts: (s3://\S+)", errors_of(done))[1]
    there, here = find_prepared(f"{place}/"), find_prepared(str(folder))
    assert there["report"] == here["report"]
    for one, other in zip(read_prepared(there), read_prepared(here), strict=True):
        pd.testing.assert_frame_equal(one, other)
    assert list(PreparedSentences(there)) == list(PreparedSentences(here))
    key = f"{place.removeprefix(f's3://{s3.bucket}/')}/adverts/0001.parquet"
    s3.client.delete_object(Bucket=s3.bucket, Key=key)
    with pytest.raises(FileNotFoundError, match=r"adverts/0001\.parquet: missing"):
        find_prepared(place)
    assert find_prepared(f"s3://{s3.bucket}/nothing/") is None
