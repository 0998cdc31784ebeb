"""A run that cannot work on AWS Batch is refused with one list, and no secret in it."""

from types import SimpleNamespace

import pytest
from batch_stand_in import IMAGE, QUEUE
from botocore.exceptions import ClientError

from flows import errors_of, run_flow
from ojd_daps_language_models import preflight
from ojd_daps_language_models.configs import Compute
from ojd_daps_language_models.failures import Stopped
from ojd_daps_language_models.flow_utils import places_given
from ojd_daps_language_models.preflight import (
    asked_of,
    check_bucket,
    check_credentials,
    check_disk,
    check_gpu,
    check_image,
    check_launch,
    check_machine,
    check_memory,
    check_queue,
    check_region,
    check_role,
    check_sight,
    check_user,
)

SECRET = "s3cr3t" + "X" * 14
ASKED = {
    "engine": "batch",
    "queue": QUEUE,
    "image": IMAGE,
    "iam_role": "arn:aws:iam::000000000000:role/jobs",
    "memory": "4096",
    "is_parallel": False,
}
COMPUTE = Compute(memory=16_000).model_dump()
ENCODER = {"checkpoint": "embedded", "weight_bytes": 90_000_000}


@pytest.fixture(autouse=True)
def context(monkeypatch):
    """What Metaflow knows of a run: a datastore, and whether there is a service."""
    context = SimpleNamespace(
        flow_datastore=SimpleNamespace(TYPE="s3", datastore_root="s3://none/metaflow"),
        metadata=SimpleNamespace(TYPE="service"),
    )
    monkeypatch.setattr(preflight, "system_context", context)
    return context


@pytest.fixture
def ready(batch, s3, context):
    """A Batch, a bucket and a profile where nothing is wrong."""
    context.flow_datastore.datastore_root = f"s3://{s3.bucket}/metaflow"
    return batch


@pytest.fixture
def nobody(monkeypatch, tmp_path):
    """A shell without credentials, region and user."""
    for name in (
        *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"),
        *("AWS_DEFAULT_REGION", "AWS_REGION"),
    ):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)


class Refusing:
    """A client that AWS answers with an error."""

    def __init__(self, code):
        self._code = code

    def __getattr__(self, action):
        def call(**asked):
            error = {"Code": self._code, "Message": f"{SECRET} is not welcome"}
            raise ClientError({"Error": error}, action)

        return call


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("jane.doe", "METAFLOW_USER=jane-doe"),
        ("jane doe@charity", "METAFLOW_USER=jane-doe-charity"),
        ("root", "METAFLOW_USER=YOUR-NAME"),
        (None, "METAFLOW_USER=YOUR-NAME"),
        ("j" * 51, "METAFLOW_USER=" + "j" * 50),
    ],
)
def test_a_user_name_that_no_job_can_have(name, better):
    assert better in check_user(name)


@pytest.mark.parametrize("name", ["jane", "jane-doe_2", "J" * 50])
def test_a_user_name_that_jobs_can_have(name):
    assert check_user(name) is None


def test_no_region(ready, nobody, monkeypatch):
    assert "AWS_DEFAULT_REGION" in check_region()
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-2")
    assert check_region() is None


def test_no_credentials(ready, monkeypatch, nobody):
    assert "aws sso login" in check_credentials()
    assert check_queue(QUEUE) is None, "it is said once"


def test_credentials_that_cannot_be_had(nobody, monkeypatch, tmp_path):
    config = "[profile broken]\ncredential_process = false\nregion = eu-west-2\n"
    (tmp_path / "config").write_text(config)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "broken")
    assert "(CredentialRetrievalError): log in" in check_credentials()
    monkeypatch.setenv("AWS_PROFILE", "unknown")
    assert "(ProfileNotFound): log in" in check_credentials()


@pytest.mark.parametrize(
    ("code", "remedy"),
    [("AccessDenied", "sts:AssumeRole"), ("ExpiredToken", "aws sso login")],
)
def test_a_role_that_is_refused(nobody, monkeypatch, code, remedy):
    refused = SimpleNamespace(get_frozen_credentials=Refusing(code).assume_role)
    session = SimpleNamespace(get_credentials=lambda: refused)
    monkeypatch.setattr("boto3.session.Session", lambda: session)
    problem = check_credentials()
    assert f"cannot be used: {code}; " in problem
    assert remedy in problem and SECRET not in problem


