"""What the flows share of Metaflow: configs, engines, clear errors, lineage."""

import os
import platform
import re
import resource
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

from metaflow import (
    FlowMutator,
    FlowSpec,
    Run,
    current,
    resources,
    user_step_decorator,
)
from metaflow.metaflow_config import (
    BATCH_JOB_QUEUE,
    DEFAULT_DATASTORE,
)
from metaflow.plugins.datastores.local_storage import LocalStorage
from metaflow.system_context import system_context

from ojd_daps_language_models import PROJECT_DIR
from ojd_daps_language_models.configs import Compute, Section, parse_config
from ojd_daps_language_models.energy import meter_energy
from ojd_daps_language_models.failures import BadInput, explained_failures
from ojd_daps_language_models.getters.runs import DESCRIBED_BY, describe_run, task_of
from ojd_daps_language_models.preflight import asked_of, check_launch
from ojd_daps_language_models.resume import values_given
from ojd_daps_language_models.stores import Store, open_store
from ojd_daps_language_models.training.checkpoints import TrainingCheckpoints
from ojd_daps_language_models.training.processes import Cluster

LIBRARIES = (
    "metaflow",
    "transformers",
    "sentence-transformers",
    "torch",
    "tokenizers",
    "spacy",
    "pandas",
    "scikit-learn",
)

# Threads of torch that wait by spinning make training up to twenty times slower as soon
# as the machine does anything else. OpenMP reads this when torch is imported.
PATIENT_THREADS = {"OMP_WAIT_POLICY": "PASSIVE"}

# Of the first machine of several; each run has one of its own, which all can tell.
PORTS = range(20_000, 30_000)

TAG_LENGTH = 200  # characters; Metaflow refuses more than 500


def config_parser(model: type[Section]) -> Callable[[str], dict]:
    """A parser for Metaflow's `Config` that checks a YAML text against `model`."""

    def parse(text: str) -> dict:
        try:
            return parse_config(text, model).model_dump()
        except ValueError as error:
            raise BadInput(f"in the configuration:\n{error}") from None

    return parse


class MachineChoosesEngine(FlowMutator):
    """Keep `@batch` where the profile can run it, else ask the same as `@resources`.

    A laptop then runs every step itself, and `--with batch` or `--with kubernetes` take
    the numbers from `@resources`; for Kubernetes and Argo no step may be on Batch.
    """

    def pre_mutate(self, mutable_flow):
        on_batch = "AWS_BATCH_JOB_ID" in os.environ
        to_batch = DEFAULT_DATASTORE == "s3" and BATCH_JOB_QUEUE
        words = {re.split("[:=]", word.removeprefix("--with="))[0] for word in sys.argv}
        if (on_batch or to_batch) and not words & {"kubernetes", "argo-workflows"}:
            return
        for _, step in mutable_flow.steps:
            for _, _, _, asked in list(step.get_decorator_specs("batch")):
                step.remove_decorator("batch")
                names = ("gpu", "cpu", "memory", "shared_memory")
                numbers = {name: asked[name] for name in names if name in asked}
                step.add_decorator(resources, deco_kwargs=numbers)

    def mutate(self, mutable_flow):
        """Now `--with` is known, and nothing has been packed or stored."""
        if system_context.is_launch and {"run", "resume"} & set(sys.argv):
            try:
                check_launch(
                    asked_of(system_context.flow),
                    "resume" in sys.argv,
                    places_given(dict(mutable_flow.configs)["config"], sys.argv),
                )
            except ValueError as error:
                raise BadInput(str(error)) from None


def places_given(
    config: Mapping[str, Any], arguments: Sequence[str]
) -> dict[str, str | None]:
    """Where a run will look for data and checkpoint, by option.

    Args:
        config: says where what is not given as an option is.
        arguments: as typed.
    """
    places = {
        "--data": config["data"]["path"],
        "--validation-data": None,
        "--test-data": None,
        "--checkpoint": config.get("model", {}).get("checkpoint"),
    }
    return {
        option: [place, *values_given(option, arguments)][-1]
        for option, place in places.items()
    }


@user_step_decorator
def measured(step_name, flow, inputs=None, attributes=None):
    """Keep seconds and peak memory of a step, of its largest process, in the artifact
    `costs`; if it fails, say how to go on.

    With `reads_input=True`, what this package says of its input needs no traceback;
    with `energy=True`, hardware and energy are kept as well.
    """
    asked = attributes or {}
    start = time.monotonic()
    if current.origin_run_id:
        tag_run(flow)
    with (
        explained_failures(flow, step_name, asked.get("reads_input", False)),
        meter_energy() if asked.get("energy") else nullcontext({}) as energy,
    ):
        yield
    if step_name == "start":
        tag_run(flow)
    # Linux counts in kilobytes, macOS in bytes.
    unit = 1024**2 if platform.system() == "Darwin" else 1024
    own = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak = max(resource.getrusage(who).ru_maxrss for who in own) / unit
    cost = {
        "seconds": round(time.monotonic() - start, 1),
        "peak_memory_mb": round(peak),
        **energy,
    }
    if asked.get("energy"):
        cost = count_earlier_attempts(cost, getattr(flow, "training_log", ()))
    flow.costs = {**getattr(flow, "costs", {}), step_name: cost}


