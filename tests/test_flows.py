"""What all flows have in common: they refuse what is wrong, continue, and travel."""

import re
import tarfile

import pytest

from flows import FLOWS, STEPS, errors_of, run_flow, run_id_of
from ojd_daps_language_models import PROJECT_DIR

flows = pytest.mark.parametrize("flow", FLOWS)
WITH_SEEDS = [
    flow
    for flow in FLOWS
    if "seeds = Parameter(" in (PROJECT_DIR / "flows" / f"{flow}.py").read_text()
]


def quick_for(one, all_flows=FLOWS):
    """Test each flow, and one of them quickly: the same code does it for all."""
    return pytest.mark.parametrize(
        "flow",
        [
            pytest.param(flow, marks=() if flow == one else pytest.mark.slow)
            for flow in all_flows
        ],
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Where the runs of this module are kept, with some bad input."""
    home = tmp_path_factory.mktemp("runs")
    (home / "other.jsonl").write_text('{"description": "a nurse", "id": 1}\n')
    (home / "empty.csv").write_text("")
    (home / "header.csv").write_text(
        "id,text,sentence,label,employer,advert,title,date\n"
    )
    (home / "typo.yaml").write_text("training: {epoch: 1}\n")
    return home


BAD_INPUT = {
    "a missing file": (["--data", "nowhere.csv"], "nowhere.csv"),
    "a glob without match": (["--data", "no*.csv"], "no.\\.csv: no file matches"),
    "a missing column": (
        ["--data", "other.jsonl"],
        r"no (column '(text|sentence|skill)'|annotation).*found 'description'",
    ),
    "an empty file": (["--data", "empty.csv"], "empty.csv"),
    "a header only": (["--test-data", "header.csv"], "header.csv"),
    "an unknown checkpoint": (["--checkpoint", "./nowhere"], "no such folder"),
    "negative epochs": (["--epochs", "-1"], "expected 0 or more, found -1"),
    "publishing": (["--push-to", "model"], "--push-to model: expected OWNER/NAME"),
}
# Refused by the same code in all flows.
SHARED = set(BAD_INPUT) - {"a missing column", "a header only"}


@pytest.mark.parametrize(
    ("flow", "case"),
    [
        pytest.param(
            flow,
            case,
            marks=pytest.mark.every_flow
            if case in SHARED and flow != "mlm_flow"
            else (),
        )
        for flow in FLOWS
        for case in BAD_INPUT
    ],
)
def test_bad_input_is_refused_at_the_start_in_plain_words(home, tiny_bert, flow, case):
    arguments, message = BAD_INPUT[case]
    done = run_flow(flow, home, "run", "--checkpoint", tiny_bert, *arguments)
    said = errors_of(done)
    assert done.returncode != 0
    assert re.search(message, said), said
    assert "Traceback" not in said
    assert "/load/" not in said


@pytest.mark.parametrize("flow", WITH_SEEDS)
def test_a_length_above_the_model_s_is_refused_at_the_start(home, tiny_bert, flow):
    (home / "long.yaml").write_text("training: {max_length: 256}\n")
    done = run_flow(
        flow,
        home,
        *("run", "--checkpoint", tiny_bert),
        before=["--config", "config", str(home / "long.yaml")],
    )
    assert "takes 128 tokens at most; found max_length 256" in errors_of(done)


@quick_for("nsp_flow", WITH_SEEDS)
def test_no_seed_at_all_is_refused_at_the_start(home, tiny_bert, flow):
    none = run_flow(flow, home, "run", "--checkpoint", tiny_bert, "--seeds", "0")
    assert "--seeds: expected 1 or more, found 0" in errors_of(none)


@flows
def test_a_misspelt_key_is_refused_at_launch(home, flow):
    typo = ["--config", "config", str(home / "typo.yaml")]
    done = run_flow(flow, home, "run", before=typo)
    said = errors_of(done)
    assert done.returncode != 0 and "Traceback" not in said
    assert "training.epoch: no such key; did you mean 'epochs'?" in said


@pytest.mark.parametrize(
    "flow",
    [
        pytest.param(
            flow,
            marks=pytest.mark.slow if flow == "nsp_flow" else pytest.mark.every_flow,
        )
        for flow in FLOWS
    ],
)
def test_it_continues_after_a_failure_in_each_step(home, tiny_bert, flow):
    """One chain of resumes, each failing one step later than the last."""
    done = run_flow(
        flow,
        home,
        *("run", "--checkpoint", tiny_bert, "--epochs", "1"),
        *("--with", "tests.faults.fail:at=start"),
    )
    for step, following in zip(STEPS, [*STEPS[1:], None], strict=True):
        assert done.returncode != 0
        assert f"planned failure in {step}" in done.stdout
        again = ["resume", "--origin-run-id", run_id_of(done)]
        if following:
            again += ["--with", f"tests.faults.fail:at={following}"]
        done = run_flow(flow, home, *again)
        before = STEPS[: STEPS.index(step)]
        for name in before:
            assert f"/{name}/" in done.stdout
            assert not re.search(
                rf"/{name}/\d+ \(pid \d+\)\] Task is starting", done.stdout
            )
    assert done.returncode == 0, errors_of(done)


@quick_for("mlm_flow")
def test_the_code_package_carries_package_and_yaml(home, flow):
    task = flow.removesuffix("_flow")
    run_flow(flow, home, "package", "save", "code.tgz")
    with tarfile.open(home / "code.tgz") as package:
        names = "\n".join(package.getnames())
    for name in (
        f"tasks/{task}.py",
        f"recipes/{task}.yaml",
        f"sample_data/{task}.jsonl.gz",
    ):
        assert f"ojd_daps_language_models/{name}" in names
    listed = errors_of(run_flow(flow, home, "package", "list"))
    assert f"/{task}.yaml" in listed and f"/tasks/{task}.py" in listed


@quick_for("mlm_flow")
def test_the_gpu_is_asked_for_on_batch_only_where_the_profile_can_run_it(
    home, monkeypatch, flow
):
    here = errors_of(run_flow(flow, home, "show"))
    assert "@resources" in here and "@batch" not in here
    assert all(f"Step {step}" in here for step in STEPS)
    monkeypatch.setenv("METAFLOW_DEFAULT_DATASTORE", "s3")
    monkeypatch.setenv("METAFLOW_DATASTORE_SYSROOT_S3", "s3://bucket/metaflow")
    monkeypatch.setenv("METAFLOW_BATCH_JOB_QUEUE", "gpus")
    there = errors_of(run_flow(flow, home, "show"))
    assert "@batch" in there and "@resources" not in there
