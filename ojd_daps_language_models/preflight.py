"""What would stop a run on AWS Batch or Kubernetes, said before it costs anything.

A check gives what is wrong and the remedy, or None; a run is refused with one list of
all that is wrong. Where every step stays on this machine, nothing is asked.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from glob import glob
from math import ceil
from pathlib import Path
from typing import Any

from metaflow import FlowSpec
from metaflow.metaflow_config import (
    BATCH_CONTAINER_IMAGE,
    DATATOOLS_CLIENT_PARAMS,
    DATATOOLS_SESSION_VARS,
    KUBERNETES_CONTAINER_IMAGE,
    S3_SERVER_SIDE_ENCRYPTION,
)
from metaflow.plugins.aws.aws_client import get_aws_client
from metaflow.system_context import system_context
from metaflow.util import get_username

from ojd_daps_language_models.configs import Compute
from ojd_daps_language_models.failures import Stopped
from ojd_daps_language_models.getters.storage import count_bytes

IMAGES = {"batch": BATCH_CONTAINER_IMAGE, "kubernetes": KUBERNETES_CONTAINER_IMAGE}
NAMES = {"batch": "AWS Batch", "kubernetes": "Kubernetes"}
MB = 1e6
# Of memory a process with torch takes over 1 GB before it has a model, and each byte of
# text was seen to take 9. AdamW holds weights, gradients and two moments of each.
MEMORY, MEMORY_PER_WEIGHT, MEMORY_PER_DATA = 1500 * MB, 5, 10
# To publish a model, the artifact is unzipped, unpickled, and its files are unpacked.
MEMORY_PER_PUBLISHED_WEIGHT = 3
# The checkpoint, the last epoch and the best, a training checkpoint with the state of
# the optimiser, the model as an artifact; data in the hub's cache and as artifacts.
DISK_PER_WEIGHT, DISK_PER_DATA = 10, 3
# Of prepared adverts a job has the tokens on its disk, from where they are mapped. With
# two bytes each they were .4 and .6 of the adverts' files, where texts are packed.
DISK_PER_PREPARED = 1
# Each further process unpacks the training checkpoint that it goes on from, and keeps
# the weights of two epochs.
DISK_PER_PROCESS = 6
PATIENCE = {
    "connect_timeout": 5,
    "read_timeout": 20,
    "retries": {"total_max_attempts": 6, "mode": "standard"},
}


def check_machine(
    asked: Mapping[str, Mapping[str, Any]],
    compute: Mapping[str, Any],
    encoder: Mapping[str, Any],
    paths: Iterable[str | None],
    prepared: Mapping[str, Any] | None = None,
) -> None:
    """Refuse a run that could not come to its end where its steps are to run.

    Args:
        asked: of `asked_of`; nothing is looked at where that is empty.
        compute: of the configuration.
        encoder: that the run begins from, of `describe_checkpoint`.
        paths: of the data, None where no such part was given.
        prepared: manifest of prepared adverts, which stay in their files: only the
            disk for their tokens is reckoned.

    Raises:
        ValueError: a list of all that is wrong, each with its remedy.
        OSError: the data cannot be found, or S3 or the hub not be reached.
    """
    if not asked:
        return
    compute, weight_bytes = Compute(**compute), encoder["weight_bytes"]
    data_bytes = sum(count_bytes(path) for path in paths if path and path != "sample")
    needs = MEMORY + MEMORY_PER_DATA * data_bytes
    trains = needs + MEMORY_PER_WEIGHT * weight_bytes
    others = (compute.processes or max(compute.gpu, 1)) - 1
    if others:  # and one that waits for all; a GPU has a memory of its own
        trains += (others + 1) * MEMORY
        trains += others * weight_bytes * (1 if compute.gpu else MEMORY_PER_WEIGHT)
    problems = [check_memory("compute.memory", compute.memory, trains)]
    if "start" in asked:
        engine = asked["start"]["engine"]
        memory = float(asked["start"]["memory"] or 4096)
        needs += MEMORY_PER_PUBLISHED_WEIGHT * weight_bytes
        files = prepared["files"] if prepared else []
        prepared_bytes = sum(file["bytes"] for file in files)
        problems += [
            check_memory(f"--with {engine}:memory", memory, needs),
            check_disk(
                (DISK_PER_WEIGHT + others * DISK_PER_PROCESS) * weight_bytes
                + DISK_PER_DATA * data_bytes
                + DISK_PER_PREPARED * prepared_bytes
            ),
        ]
    else:
        problems += [check_sight(encoder["checkpoint"]), check_datastore()]
        if prepared:
            problems.append(check_sight(prepared["place"], "--data"))
        problems += find_problems(asked)
    _refuse(problems, asked)


def check_shards(
    asked: Mapping[str, Mapping[str, Any]], shards: Iterable[Mapping[str, Any]]
) -> None:
    """Refuse adverts that the tasks of a preparation could not see.

    Args:
        asked: of `asked_of`.
        shards: of `getters.adverts.list_shards`.

    Raises:
        ValueError: as `check_machine`.
    """
    if not asked:
        return
    problems = [] if "start" in asked else [check_datastore(), *find_problems(asked)]
    local = [
        location
        for shard in shards
        for location, *_ in shard["files"]
        if "://" not in location
    ]
    if local and "start" not in asked:
        problems.append(
            f"{local[0]} is on this machine, where no job sees it: copy it with "
            "`aws s3 cp`, and give --data s3://…"
        )
    _refuse(problems, asked)


def check_launch(
    asked: Mapping[str, Mapping[str, Any]],
    is_resumed: bool,
    places: Mapping[str, str | None] | None = None,
) -> None:
    """Refuse a run that could not even come to `start`, or has left it behind.

    Args:
        asked: of `asked_of`.
        is_resumed: whether `start` was done by an earlier run.
        places: option -> where `start` will look for what it names.

    Raises:
        ValueError: as `check_machine`.
    """
    if not asked:
        return
    problems = [check_datastore()]
    if "start" in asked and not is_resumed:
        given = (places or {}).items()
        problems += [check_sight(place, option) for option, place in given if place]
    if any(problems) or is_resumed or "start" in asked:
        _refuse([*problems, *find_problems(asked)], asked)


def check_gpu(asked: int) -> None:
    """Raise unless a job sees the GPU that it has asked for; elsewhere do nothing.

    Raises:
        Stopped: torch finds none.
    """
    if not (asked and is_remote()):
        return
    import torch

    if torch.cuda.is_available():
        return
    if torch.version.cuda is None:
        why = (
            f"torch {torch.__version__} of this image is built without CUDA; use an "
            "image that `make image` built"
        )
    else:
        why = (
            f"torch {torch.__version__} finds none on this host; the instances of the "
            "queue have to have an NVIDIA GPU, and a driver for CUDA "
            f"{torch.version.cuda}"
        )
    raise Stopped(
        f"no GPU, but compute.gpu: {asked} asks for one: {why}. `compute.gpu: 0` "
        "trains without one"
    )


def asked_of(flow: FlowSpec) -> dict[str, dict[str, Any]]:
    """What each step that leaves this machine asks for, by its name.

    Returns:
        The attributes of its `@batch` or `@kubernetes`, which it is as `engine`, and
        `is_parallel`, whether several machines take it together.
    """
    return {
        step.name: {
            **decorator.attributes,
            "engine": decorator.name,
            "is_parallel": any(other.name == "parallel" for other in step.decorators),
        }
        for step in flow
        for decorator in step.decorators
        if decorator.name in NAMES
    }


def is_remote() -> bool:
    """Whether this is a job."""
    return os.environ.get("METAFLOW_RUNTIME_ENVIRONMENT", "local") != "local"


def find_problems(asked: Mapping[str, Mapping[str, Any]]) -> list[str | None]:
    """What stands between this machine and the jobs of a run, but for the bucket."""
    problems = []
    on_batch = [step for step in asked.values() if step["engine"] == "batch"]
    if on_batch:
        queues = {step["queue"] for step in on_batch}
        problems += [
            check_user(get_username()),
            check_role({step["iam_role"] for step in on_batch}),
            *map(check_queue, sorted(queues, key=str)),
            *(check_company(name) for name in asked if asked[name]["is_parallel"]),
        ]
    images = {(step["engine"], step["image"]) for step in asked.values()}
    problems += [check_image(*image) for image in sorted(images, key=str)]
    return list(dict.fromkeys(problems))


def check_user(name: str | None) -> str | None:
    """Whether the name of a job can begin with that of the user."""
    if name and name != "root" and re.fullmatch(r"[A-Za-z0-9][\w-]{0,49}", name, re.A):
        return None
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", name or "").strip("-_")[:50]
    better = plain if plain not in ("", "root") else "YOUR-NAME"
    return (
        f"the user name '{name}' cannot be part of a job's name: expected 1 to 50 "
        "letters, digits, - and _, of which the first is a letter or digit, and not "
        f"'root'; set METAFLOW_USER={better}"
    )


def check_region() -> str | None:
    """Whether boto3 knows a region."""
    from boto3.session import Session

    if Session().region_name:
        return None
    return (
        "no AWS region is known: set AWS_DEFAULT_REGION, or `region` in the profile "
        "that AWS_PROFILE names"
    )


def check_credentials() -> str | None:
    """Whether boto3 finds credentials that have not run out."""
    from boto3.session import Session
    from botocore.exceptions import BotoCoreError, ClientError

    remedy = "log in with `aws sso login`, and name the profile in AWS_PROFILE"
    try:
        credentials = Session().get_credentials()
        if credentials and credentials.get_frozen_credentials().access_key:
            return None
    except BotoCoreError as error:
        return f"the AWS credentials cannot be used ({type(error).__name__}): {remedy}"
    except ClientError as error:  # of STS, which was asked for a role
        denied = "have sts:AssumeRole allowed, or name another profile in AWS_PROFILE"
        remedies = {"AccessDenied": denied, "ExpiredToken": remedy}
        return f"the AWS credentials cannot be used: {_explain(error, remedies)}"
    return f"there are no AWS credentials: {remedy}"


def check_datastore() -> str | None:
    """Whether jobs can use the datastore; what is neither here nor on S3 is trusted."""
    datastore = system_context.flow_datastore
    if datastore.TYPE == "local":
        return (
            "runs are kept on this machine, where no job sees them: set "
            "METAFLOW_DEFAULT_DATASTORE=s3 and METAFLOW_DATASTORE_SYSROOT_S3"
        )
    if datastore.TYPE != "s3":
        return None
    return check_credentials() or check_bucket(datastore.datastore_root)


def check_bucket(url: str) -> str | None:
    """Whether S3 can be written to; an object is made there, and removed."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    place = {"Bucket": bucket, "Key": f"{prefix}/preflight".lstrip("/")}
    encryption = S3_SERVER_SIDE_ENCRYPTION
    more = {"ServerSideEncryption": encryption} if encryption else {}
    name = "METAFLOW_DATASTORE_SYSROOT_S3"
    remedies = {
        "NoSuchBucket": f"create the bucket, or name another in {name}",
        "AccessDenied": f"have s3:PutObject there allowed, or name another in {name}",
        "PermanentRedirect": "set AWS_DEFAULT_REGION to the region of the bucket",
    }
    try:
        client = get_aws_client(
            "s3",
            session_vars=DATATOOLS_SESSION_VARS,
            client_params={**DATATOOLS_CLIENT_PARAMS, "config": PATIENCE},
        )
        client.put_object(**place, Body=b"", **more)
    except _aws_errors() as error:
        return f"{url} cannot be written to: {_explain(error, remedies)}"
    with suppress(*_aws_errors()):  # whoever may only write leaves one empty object
        client.delete_object(**place)
    return None


