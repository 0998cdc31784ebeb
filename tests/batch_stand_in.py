"""AWS Batch on 127.0.0.1, for tests: what Metaflow asks of it, each job a process here.

A job begins in an empty folder, and knows of whoever submitted it only what Metaflow
put into it. The image of all jobs is an interpreter with the requirements and without
this project: what a code package lacks is missing. Placement on hosts, GPUs and roles
are not imitated; what was asked for is kept.
"""

import json
import os
import re
import signal
import subprocess
import sysconfig
import threading
import time
import uuid
import venv
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from s3_stand_in import S3StandIn

from ojd_daps_language_models import PROJECT_DIR

ARN = "arn:aws:batch:us-east-1:000000000000"
QUEUE = "gpus"
ROLE_ARN = "arn:aws:iam::000000000000:role/jobs"
IMAGE = "registry.example/jobs:1"
RECLAIMED = "Host EC2 (instance i-0123456789) terminated."
# What the role of the jobs brings, and where S3 is.
ROLE = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"),
    "AWS_EC2_METADATA_DISABLED",
)


@dataclass
class Job:
    """What was asked for, and what became of it.

    step: of the flow.
    asked: vCPUs, GPUs and MB of memory by the names of Batch, as strings.
    shared_memory: MB; None where nothing was asked.
    environment: what Metaflow put into the job.
    facts: as `DescribeJobs` tells them.
    folder: where it runs, with its output in `output` beside it.
    """

    id: str
    step: str
    image: str
    queue: str
    role: str | None
    asked: dict[str, str]
    shared_memory: int | None
    environment: dict[str, str]
    command: list[str]
    facts: dict[str, Any]
    folder: Path
    process: subprocess.Popen | None = None

    @property
    def output(self) -> str:
        """What it has printed so far."""
        file = self.folder.parent / "output"
        return file.read_text(errors="replace") if file.exists() else ""


