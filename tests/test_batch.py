"""Every flow runs on AWS Batch, here a stand-in, and nothing stops it for good."""

import gzip
import json
import os
import re
import signal
import subprocess
import time
from itertools import pairwise
from types import SimpleNamespace

import pytest
import yaml
from batch_stand_in import IMAGE, QUEUE, RECLAIMED, ROLE_ARN
from s3_stand_in import busy_server

from flows import (
    FLOWS,
    STEPS,
    artifacts,
    errors_of,
    run_flow,
    run_id_of,
    start_flow,
)
from ojd_daps_language_models import PROJECT_DIR

ROWS = 120  # of each sample
TRAINED = ("train", "evaluate")
ON_BATCH = ("--with", "batch", "--with", "tests.faults.say_where_package")
TOKEN = "hf_" + "Shell" * 7
compiled = pytest.mark.parametrize(
    "flow",
    [
        # What differs between the flows here is seen in what the others check.
        pytest.param(flow, marks=() if flow == "mlm_flow" else pytest.mark.every_flow)
        for flow in FLOWS
    ],
)


def first(one):
    """A test of `one` flow, which `make test-all` repeats with the others."""
    return pytest.mark.parametrize(
        "flow",
        [
            pytest.param(
                flow, marks=pytest.mark.slow if flow == one else pytest.mark.every_flow
            )
            for flow in FLOWS
        ],
    )