def test_a_bucket_that_can_be_written_to_is_left_as_it_was(ready, s3):
    assert check_bucket(f"s3://{s3.bucket}/metaflow") is None
    assert check_bucket(f"s3://{s3.bucket}") is None
    assert "Contents" not in s3.client.list_objects_v2(Bucket=s3.bucket)


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("AccessDenied", "s3:PutObject"),
        ("PermanentRedirect", "region of the bucket"),
        ("InvalidAccessKeyId", "AWS_PROFILE"),
    ],
)
def test_a_bucket_that_refuses(monkeypatch, code, remedy):
    monkeypatch.setattr(preflight, "get_aws_client", lambda *_, **__: Refusing(code))
    problem = check_bucket("s3://bucket/metaflow")
    assert f"s3://bucket/metaflow cannot be written to: {code}" in problem
    assert remedy in problem and SECRET not in problem


def test_a_bucket_that_is_not_there_or_not_reached(ready, monkeypatch):
    assert "create the bucket" in check_bucket("s3://nowhere/metaflow")
    patience = preflight.PATIENCE | {"retries": {"total_max_attempts": 1}}
    monkeypatch.setattr(preflight, "PATIENCE", patience)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert "cannot be reached (EndpointConnection" in check_bucket("s3://b/metaflow")


def test_a_queue_that_takes_no_jobs(ready, monkeypatch):
    assert check_queue(QUEUE) is None
    assert check_queue(None) is None
    assert "no queue 'other' in region us-east-1" in check_queue("other")
    ready.queues[QUEUE] = "DISABLED"
    assert f"'{QUEUE}' is DISABLED and VALID: enable it" in check_queue(QUEUE)
    assert "no queue that takes jobs in region" in check_queue(None)
    code = "AccessDeniedException"
    monkeypatch.setattr(preflight, "get_aws_client", lambda *_, **__: Refusing(code))
    problem = check_queue(QUEUE)
    assert "batch:DescribeJobQueues" in problem and SECRET not in problem


def test_no_image(monkeypatch):
    assert check_image("batch", IMAGE) is None
    for none in (None, "python:3.11", "registry.example/python:3.11"):
        assert "METAFLOW_BATCH_CONTAINER_IMAGE" in check_image("batch", none)
    assert "METAFLOW_KUBERNETES_CONTAINER_IMAGE" in check_image("kubernetes", None)


def test_no_role():
    assert check_role({"arn"}) is None
    assert "METAFLOW_ECS_S3_ACCESS_IAM_ROLE" in check_role({None})


def test_too_little_memory():
    assert check_memory("compute.memory", 4096, 4e9) is None
    problem = check_memory("compute.memory", 4096, 5.01e9)
    assert "4,096 MB" in problem and "set compute.memory to 5100 or more" in problem


def test_too_little_disk():
    assert check_disk(1) is None
    assert "1000000.0 GB" in check_disk(1e15)


def test_a_checkpoint_that_no_job_sees(tmp_path, context):
    for seen in ("embedded", "s3://bucket/model", "owner/name", "run:MLMFlow/1"):
        assert check_sight(seen) is None
    assert "--checkpoint s3://" in check_sight(str(tmp_path))
    context.metadata.TYPE = "local"
    assert "METAFLOW_SERVICE_URL" in check_sight("run:MLMFlow/1")


def test_data_that_no_job_sees(ready, tmp_path):
    (tmp_path / "adverts.csv").write_text("text\n")
    asked = {"start": ASKED, "train": ASKED}
    seen = {"--data": "sample", "--test-data": None, "--checkpoint": "embedded"}
    check_launch(asked, False, seen)
    for place in ("adverts.csv", "*.csv", "."):
        here = {"--test-data": str(tmp_path / place)}
        with pytest.raises(ValueError, match=r"no job sees it: .* --test-data s3://"):
            check_launch(asked, False, seen | here)
        check_launch({"train": ASKED}, False, here)
        check_launch(asked, True, here)


def test_what_is_typed_goes_before_what_is_configured():
    config = {"data": {"path": "sample"}, "model": {"checkpoint": "embedded"}}
    typed = ["f.py", "run", "--data", "a.csv", "--test-data=b.csv", "--with", "batch"]
    assert places_given(config, typed) == {
        "--data": "a.csv",
        "--validation-data": None,
        "--test-data": "b.csv",
        "--checkpoint": "embedded",
    }