def check_role(names: Iterable[str | None]) -> str | None:
    """Whether jobs have a role."""
    if all(names):
        return None
    return (
        "no role is named under which jobs reach the bucket: set "
        "METAFLOW_ECS_S3_ACCESS_IAM_ROLE to its ARN"
    )


def check_queue(name: str | None) -> str | None:
    """Whether a queue takes jobs; where none is named, whether there is one."""
    if check_credentials():
        return None  # which is said already
    if problem := check_region():
        return problem
    remedy = "set METAFLOW_BATCH_JOB_QUEUE to an existing one"
    denied = {"AccessDeniedException": "have batch:DescribeJobQueues allowed"}
    called = f"the queue '{name}'" if name else "the queues"
    try:
        client = get_aws_client("batch", client_params={"config": PATIENCE})
        asked = {"jobQueues": [name]} if name else {}
        queues = client.describe_job_queues(**asked)["jobQueues"]
    except _aws_errors() as error:
        return f"{called} cannot be looked up: {_explain(error, denied)}"
    if any(q["state"] == "ENABLED" and q["status"] == "VALID" for q in queues):
        return None
    if not name or not queues:
        missing = f"queue '{name}'" if name else "queue that takes jobs"
        return f"no {missing} in region {client.meta.region_name}: {remedy}"
    state = "{state} and {status}".format(**queues[0])
    return f"{called} is {state}: enable it in AWS Batch, or {remedy}"