@pytest.fixture
def start(s3, tiny_bert, tmp_path, monkeypatch):
    """Start a flow on the first rows of its sample and a tiny encoder, both on S3."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    for path in tiny_bert.iterdir():
        s3.put(f"tiny_bert/{path.name}", path.read_bytes())

    def start(flow, *arguments, before=(), **compute):
        task = flow.removesuffix("_flow")
        sample = f"ojd_daps_language_models/sample_data/{task}.jsonl.gz"
        with gzip.open(PROJECT_DIR / sample) as file:
            rows = b"".join(file.readlines()[:ROWS])
        config = yaml.safe_load((PROJECT_DIR / f"configs/{task}.yaml").read_text())
        config["data"]["path"] = s3.put(f"{task}.jsonl", rows)
        config["model"]["checkpoint"] = f"s3://{s3.bucket}/tiny_bert"
        config["training"] |= {"epochs": 1, "batch_size": 4}
        config["evaluation"]["bootstrap_samples"] = 100
        if task == "mlm":
            config["evaluation"]["audit_adverts"] = 0
        config["compute"] |= {"gpu": 0, "cpu": 2, "memory": 3000, **compute}
        file = tmp_path / f"{task}.yaml"
        file.write_text(yaml.safe_dump(config))
        before = ["--config", "config", str(file), *before]
        return run_flow(flow, tmp_path, *arguments, before=before)

    return start


@pytest.fixture
def resume(tmp_path):
    """Continue a run of a flow."""

    def resume(flow, done, *arguments):
        origin = ("--origin-run-id", run_id_of(done))
        return run_flow(flow, tmp_path, "resume", *arguments, *origin)

    return resume


@pytest.fixture
def check(tmp_path):
    """The artifacts of a run can be read, and no step of a training was done twice."""

    def check(flow, done):
        assert done.returncode == 0, errors_of(done)
        kept = artifacts(flow, tmp_path, done)
        assert kept["model"] and kept["metrics"]["scores"]
        assert set(kept["costs"]) == set(STEPS) - {"end"}
        losses = kept["training_log"].dropna(subset="loss")
        marks = [name for name in losses if name in ("seed", "step")]
        assert len(losses) and not losses.duplicated(marks).any()

    return check


def check_jobs(batch, again=()):
    """Each step was one job, but for those `again`, whose first failed."""
    expected = [step for step in STEPS for _ in range(1 + (step in again))]
    assert [job.step for job in batch.jobs] == expected
    for job, following in pairwise([*batch.jobs, None]):
        is_last = following is None or following.step != job.step
        assert job.facts["status"] == ("SUCCEEDED" if is_last else "FAILED"), job.output


def check_that_no_token_left(batch, s3):
    """What the shell knows is in no job, and in nothing that was stored."""
    for job in batch.jobs:
        assert TOKEN not in json.dumps([job.environment, job.command, job.facts])
    pages = s3.client.get_paginator("list_objects_v2").paginate(Bucket=s3.bucket)
    keys = [entry["Key"] for page in pages for entry in page["Contents"]]
    for key in keys:
        content = s3.client.get_object(Bucket=s3.bucket, Key=key)["Body"].read()
        gzipped = content.startswith(b"\x1f\x8b")
        assert TOKEN.encode() not in (gzip.decompress(content) if gzipped else content)


def test_the_image_has_the_requirements_and_not_the_project(batch_image, tmp_path):
    imported = {
        name: subprocess.run(
            [batch_image, "-c", f"import {name}"], cwd=tmp_path, env={}
        )
        for name in ("metaflow", "ojd_daps_language_models")
    }
    assert [done.returncode for done in imported.values()] == [0, 1]


@first("skill_similarity_flow")
def test_a_flow_runs_from_its_code_package_alone(batch, s3, start, check, flow):
    done = start(flow, "run", *ON_BATCH, cpu=3, memory=5000, shared_memory=700)
    check(flow, done)
    check_jobs(batch)
    for job in batch.jobs:
        found = re.search("the package is (.*)", job.output)[1]
        assert found.startswith(f"{job.folder}/metaflow/"), found
        assert (job.image, job.queue, job.role) == (IMAGE, QUEUE, ROLE_ARN)
        trains = job.step in TRAINED
        assert job.asked["VCPU"] == ("3" if trains else "1")
        assert job.asked["MEMORY"] == ("5000" if trains else "4096")
        assert job.shared_memory == (700 if trains else None)
    check_that_no_token_left(batch, s3)


@pytest.mark.every_flow
@pytest.mark.parametrize("flow", FLOWS)
def test_it_continues_after_a_failure_in_each_step(batch, start, resume, check, flow):
    """One chain of resumes, each failing one step later than the last."""
    fault = "tests.faults.fail:at="
    done = start(flow, "run", *ON_BATCH, "--with", f"{fault}start")
    for step, following in pairwise([*STEPS, None]):
        assert done.returncode != 0
        assert f"planned failure in {step}" in done.stdout
        more = ("--with", f"{fault}{following}") if following else ()
        done = resume(flow, done, *ON_BATCH, *more)
    check(flow, done)
    check_jobs(batch, again=STEPS)


@first("nsp_flow")
def test_it_continues_after_kill_9_in_training(batch, start, resume, check, flow):
    killed = start(flow, "run", *ON_BATCH, "--with", "tests.faults.kill_in_training")
    assert killed.returncode != 0
    assert batch.jobs[-1].facts["container"]["exitCode"] == 137
    check(flow, resume(flow, killed, *ON_BATCH))
    check_jobs(batch, again=["train"])


@first("ner_flow")
def test_it_goes_on_after_the_loss_of_a_spot_instance(batch, start, check, flow):
    batch.reclaim_when("train", "the training waits")
    retry = ("--with", "retry:times=1,minutes_between_retries=0")
    done = start(
        flow, "run", *ON_BATCH, *retry, "--with", "tests.faults.wait_in_training"
    )
    assert batch.of("train")[0].facts["statusReason"] == RECLAIMED
    check(flow, done)
    check_jobs(batch, again=["train"])


@first("company_descriptions_flow")
def test_it_bears_an_s3_that_is_busy_and_resets(
    batch, s3, start, check, monkeypatch, flow
):
    with busy_server(s3.endpoint, times=1000, every=7, resets=True) as server:
        monkeypatch.setenv("METAFLOW_S3_ENDPOINT_URL", server.endpoint)
        batch.brought["AWS_ENDPOINT_URL"] = server.endpoint
        check(flow, start(flow, "run", *ON_BATCH))
    check_jobs(batch)
    assert server.made > 50


@pytest.mark.slow
def test_a_job_that_outlives_its_terminal_can_be_ended(batch, tmp_path):
    with open(tmp_path / "said", "w") as said:
        launcher = start_flow(
            *("mlm_flow", tmp_path, "run", "--with", "batch"), said=said
        )
        while not (batch.jobs and batch.jobs[0].facts["status"] == "RUNNING"):
            assert launcher.poll() is None, (tmp_path / "said").read_text()
            time.sleep(0.1)
        os.killpg(launcher.pid, signal.SIGKILL)
        launcher.wait()
    started = SimpleNamespace(stdout=(tmp_path / "said").read_text(), stderr="")
    kill = ("batch", "kill", "--run-id", run_id_of(started))
    done = run_flow("mlm_flow", tmp_path, *kill)
    assert "Killing AWS Batch job" in done.stdout + done.stderr
    assert "termination" in batch.jobs[0].facts["container"]["reason"]


@pytest.mark.slow
def test_a_job_without_its_gpu_stops_before_it_reads_anything(batch, start):
    """Here only training leaves this machine, as the profile has it."""
    said = errors_of(start("mlm_flow", "run", gpu=1, shared_memory=900))
    assert "no GPU, but compute.gpu: 1 asks for one" in said
    (job,) = batch.jobs
    assert "Traceback" not in job.output
    assert job.step == "train" and job.shared_memory == 900
    assert job.asked == {"VCPU": "2", "MEMORY": "3000", "GPU": "1"}


@compiled
def test_it_compiles_for_step_functions(batch, start, flow, monkeypatch):
    for name in ("SFN_IAM_ROLE", "EVENTS_SFN_ACCESS_IAM_ROLE"):
        monkeypatch.setenv(f"METAFLOW_{name}", ROLE_ARN)
    command = ("step-functions", "create", "--only-json")
    done = start(flow, *command, gpu=1, shared_memory=700)
    assert done.returncode == 0, errors_of(done)
    states = json.loads(done.stdout)["States"]
    assert set(states) == set(STEPS)
    for step, state in states.items():
        asked = state["Parameters"]["ContainerOverrides"]["ResourceRequirements"]
        gpus = [one["Value"] for one in asked if one["Type"] == "GPU"]
        assert gpus == (["1"] if step in TRAINED else [])
    arn = states["train"]["Parameters"]["JobDefinition"]
    container = batch.definitions[arn]["containerProperties"]
    assert container["linuxParameters"]["sharedMemorySize"] == 700
    assert TOKEN not in done.stdout


@compiled
def test_it_compiles_for_argo(batch, start, flow):
    """Also with a profile that knows a Batch queue."""
    pytest.importorskip("kubernetes")
    command = ("argo-workflows", "create", "--only-json")
    done = start(flow, *command, gpu=1, shared_memory=700)
    assert done.returncode == 0, errors_of(done)
    templates = json.loads(done.stdout)["spec"]["templates"]
    limits = {
        template["name"]: template["container"]["resources"]["limits"]
        for template in templates
        if "container" in template
    }
    for step in STEPS:
        gpus = limits[step.replace("_", "-")].get("nvidia.com/gpu")
        assert gpus == ("1" if step in TRAINED else None)
    assert TOKEN not in done.stdout


@compiled
def test_kubernetes_takes_the_numbers_of_the_configuration(batch, start, flow):
    pytest.importorskip("kubernetes")
    said = errors_of(start(flow, "show", before=["--with", "kubernetes"]))
    assert said.count("@kubernetes") == len(STEPS)
    assert said.count("@resources") == len(TRAINED) and "@batch" not in said