def count_earlier_attempts(cost: dict[str, Any], log) -> dict[str, Any]:
    """The `costs` of a training that went on from where an earlier attempt was cut off:
    its log knows the seconds of all attempts, but nobody their energy.

    Args:
        cost: of the last attempt.
        log: a table with seconds, if there are any rows, and seed, if there were any.
    """
    if not len(log):
        return cost
    by_seed = log.groupby("seed") if "seed" in log else log.groupby(lambda row: 0)
    seconds = by_seed["seconds"].max().sum()
    if seconds <= cost["seconds"]:
        return cost
    unknown = "not known: an earlier attempt was cut off"
    return cost | {
        "seconds": round(float(seconds), 1),
        "energy_kwh": None,
        "energy_by": unknown,
    }


def join_costs(inputs, step: str) -> dict[str, dict]:
    """The `costs` of a join: of the tasks of a step all seconds, the highest peak."""
    tasks = [task.costs[step] for task in inputs]
    return inputs[0].costs | {
        step: {
            "tasks": len(tasks),
            "seconds": round(sum(cost["seconds"] for cost in tasks), 1),
            "peak_memory_mb": max(cost["peak_memory_mb"] for cost in tasks),
        }
    }


def join_parallel_costs(inputs, step: str) -> dict[str, dict]:
    """The `costs` of a join after machines that took a step together: the first one's,
    with the energy of all."""
    tasks = [task.costs[step] for task in inputs]
    energy = [cost["energy_kwh"] for cost in tasks]
    hardware = f"{len(tasks)} machines, the first of which is: {tasks[0]['hardware']}"
    together = {
        "hardware": hardware,
        "energy_kwh": None if None in energy else sum(energy),
    }
    return inputs[0].costs | {step: tasks[0] | together}


def tag_run(flow: FlowSpec) -> None:
    """Tag a run, which then can be found in Metaflow's UI by what it is made from.

    It needs no tags: where they cannot be written, it says so and goes on.
    """
    try:
        Run(f"{current.flow_name}/{current.run_id}", _namespace_check=False).add_tags(
            tags_of(
                task=task_of(current.flow_name),
                checkpoint=getattr(flow, "origin", None),
                data=flow.data,
                revision=getattr(flow, "code", {}).get("revision"),
            )
        )
    except Exception as error:
        print(f"the run has no tags: {type(error).__name__}: {error}")


def tags_of(**described: str | None) -> list[str]:
    """Tags `name:value`; of a path on this machine only the last part, and of a URL
    neither the user nor the query."""
    tags = []
    for name, value in described.items():
        if value is None:
            continue
        if "://" in value:
            value = re.sub(r"//[^/@]*@", "//", value).partition("?")[0]
        elif value.startswith(("/", "~", ".")):
            value = Path(value).name
        tags.append(f"{name}:{value}"[:TAG_LENGTH])
    return tags


def check_parameters(epochs: int, seed: int, seeds: int = 1, nodes: int = 1) -> None:
    """Raise ValueError for a Parameter that no run can use."""
    if epochs < 0:
        raise ValueError(f"--epochs: expected 0 or more, found {epochs}")
    if not 0 <= seed < 2**32:
        raise ValueError(f"--seed: expected 0 to {2**32 - 1}, found {seed}")
    if not 1 <= seeds <= 2**32 - seed:
        raise ValueError(f"--seeds: expected 1 or more, found {seeds}")
    if nodes < 1:
        raise ValueError(f"--nodes: expected 1 or more, found {nodes}")


def describe_code(begun: dict[str, str] | None = None) -> dict[str, str]:
    """Revision of the code, and versions of the libraries that decide on a result.

    Args:
        begun: what the run began with. Its revision stays where a remote machine has no
            checkout to ask, unless the run was resumed, maybe with other code.
    """
    revision = _checkout()
    if not revision and begun and not current.origin_run_id:
        revision = begun["revision"]
    package = os.environ.get("METAFLOW_CODE_SHA", "unknown: not a git checkout")
    return {
        "revision": revision or package,
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }


def resolve_config(
    config: dict, data: str, checkpoint: str, epochs: int, seed: int
) -> dict:
    """The configuration with what the Parameters of this run say instead."""
    training = config["training"] | {"epochs": epochs, "seed": seed}
    return config | {
        "data": config["data"] | {"path": data},
        "model": config["model"] | {"checkpoint": checkpoint},
        "training": training,
    }


