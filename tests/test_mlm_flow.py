"""The flow learns its sample, continues after any failure, and says what is wrong."""

import os
import re
from functools import partial

import pandas as pd
import pytest
from conftest import SAMPLE

from flows import WITHOUT_CARDS, errors_of, report_of, run_id_of, sentences_in
from flows import artifacts as artifacts_of
from flows import run_flow as run_any

run_flow = partial(run_any, "mlm_flow")
artifacts = partial(artifacts_of, "mlm_flow")


QUICK = ["--config", "config", "quick.yaml"]  # where scores do not matter


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Where the runs of this module are kept."""
    home = tmp_path_factory.mktemp("runs")
    quick = "evaluation: {bootstrap_samples: 100, audit_adverts: 0}"
    (home / "quick.yaml").write_text(quick)
    return home


@pytest.fixture(scope="module")
def trained(home, shallow_encoder):
    """A run on the shipped sample, and its artifacts."""
    done = run_flow(home, "run", "--checkpoint", shallow_encoder, "--epochs", "1")
    assert done.returncode == 0, errors_of(done)
    return done, artifacts(home, done)


@pytest.fixture(scope="module")
def scored(home, tiny_bert, trained):
    """A run that trains nothing and tells in which steps torch was imported."""
    done = run_flow(
        home,
        "run",
        "--checkpoint",
        str(tiny_bert),
        "--epochs",
        "0",
        "--with",
        "tests.faults.say_whether_torch",
        *WITHOUT_CARDS,
        before=QUICK,
    )
    assert done.returncode == 0, errors_of(done)
    return done, artifacts(home, done)


def test_it_learns_the_sample(trained):
    metrics = trained[1]["metrics"]
    perplexity = metrics["scores"]["perplexity"]
    assert perplexity["after"]["high"] < perplexity["before"]["low"] / 3
    assert perplexity["after"]["high"] < perplexity["floor"]["low"] / 3
    for measure in ("accuracy_at_1", "accuracy_at_5"):
        scores = metrics["scores"][measure]
        assert scores["change"]["low"] > 0
        assert scores["after"]["value"] - scores["before"]["value"] == pytest.approx(
            scores["change"]["value"]
        )
    log = trained[1]["training_log"]
    assert log["validation_loss"].notna().sum() == 1
    assert log["loss"].dropna().iloc[-5:].mean() < log["loss"].dropna().iloc[:5].mean()


def test_every_row_of_the_sample_is_accounted_for(trained):
    rows = sum(1 for _ in pd.read_json(SAMPLE, lines=True).index)
    kept, aside = trained[1]["adverts"], trained[1]["kept_aside"]
    assert len(kept) + len(aside) == rows
    assert trained[1]["data_report"]["funnel"][0]["adverts"] == rows
    assert trained[1]["data_report"]["funnel"][-1]["adverts"] == len(kept)
    assert set(zip(kept["source"], kept["row"], strict=True)).isdisjoint(
        zip(aside["source"], aside["row"], strict=True)
    )
    assert aside["reason"].notna().all()


def test_no_employer_is_on_two_sides(trained):
    adverts = trained[1]["adverts"]
    assert (adverts.groupby("employer")["part"].nunique() == 1).all()


def test_no_personal_data_reaches_the_model(trained):
    texts = trained[1]["adverts"]["text"].str
    assert not texts.contains(r"@\w", regex=True).any()
    assert not texts.contains(r"\b0\d{3,4} ?\d{5,7}\b", regex=True).any()


def test_the_outcome_is_printed_with_a_report_that_is_there(trained, home):
    said = errors_of(trained[0])
    assert "perplexity: after" in said
    page = re.search(r"file://(\S+\.html)", said)[1]
    assert os.path.getsize(page) > 100_000
    assert list(home.glob("**/steps/train/tasks/*/cards/*.html")), "the live curves"


def test_the_report_quotes_no_advert(trained):
    report = report_of(trained[0])
    assert "generous pension scheme" in report  # a sentence of ours can be found
    assert not sentences_in(report, trained[1]["adverts"]["text"])


def test_the_trained_model_answers_in_a_pipeline(trained, tmp_path):
    from transformers import pipeline

    from ojd_daps_language_models.archive import unpack_folder

    folder = unpack_folder(trained[1]["model"], tmp_path / "model")
    answers = pipeline("fill-mask", model=str(folder))("We offer a [MASK] salary.")
    assert len(answers) == 5
    assert not [path for path in folder.iterdir() if path.suffix in (".bin", ".pt")]


def test_steps_that_need_no_torch_do_not_import_it(scored):
    with_torch = set(re.findall(r"torch was imported in (\w+)", scored[0].stdout))
    assert with_torch == {"train", "evaluate"}


def test_without_epochs_the_checkpoint_is_only_scored(scored):
    scores = scored[1]["metrics"]["scores"]["perplexity"]
    assert scores["after"] == scores["before"]
    assert scores["change"]["value"] == 0
    assert scored[1]["training_log"].empty


def test_the_same_data_gives_the_same_parts_and_the_same_hidden_words(home, scored):
    checkpoint = f"run:MLMFlow/{run_id_of(scored[0])}"
    again = ("run", "--checkpoint", checkpoint, "--epochs", "0")
    done = run_flow(home, *again, *WITHOUT_CARDS, before=QUICK)
    assert done.returncode == 0, errors_of(done)
    again, first = artifacts(home, done), scored[1]
    assert again["lineage"]["checkpoint"] == checkpoint
    assert again["metrics"]["head"] == "the checkpoint's own"
    one, other = (run["data_report"]["fingerprint"] for run in (again, first))
    assert one == other
    for measure, systems in first["metrics"]["scores"].items():
        before = again["metrics"]["scores"][measure]["before"]
        assert before == pytest.approx(systems["after"], rel=1e-3)


def test_too_few_adverts_to_split_say_so(home, tiny_bert):
    texts = [
        f"We are looking for a {job} in {town} who will look after our customers, keep "
        f"our {thing} in order and help the whole team every day of the working week."
        for job, town, thing in (("nurse", "Leeds", "wards"), ("cook", "Bath", "pans"))
    ]
    table = pd.DataFrame({"id": [1, 2], "text": texts, "employer": ["A", "B"]})
    table.assign(title="", date="").to_csv(home / "few.csv", index=False)
    done = run_flow(
        home, "run", "--checkpoint", str(tiny_bert), "--data", str(home / "few.csv")
    )
    said = errors_of(done)
    assert done.returncode != 0 and "Traceback" not in said
    assert "few.csv: too few groups of adverts for train, validation, test" in said
    assert "found 2 (adverts: 2), expected at least 3" in said


def test_official_parts_are_kept_as_they_are(home, tiny_bert, trained):
    adverts = trained[1]["adverts"].drop(columns=["source", "row"])
    test = adverts[adverts["part"] == "test"]
    train = adverts[adverts["part"] != "test"][:100]
    # one advert of the test part stands in the training data too
    pd.concat([train, test[:1]]).to_json(home / "t.jsonl", orient="records", lines=True)
    test.to_json(home / "official.jsonl", orient="records", lines=True)
    done = run_flow(
        home,
        "run",
        "--checkpoint",
        str(tiny_bert),
        "--epochs",
        "0",
        "--data",
        str(home / "t.jsonl"),
        "--test-data",
        str(home / "official.jsonl"),
        *WITHOUT_CARDS,
        before=QUICK,
    )
    assert done.returncode == 0, errors_of(done)
    found = artifacts(home, done)
    assert found["data_report"]["parts"]["test"]["adverts"] == len(test)
    reasons = {row["reason"] for row in found["data_report"]["kept_aside"]}
    assert "duplicate of a held-out advert" in reasons
    assert found["data_report"]["overlap"]["test"]["near"] == 0


def test_adverts_and_checkpoint_may_lie_in_s3(home, tiny_bert, s3):
    data = s3.put("adverts/part-1.jsonl.gz", SAMPLE.read_bytes())
    for path in tiny_bert.iterdir():
        s3.put(f"models/tiny/{path.name}", path.read_bytes())
    checkpoint = f"s3://{s3.bucket}/models/tiny"
    arguments = ["--data", data, "--checkpoint", checkpoint, "--epochs", "0"]
    done = run_flow(home, "run", *arguments, *WITHOUT_CARDS, before=QUICK)
    assert done.returncode == 0, errors_of(done)
    found = artifacts(home, done)
    assert found["lineage"]["checkpoint"] == checkpoint
    assert found["data_report"]["funnel"][0]["adverts"] == 480