def test_prepared_adverts_that_no_job_sees(ready, s3, tmp_path):
    prepared = {"place": f"s3://{s3.bucket}/adverts"}
    check_machine({"train": ASKED}, COMPUTE, ENCODER, [], prepared)
    prepared = {"place": str(tmp_path)}
    with pytest.raises(ValueError, match=r"no job sees it: .* give --data s3://"):
        check_machine({"train": ASKED}, COMPUTE, ENCODER, [], prepared)


def test_a_gpu_is_looked_for_in_jobs_only(monkeypatch):
    monkeypatch.delenv("METAFLOW_RUNTIME_ENVIRONMENT", raising=False)
    check_gpu(1)
    monkeypatch.setenv("METAFLOW_RUNTIME_ENVIRONMENT", "aws-batch")
    check_gpu(0)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.version.cuda", None)
    with pytest.raises(Stopped, match="built without CUDA; use an image"):
        check_gpu(1)
    monkeypatch.setattr("torch.version.cuda", "13.0")
    with pytest.raises(Stopped, match=r"driver for CUDA 13\.0"):
        check_gpu(1)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    check_gpu(1)


def test_nothing_is_asked_where_all_stays_here(context, monkeypatch):
    context.flow_datastore = context.metadata = None
    check_launch({}, is_resumed=True)
    check_machine({}, {}, {}, ["s3://nowhere"])


def test_where_nothing_is_wrong_nothing_is_said(ready, s3, capsys):
    data = s3.put("adverts.csv", b"text\n" * 100)
    check_launch({"train": ASKED}, is_resumed=False)
    check_machine({"train": ASKED}, COMPUTE, ENCODER, ["sample", data, None])
    assert capsys.readouterr().out == ""


def test_without_a_service_there_are_no_cards_but_there_is_a_run(
    ready, context, capsys
):
    context.metadata.TYPE = "local"
    check_machine({"train": ASKED}, COMPUTE, ENCODER, ["sample"])
    assert "METAFLOW_DEFAULT_METADATA=service" in capsys.readouterr().out


def test_all_that_is_wrong_is_one_list(
    batch, s3, context, nobody, monkeypatch, tmp_path
):
    monkeypatch.setattr(preflight, "get_username", lambda: "jane.doe")
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setattr(preflight, "IMAGES", {"batch": None})
    context.metadata.TYPE = "local"
    asked = {"train": ASKED | {"image": "python:3.11", "iam_role": None}}
    big = {"checkpoint": str(tmp_path), "weight_bytes": 10_000_000_000}
    with pytest.raises(ValueError) as refusal:
        check_machine(asked, COMPUTE, big, ["sample"])
    head, *problems = str(refusal.value).splitlines()
    assert head == "this run cannot go to AWS Batch:"
    for problem, word in zip(
        problems,
        [
            *("compute.memory to 51500", "no job sees it", "no AWS credentials"),
            *("METAFLOW_USER=jane-doe", "METAFLOW_ECS_S3_ACCESS_IAM_ROLE"),
            *("METAFLOW_BATCH_CONTAINER_IMAGE", "METAFLOW_SERVICE_URL"),
        ],
        strict=True,
    ):
        assert word in problem

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "A" * 20)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with pytest.raises(ValueError) as refusal:
        check_machine(asked, COMPUTE, big, ["sample"])
    assert "create the bucket" in str(refusal.value)
    assert "no AWS region" in str(refusal.value)

    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    batch.queues[QUEUE] = "DISABLED"
    with pytest.raises(ValueError) as refusal:
        check_machine(asked, COMPUTE, big, ["sample"])
    assert f"'{QUEUE}' is DISABLED" in str(refusal.value)
    assert SECRET not in str(refusal.value) and "A" * 20 not in str(refusal.value)


def test_a_job_looks_at_its_memory_and_disk_only(context, nobody, monkeypatch):
    context.flow_datastore = None
    monkeypatch.setenv("METAFLOW_RUNTIME_ENVIRONMENT", "aws-batch")
    asked = {"start": ASKED, "train": ASKED}
    check_machine(asked, COMPUTE, ENCODER, ["sample"])
    monkeypatch.setattr(preflight, "count_bytes", lambda path: 10**12)
    with pytest.raises(ValueError) as refusal:
        check_machine(asked, COMPUTE, ENCODER, ["s3://bucket/adverts/"])
    _, train, start, disk = str(refusal.value).splitlines()
    assert "compute.memory" in train and "--with batch:memory" in start
    assert "3000.9 GB" in disk