class BatchStandIn(ThreadingHTTPServer):
    """A Batch with one queue.

    jobs: in the order in which they were submitted.
    queues: their states by name, ENABLED or DISABLED.
    image: the interpreter of the jobs.
    brought: environment of every job, from its image and its role.
    """

    daemon_threads = True

    def __init__(self, folder: Path, image: Path):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.endpoint = f"http://127.0.0.1:{self.server_port}"
        self.jobs: list[Job] = []
        self.queues = {QUEUE: "ENABLED"}
        self.definitions: dict[str, dict] = {}
        self.image = image
        self.brought = image_environment()
        self._folder = folder
        self._lock = threading.RLock()

    def of(self, step: str) -> list[Job]:
        """The jobs of a step."""
        return [job for job in self.jobs if job.step == step]

    def reclaim_when(self, step: str, said: str) -> None:
        """Take a host away, as happens to spot instances, once its job says a thing.

        Args:
            step: of which it is the first job.
            said: a part of what that prints.
        """

        def watch() -> None:
            while not (self.of(step) and said in self.of(step)[0].output):
                time.sleep(0.1)
            self._end(self.of(step)[0], RECLAIMED, signal.SIGKILL)

        threading.Thread(target=watch, daemon=True).start()

    # What Metaflow asks for: the name of the action and its answer

    def describejobqueues(self, asked: dict) -> dict:
        names = [
            name.rpartition("/")[2] for name in asked.get("jobQueues", self.queues)
        ]
        order = [{"order": 1, "computeEnvironment": f"{ARN}:compute-environment/here"}]
        return {
            "jobQueues": [
                {
                    "jobQueueName": name,
                    "jobQueueArn": f"{ARN}:job-queue/{name}",
                    "state": self.queues[name],
                    "status": "VALID",
                    "priority": 1,
                    "computeEnvironmentOrder": order,
                }
                for name in names
                if name in self.queues
            ]
        }

    def describecomputeenvironments(self, asked: dict) -> dict:
        here = {"computeEnvironmentName": "here", "state": "ENABLED", "status": "VALID"}
        return {"computeEnvironments": [here | {"computeResources": {"type": "EC2"}}]}

    def describejobdefinitions(self, asked: dict) -> dict:
        known = self.definitions.values()
        name = asked["jobDefinitionName"]
        return {"jobDefinitions": [d for d in known if d["jobDefinitionName"] == name]}

    def registerjobdefinition(self, asked: dict) -> dict:
        name = asked["jobDefinitionName"]
        facts = {"jobDefinitionArn": f"{ARN}:job-definition/{name}:1", "revision": 1}
        self.definitions[facts["jobDefinitionArn"]] = {**asked, **facts}
        return {"jobDefinitionName": name, **facts}

    def submitjob(self, asked: dict) -> dict:
        definition = self.definitions[asked["jobDefinition"]]["containerProperties"]
        overrides = asked["containerOverrides"]
        number = str(uuid.uuid4())
        names = {"jobId": number, "jobName": asked["jobName"]}
        folder = self._folder / number / "empty"
        folder.mkdir(parents=True)
        job = Job(
            id=number,
            step=asked["parameters"]["metaflow.step_name"],
            image=definition["image"],
            queue=asked["jobQueue"],
            role=definition.get("jobRoleArn"),
            asked={r["type"]: r["value"] for r in overrides["resourceRequirements"]},
            shared_memory=definition["linuxParameters"].get("sharedMemorySize"),
            environment={e["name"]: e["value"] for e in overrides["environment"]},
            command=overrides["command"],
            facts={
                **names,
                "jobQueue": asked["jobQueue"],
                "jobDefinition": asked["jobDefinition"],
                "parameters": asked["parameters"],
                "status": "RUNNABLE",
                "createdAt": _now(),
                "container": {},
            },
            folder=folder,
        )
        self.jobs.append(job)
        threading.Thread(target=self._run, args=(job,), daemon=True).start()
        return names

    def describejobs(self, asked: dict) -> dict:
        with self._lock:
            return {
                "jobs": [
                    dict(job.facts) for job in self.jobs if job.id in asked["jobs"]
                ]
            }

    def listjobs(self, asked: dict) -> dict:
        with self._lock:
            return {
                "jobSummaryList": [
                    {name: job.facts[name] for name in ("jobId", "jobName", "status")}
                    for job in self.jobs
                    if job.facts["status"] == asked["jobStatus"]
                ]
            }

    def terminatejob(self, asked: dict) -> dict:
        for job in self.jobs:
            if job.id == asked["jobId"]:
                self._end(job, asked["reason"], signal.SIGTERM)
        return {}

    # How a job runs

    def _environment(self, job: Job) -> dict[str, str]:
        proxy = dict.fromkeys(("HTTP_PROXY", "http_proxy"), self.endpoint)
        near = dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost")
        return {
            "PATH": f"{self.image.parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(job.folder),
            "CUDA_VISIBLE_DEVICES": "",
            "AWS_BATCH_JOB_ID": job.id,
            "AWS_BATCH_JOB_ATTEMPT": "1",
            "AWS_BATCH_CE_NAME": "here",
            "AWS_BATCH_JQ_NAME": job.queue,
            "AWS_EXECUTION_ENV": "AWS_ECS_EC2",
            # What an instance tells of itself is asked of this server, which says 404.
            **proxy,
            **near,
            **self.brought,
            **job.environment,
        }

    def _run(self, job: Job) -> None:
        with open(job.folder.parent / "output", "wb") as output:
            with self._lock:
                if "reason" in job.facts["container"]:  # ended before it began
                    return
                job.process = subprocess.Popen(
                    job.command,
                    cwd=job.folder,
                    env=self._environment(job),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                job.facts |= {"status": "RUNNING", "startedAt": _now()}
            code = job.process.wait()
        self._kill(job, signal.SIGKILL)  # a container leaves no process behind
        with self._lock:
            container = job.facts["container"]
            container["exitCode"] = code if code >= 0 else 128 - code
            is_well = code == 0 and "reason" not in container
            job.facts |= {
                "status": "SUCCEEDED" if is_well else "FAILED",
                "statusReason": container.get("reason", "Essential container exited"),
                "stoppedAt": _now(),
            }

    def _end(self, job: Job, reason: str, number: int) -> None:
        with self._lock:
            if "stoppedAt" in job.facts:
                return
            job.facts["container"]["reason"] = reason
            if job.process is None:
                job.facts |= {
                    "status": "FAILED",
                    "statusReason": reason,
                    "stoppedAt": _now(),
                }
        self._kill(job, number)

    def _kill(self, job: Job, number: int) -> None:
        if job.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(job.process.pid, number)

    def close(self) -> None:
        """End all jobs and the server."""
        for job in self.jobs:
            self._end(job, "the test is over", signal.SIGKILL)
        self.shutdown()
        self.server_close()


def _now() -> int:
    """Milliseconds, as Batch tells the time."""
    return int(time.time() * 1000)


def image_environment() -> dict[str, str]:
    """What the Dockerfile sets, but for the path, which is that of the stand-in."""
    text = (PROJECT_DIR / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"^ENV (.*)", text, re.MULTILINE)
    values = dict(pair.split("=", 1) for line in lines for pair in line.split())
    return {name: value for name, value in values.items() if name != "PATH"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        asked = json.loads(self._body() or b"{}")
        action = getattr(self.server, self.path.removeprefix("/v1/"), None)
        if not self.path.startswith("/v1/") or action is None:
            return self._send(404, {"message": f"{self.path} is not imitated"})
        with self.server._lock:
            return self._send(200, action(asked))

    def do_GET(self):
        self._body()
        self._send(404, {})

    do_PUT = do_GET

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _send(self, status: int, answer: dict) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        """Keep the tests' output free of requests."""


def make_image(folder: Path) -> Path:
    """An interpreter that finds what is installed here, but not this checkout.

    The folder of the packages is on its path; the `.pth` files in that folder, one of
    which brings an editable installation along, are read only where they are installed.
    """
    venv.create(folder, symlinks=True)
    scheme = {"base": str(folder), "platbase": str(folder)}
    packages = Path(sysconfig.get_path("purelib", "venv", scheme))
    (packages / "requirements.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin" / "python"


@contextmanager
def serve_batch(
    folder: Path, image: Path, s3: S3StandIn
) -> Iterator[tuple[BatchStandIn, dict[str, str]]]:
    """A Batch without jobs, and the environment of a profile that names it and S3."""
    server = BatchStandIn(folder, image)
    serve = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    serve.start()
    server.brought |= {name: s3.environment[name] for name in ROLE}
    server.brought["HF_HUB_OFFLINE"] = "1"
    profile = {
        "AWS_ENDPOINT_URL_BATCH": server.endpoint,
        "METAFLOW_DEFAULT_DATASTORE": "s3",
        "METAFLOW_DATASTORE_SYSROOT_S3": f"s3://{s3.bucket}/metaflow",
        "METAFLOW_S3_ENDPOINT_URL": s3.endpoint,
        "METAFLOW_BATCH_JOB_QUEUE": QUEUE,
        "METAFLOW_BATCH_CONTAINER_IMAGE": IMAGE,
        "METAFLOW_ECS_S3_ACCESS_IAM_ROLE": ROLE_ARN,
    }
    try:
        yield server, profile
    finally:
        server.close()


@pytest.fixture(scope="session")
def batch_image(tmp_path_factory) -> Path:
    """The image of all jobs."""
    return make_image(tmp_path_factory.mktemp("image"))


@pytest.fixture
def batch(s3, batch_image, monkeypatch, tmp_path) -> Iterator[BatchStandIn]:
    """A Batch without jobs, an empty bucket, and a profile that names both."""
    with serve_batch(tmp_path / "hosts", batch_image, s3) as (server, profile):
        for name, value in profile.items():
            monkeypatch.setenv(name, value)
        yield server
