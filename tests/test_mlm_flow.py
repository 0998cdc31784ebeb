"""The flow learns its sample, continues after any failure, and says what is wrong."""

import base64
import json
import os
import re
import subprocess
import sys
import tarfile

import pandas as pd
import pytest
from conftest import SAMPLE

from ojd_daps_language_models import PROJECT_DIR

FLOW = PROJECT_DIR / "flows" / "mlm_flow.py"
STEPS = ["start", "load", "tokenize", "train", "evaluate", "push_to_hub", "end"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Where the runs of this module are kept."""
    return tmp_path_factory.mktemp("runs")


def run_flow(home, *arguments, before=()):
    """Run the flow as a user would, from a folder that is not the repository."""
    environment = os.environ | {
        "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(home),
        "METAFLOW_HOME": str(home),
        "PYTHONPATH": str(PROJECT_DIR),
    }
    return subprocess.run(
        [sys.executable, str(FLOW), *before, *arguments],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
    )


def artifacts(home, run_id):
    """The artifacts of a run, read by Metaflow's client in a process of its own."""
    code = (
        "import sys, pickle, metaflow\n"
        "metaflow.namespace(None)\n"
        f"run = metaflow.Run('MLMFlow/{run_id}')\n"
        "names = ['metrics', 'data_report', 'training_log', 'lineage', 'kept_aside',"
        " 'adverts', 'tokens', 'model', 'costs']\n"
        "task = run['push_to_hub'].task\n"
        "pickle.dump({n: task[n].data for n in names}, sys.stdout.buffer)"
    )
    import pickle

    environment = os.environ | {"METAFLOW_DATASTORE_SYSROOT_LOCAL": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=True
    )
    return pickle.loads(done.stdout)


def run_id_of(done) -> str:
    return re.search(r"run-id (\d+)", done.stdout + done.stderr)[1]


def errors_of(done) -> str:
    """What a user reads, without Metaflow's time stamps."""
    stamp = r"(?m)^\d{4}-\d\d-\d\d \S+ (\[\S+ \(pid \d+\)\] )?"
    return re.sub(stamp, "", done.stdout + done.stderr)


@pytest.fixture(scope="module")
def trained(home):
    """A run on the shipped sample with the embedded encoder, and its artifacts."""
    done = run_flow(home, "run", "--epochs", "1")
    assert done.returncode == 0, errors_of(done)
    return done, artifacts(home, run_id_of(done))


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
    )
    assert done.returncode == 0, errors_of(done)
    return done, artifacts(home, run_id_of(done))


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
    page = re.search(r"file://(\S+\.html)", errors_of(trained[0]))[1]
    with open(page, encoding="utf-8") as file:
        packed = re.findall(r'__MF_DATA__\["[^"]+"\] = "([^"]+)"', file.read())
    report = "".join(
        json.dumps(json.loads(base64.b64decode(part)), ensure_ascii=False)
        for part in packed
    )
    assert "generous pension scheme" in report  # a sentence of ours can be found
    for text in trained[1]["adverts"]["text"]:
        for sentence in re.split(r"[.\n]", text):
            if len(sentence.split()) > 7:
                assert sentence.strip() not in report


def test_the_trained_model_answers_in_a_pipeline(trained, tmp_path):
    from transformers import pipeline

    from ojd_daps_language_models.training.archive import unpack_folder

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


def test_the_same_data_gives_the_same_parts_and_the_same_hidden_words(home, trained):
    checkpoint = f"run:MLMFlow/{run_id_of(trained[0])}"
    done = run_flow(home, "run", "--checkpoint", checkpoint, "--epochs", "0")
    assert done.returncode == 0, errors_of(done)
    again, first = artifacts(home, run_id_of(done)), trained[1]
    assert again["lineage"]["checkpoint"] == checkpoint
    assert again["metrics"]["head"] == "the checkpoint's own"
    one, other = (run["data_report"]["fingerprint"] for run in (again, first))
    assert one == other
    for measure, systems in first["metrics"]["scores"].items():
        before = again["metrics"]["scores"][measure]["before"]
        assert before == pytest.approx(systems["after"], rel=1e-3)