def check_image(engine: str, name: str | None) -> str | None:
    """Whether an image was named, not what Metaflow takes where none was."""
    name = name or IMAGES[engine]
    if name and not re.fullmatch(r"(.*/)?python:\d+\.\d+", name):
        return None
    return (
        f"no image is named for {NAMES[engine]}, and plain Python lacks all that is "
        f"needed: set METAFLOW_{engine.upper()}_CONTAINER_IMAGE to one that "
        "`make image` built, and that is in your registry"
    )


def check_sight(place: str, option: str = "--checkpoint") -> str | None:
    """Whether a job can see a checkpoint, or other files that it reads."""
    if place in ("sample", "embedded"):
        return None
    if place.startswith("run:") and not _has_service():
        return (
            f"without a metadata service no job finds {place}: set "
            "METAFLOW_DEFAULT_METADATA=service and METAFLOW_SERVICE_URL"
        )
    here = Path(place).expanduser()
    if here.exists() or glob(str(here), recursive=True):
        return (
            f"{place} is on this machine, where no job sees it: copy it with "
            f"`aws s3 cp{'' if here.is_file() else ' --recursive'}`, and give {option} "
            "s3://…"
        )
    return None


def check_company(step: str) -> str | None:
    """Whether machines that take a step together can tell that all have ended."""
    if _has_service():
        return None
    return (
        f"without a metadata service the machines of {step} would wait for each other "
        "in vain: set METAFLOW_DEFAULT_METADATA=service and METAFLOW_SERVICE_URL"
    )