def test_prepared_adverts_need_disk_for_their_tokens(context, nobody, monkeypatch):
    context.flow_datastore = None
    asked = {"start": ASKED, "train": ASKED}
    free = SimpleNamespace(free=3 * 10**9)
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda folder: free)
    files = [{"name": "adverts/0000.parquet", "rows": 10**6, "bytes": 10**9}]
    prepared = {"place": "s3://bucket/adverts", "files": files}
    check_machine(asked, COMPUTE, ENCODER, [], prepared)
    with pytest.raises(ValueError) as refusal:
        check_machine(asked, COMPUTE, ENCODER, [], prepared | {"files": files * 3})
    (problem,) = (line for line in str(refusal.value).splitlines() if "GB" in line)
    assert "3.0 GB left, and this model and this data need 3.9 GB" in problem
    assert "MB of memory are too few" not in str(refusal.value)


def test_several_processes_need_as_much_memory_each(context, nobody, monkeypatch):
    context.flow_datastore = None
    monkeypatch.setenv("METAFLOW_RUNTIME_ENVIRONMENT", "aws-batch")
    free = SimpleNamespace(free=1e12)
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda folder: free)
    asked = {"start": ASKED, "train": ASKED}
    compute = COMPUTE | {"memory": 12_000}
    for few, many in ({"gpu": 4}, {"gpu": 8}), ({"processes": 4}, {"processes": 8}):
        check_machine(asked, compute | {"gpu": 0} | few, ENCODER, ["sample"])
        with pytest.raises(ValueError, match=r"compute\.memory"):
            check_machine(asked, compute | {"gpu": 0} | many, ENCODER, ["sample"])
    large = {"checkpoint": "embedded", "weight_bytes": 1_340_000_000}
    asked["start"] = ASKED | {"memory": "8000"}
    check_machine(asked, COMPUTE | {"memory": 60_000, "gpu": 8}, large, ["sample"])


def test_the_steps_beside_training_need_memory_for_the_model_too(context, nobody):
    context.flow_datastore = None
    asked = {"start": ASKED, "train": ASKED}
    large = {"checkpoint": "embedded", "weight_bytes": 1_340_000_000}
    with pytest.raises(ValueError) as refusal:
        check_machine(asked, COMPUTE, large, ["sample"])
    (problem,) = (line for line in str(refusal.value).splitlines() if "4,096" in line)
    assert "set --with batch:memory to 5600 or more" in problem


def test_what_a_flow_asks_is_read_from_its_decorators():
    on_batch = SimpleNamespace(name="batch", attributes={"queue": QUEUE})
    card = SimpleNamespace(name="card", attributes={})
    flow = [
        SimpleNamespace(name="start", decorators=[]),
        SimpleNamespace(name="train", decorators=[card, on_batch]),
    ]
    train = {"queue": QUEUE, "engine": "batch", "is_parallel": False}
    assert asked_of(flow) == {"train": train}
    flow[1].decorators.append(SimpleNamespace(name="parallel", attributes={}))
    assert asked_of(flow) == {"train": train | {"is_parallel": True}}


def test_several_machines_need_a_service(ready, context):
    asked = {"train": ASKED | {"is_parallel": True}}
    check_machine(asked, COMPUTE, ENCODER, ["sample"])
    context.metadata.TYPE = "local"
    with pytest.raises(ValueError, match="the machines of train would wait"):
        check_machine(asked, COMPUTE, ENCODER, ["sample"])


def test_a_run_is_refused_before_anything_is_stored(ready, s3, monkeypatch, tmp_path):
    """Also where credentials are missing, on which Metaflow itself waits for long."""
    monkeypatch.setenv("METAFLOW_USER", "jane.doe")
    ready.queues[QUEUE] = "DISABLED"
    (tmp_path / "mine.csv").write_text("text\n")
    given = ("--data", "mine.csv", "--checkpoint", tmp_path)
    done = run_flow("mlm_flow", tmp_path, "run", "--with", "batch", *given)
    said = errors_of(done)
    assert "`aws s3 cp`, and give --data s3://" in said
    assert "`aws s3 cp --recursive`, and give --checkpoint s3://" in said
    assert "Stopped:\n    this run cannot go to AWS Batch:\n" in said
    assert "METAFLOW_USER=jane-doe" in said and "is DISABLED" in said
    assert "Traceback" not in said and "Workflow starting" not in said
    assert "Contents" not in s3.client.list_objects_v2(Bucket=s3.bucket)

    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("METAFLOW_USER", "tester")
    said = errors_of(run_flow("mlm_flow", tmp_path, "run"))
    assert "there are no AWS credentials" in said and "Traceback" not in said
    assert not ready.jobs