@pytest.mark.slow
def test_it_continues_after_a_failure_in_each_step(home, tiny_bert):
    """One chain of resumes, each failing one step later than the last."""
    done = run_flow(
        home,
        "run",
        "--checkpoint",
        str(tiny_bert),
        "--epochs",
        "1",
        "--with",
        "tests.faults.fail:at=start",
    )
    for step, following in zip(STEPS, [*STEPS[1:], None], strict=True):
        assert done.returncode != 0
        assert f"planned failure in {step}" in done.stdout
        again = ["resume", "--origin-run-id", run_id_of(done)]
        if following:
            again += ["--with", f"tests.faults.fail:at={following}"]
        done = run_flow(home, *again)
        before = STEPS[: STEPS.index(step)]
        for name in before:
            assert f"/{name}/" in done.stdout
            assert not re.search(
                rf"/{name}/\d+ \(pid \d+\)\] Task is starting", done.stdout
            )
    assert done.returncode == 0, errors_of(done)


BAD_INPUT = {
    "a missing file": (["--data", "nowhere.csv"], "nowhere.csv"),
    "a glob without match": (["--data", "no*.csv"], "no.\\.csv: no file matches"),
    "a missing column": (
        ["--data", "other.csv"],
        "no column 'text'.*found 'description'",
    ),
    "an empty file": (["--data", "empty.csv"], "empty.csv"),
    "a header only": (["--data", "header.csv"], "header.csv"),
    "an unknown checkpoint": (["--checkpoint", "./nowhere"], "no such folder"),
    "negative epochs": (["--epochs", "-1"], "expected 0 or more, found -1"),
    "publishing": (["--push-to", "me/model"], "not part of this version"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_refused_at_the_start_in_plain_words(home, tiny_bert, case):
    (home / "other.csv").write_text("description,id\na nurse,1\n")
    (home / "empty.csv").write_text("")
    (home / "header.csv").write_text("id,text,employer,title,date\n")
    arguments, message = BAD_INPUT[case]
    done = run_flow(home, "run", "--checkpoint", str(tiny_bert), *arguments)
    said = errors_of(done)
    assert done.returncode != 0
    assert re.search(message, said), said
    assert "Traceback" not in said
    assert "/load/" not in said


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
    assert "2 adverts in 2 groups cannot be divided" in said


def test_a_misspelt_key_is_refused_at_launch(home):
    (home / "typo.yaml").write_text("training: {epoch: 1}\n")
    done = run_flow(home, "run", before=["--config", "config", str(home / "typo.yaml")])
    said = errors_of(done)
    assert done.returncode != 0 and "Traceback" not in said
    assert "training.epoch: no such key; did you mean 'epochs'?" in said


def test_official_parts_are_kept_as_they_are(home, tiny_bert, trained):
    adverts = trained[1]["adverts"].drop(columns=["source", "row"])
    test = adverts[adverts["part"] == "test"]
    train = adverts[adverts["part"] != "test"]
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
    )
    assert done.returncode == 0, errors_of(done)
    found = artifacts(home, run_id_of(done))
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
    done = run_flow(home, "run", *arguments)
    assert done.returncode == 0, errors_of(done)
    found = artifacts(home, run_id_of(done))
    assert found["lineage"]["checkpoint"] == checkpoint
    assert found["data_report"]["funnel"][0]["adverts"] == 480


def test_the_code_package_carries_package_and_yaml(home):
    run_flow(home, "package", "save", "code.tgz")
    with tarfile.open(home / "code.tgz") as package:
        names = "\n".join(package.getnames())
    for name in ("tasks/mlm.py", "recipes/mlm.yaml", "sample_data/mlm.jsonl.gz"):
        assert f"ojd_daps_language_models/{name}" in names
    listed = errors_of(run_flow(home, "package", "list"))
    assert "/mlm.yaml" in listed and "/tasks/mlm.py" in listed


def test_the_gpu_is_asked_for_on_batch_only_where_the_profile_can_run_it(
    home, monkeypatch
):
    here = errors_of(run_flow(home, "show"))
    assert "@resources" in here and "@batch" not in here
    monkeypatch.setenv("METAFLOW_DEFAULT_DATASTORE", "s3")
    monkeypatch.setenv("METAFLOW_DATASTORE_SYSROOT_S3", "s3://bucket/metaflow")
    monkeypatch.setenv("METAFLOW_BATCH_JOB_QUEUE", "gpus")
    there = errors_of(run_flow(home, "show"))
    assert "@batch" in there and "@resources" not in there


def test_show_names_every_step(home):
    done = run_flow(home, "show")
    for step in STEPS:
        assert f"Step {step}" in done.stdout + done.stderr