def check_memory(setting: str, asked: float, needed: float) -> str | None:
    """Whether a step has the memory that its model and data need.

    Args:
        setting: where the memory is asked for.
        asked: MB.
        needed: bytes, estimated.
    """
    if asked * MB >= needed:
        return None
    return (
        f"{asked:,.0f} MB of memory are too few for this model and this data: set "
        f"{setting} to {ceil(needed / MB / 100) * 100} or more"
    )


def check_disk(needed: float) -> str | None:
    """Whether the disk of this job has room for as many bytes."""
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if free >= needed:
        return None
    return (
        f"{folder} has {free / 1e9:.1f} GB left, and this model and this data need "
        f"{needed / 1e9:.1f} GB: give the instances of the compute environment a "
        "larger volume, in its launch template"
    )


def _refuse(
    problems: Iterable[str | None], asked: Mapping[str, Mapping[str, Any]]
) -> None:
    found = [problem for problem in problems if problem]
    where = " and ".join(sorted({NAMES[step["engine"]] for step in asked.values()}))
    if not (_has_service() or is_remote()):
        # No reason to stop: a step whose card cannot be rendered goes on.
        note = (
            f"without a metadata service the cards of steps on {where} cannot be "
            "rendered: set METAFLOW_DEFAULT_METADATA=service and METAFLOW_SERVICE_URL"
        )
        if found:
            found.append(note)
        else:
            print(note)
    if found:
        lines = "\n".join(f"- {problem}" for problem in found)
        raise ValueError(f"this run cannot go to {where}:\n{lines}")


def _has_service() -> bool:
    return system_context.metadata.TYPE == "service"


def _aws_errors() -> tuple[type[Exception], ...]:
    from botocore.exceptions import BotoCoreError, ClientError

    return BotoCoreError, ClientError


def _explain(error: Exception, remedies: Mapping[str, str]) -> str:
    """What AWS answered, and what helps; nothing else of the error, which may quote."""
    answer = getattr(error, "response", {}).get("Error", {}).get("Code")
    if not answer:
        name = type(error).__name__
        return f"it cannot be reached ({name}); check network, region and endpoint"
    return f"{answer}; {remedies.get(answer, 'check AWS_PROFILE and its rights')}"
