"""Several machines train one model; here they are processes of one."""

import re

import pytest

from flows import artifacts, errors_of, run_flow, run_id_of

SMALL = """
compute: {gpu: 0}
training: {batch_size: 4, learning_rate: 0.003, block_size: 128}
evaluation: {bootstrap_samples: 100, audit_adverts: 0}
"""


@pytest.mark.slow
def test_several_machines_train_one_model_and_are_not_asked_twice(tiny_bert, tmp_path):
    (tmp_path / "small.yaml").write_text(SMALL)
    failed = run_flow(
        "distributed_mlm_flow",
        tmp_path,
        *("run", "--checkpoint", tiny_bert, "--epochs", "2"),
        *("--with", "tests.faults.fail:at=collect"),
        before=["--config", "config", "small.yaml"],
    )
    assert "planned failure in collect" in failed.stdout, errors_of(failed)
    again = ["resume", "--origin-run-id", run_id_of(failed)]
    done = run_flow("distributed_mlm_flow", tmp_path, *again)
    assert done.returncode == 0, errors_of(done)
    assert not re.search(r"/train/\d+ \(pid \d+\)\] Task is starting", done.stdout)

    found = artifacts("distributed_mlm_flow", tmp_path, done)
    perplexity = found["metrics"]["scores"]["perplexity"]
    assert perplexity["after"]["high"] < perplexity["before"]["low"]
    assert found["costs"]["train"]["hardware"].startswith("2 machines")
    losses = found["training_log"]["loss"].dropna()
    assert losses.iloc[-1] < losses.iloc[0]


def test_no_machine_is_refused_at_the_start(tiny_bert, tmp_path):
    asked = ("run", "--checkpoint", tiny_bert, "--nodes", "0")
    said = errors_of(run_flow("distributed_mlm_flow", tmp_path, *asked))
    assert "--nodes: expected 1 or more, found 0" in said
    assert "Traceback" not in said and "/load/" not in said