def stored_run(flow: FlowSpec) -> dict[str, Any]:
    """What the model card is made from, as it is read back after the run."""
    artifacts = {name: getattr(flow, name) for name in DESCRIBED_BY}
    return describe_run(artifacts, current.run_id)


def training_checkpoints(flow: FlowSpec) -> TrainingCheckpoints | None:
    """Where the trainings of a run are kept while they go on.

    That is in the run's own datastore, under the run that it began as, which a resumed
    run shares; beside the folders of the flows, where Metaflow looks for nothing.

    Returns:
        None where the datastore is neither the local disk nor S3.
    """
    began_as = getattr(flow, "began_as", f"{current.flow_name}/{current.run_id}")
    root = place_beside_runs(flow, f"training_checkpoints/{began_as}")
    if not root:
        print("no training checkpoints: the datastore is neither this disk nor S3")
        return None
    notice = current.get("spot_termination_notice")
    return TrainingCheckpoints(
        open_store(root),
        {
            "config": flow.config.to_dict(),
            "checkpoint": flow.origin,
            "revision": flow.revision,
            "data": flow.data_report["fingerprint"],
        },
        Compute(**flow.config.compute).checkpoint_minutes,
        notice and Path(notice),
    )


def cluster_of_step() -> Cluster:
    """The machines of a step with `@parallel`."""
    run = f"{current.flow_name}/{current.run_id}"
    return Cluster(
        machines=current.parallel.num_nodes,
        number=current.parallel.node_index,
        address=current.parallel.main_ip,
        port=PORTS.start + zlib.crc32(run.encode()) % len(PORTS),
    )


def place_beside_runs(flow: FlowSpec, name: str) -> str | None:
    """Folder or S3 prefix in the run's own datastore, beside the folders of the flows.

    Returns:
        None where the datastore is neither the local disk nor S3.
    """
    datastore = flow._datastore.parent_datastore
    if datastore.TYPE not in ("local", "s3"):
        return None
    root = datastore.datastore_root.rstrip("/")
    if datastore.TYPE == "local":
        root = str(Path(root).resolve())
    return f"{root}/{name}"


def token_store(flow: FlowSpec) -> Store | None:
    """Where runs keep their files of tokens, each under the task that has written it.

    Returns:
        None where the datastore is neither the local disk nor S3.
    """
    place = place_beside_runs(flow, "tokens")
    return place and open_store(place)


def delete_checkpoints(flow: FlowSpec) -> None:
    """Remove what was kept of the trainings of a run, once their models are."""
    try:
        if checkpoints := training_checkpoints(flow):
            checkpoints.delete()
    except OSError as error:
        print(f"the training checkpoints stay where they are: {error}")


def describe_outcome(metrics: dict, flow: str, run_id: str) -> str:
    """The scores in a few lines, and where the report is."""
    lines = [f"head of the checkpoint before training: {metrics['head']}"]
    lines += list_scores(metrics["scores"])
    for group, measures in metrics.get("spread", {}).items():
        lines += [
            f"{group}, {measure}, {len(metrics['seeds'])} seeds: mean {{mean:.3f}}, "
            "standard deviation {standard_deviation:.3f}".format(**over_seeds)
            for measure, over_seeds in measures.items()
        ]
    return "\n".join([*lines, locate_report(flow, run_id, "evaluate")])


def locate_report(flow: str, run_id: str, step: str) -> str:
    """The command that shows the card of a step, and its page where that is here."""
    command = f"python {os.path.relpath(sys.argv[0])} card view {run_id}/{step}"
    lines = [f"report: {command}"]
    if DEFAULT_DATASTORE == "local":
        pages = Path(LocalStorage.get_datastore_root_from_config(print)).glob(
            f"mf.cards/{flow}/runs/{run_id}/steps/{step}/tasks/*/cards/*.html"
        )
        lines += [f"        {page.resolve().as_uri()}" for page in pages]
    return "\n".join(lines)


def list_scores(scores: dict, group: str = "") -> list[str]:
    """A line for each measure, also of measures that stand in groups."""
    lines = []
    for name, inner in scores.items():
        if all("value" in score for score in inner.values()):
            values = ", ".join(
                "{} {value:,.3f} ({low:,.3f} to {high:,.3f})".format(system, **score)
                for system, score in inner.items()
            )
            lines.append(f"{group}{name}: {values}")
        else:
            lines += list_scores(inner, f"{group}{name}, ")
    return lines


def _checkout() -> str | None:
    """Commit that is checked out, with `-dirty` after it where files were changed."""
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=PROJECT_DIR,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
