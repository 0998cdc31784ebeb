"""What earlier runs left behind, read by Metaflow's client."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

# What a model card is made from, in the step that wrote the report.
DESCRIBED_BY = (
    *("model", "metrics", "data_report", "training_log", "lineage", "costs"),
    *("encoder", "recipe"),
)
TEXTS = ("adverts", "sentences", "texts", "pairs")  # tables, the first that a run has

_JOB = "aws-batch-job-id"  # what a task on Batch says of itself
DEAD_AFTER = timedelta(minutes=1)  # a run with a metadata service beats every 10 s


def split_run(run: str) -> tuple[str, str]:
    """Flow and id of `run:FLOW/ID`; the prefix may be left out.

    Raises:
        ValueError: it has another form.
    """
    flow, _, run_id = run.removeprefix("run:").partition("/")
    if not flow or not run_id or "/" in run_id:
        raise ValueError(f"{run}: expected run:FLOW/ID or run:FLOW/latest")
    return flow, run_id


def task_of(flow: str) -> str:
    """The name of a task in files: `skill_similarity` of `SkillSimilarityFlow`, `mlm`
    of `MLMFlow` and of `DistributedMLMFlow`."""
    return _in_files(flow).removeprefix("distributed_")


def flow_file(flow: str) -> str:
    """Where a flow stands in the repository: `flows/mlm_flow.py` of `MLMFlow`."""
    return f"flows/{_in_files(flow)}_flow.py"


def _in_files(flow: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", flow.removesuffix("Flow")).lower()


def check_origin(flow: str, run_id: str, parameters: dict[str, str]) -> None:
    """Check that a run can be resumed by the flow as it is now.

    Args:
        parameters: name of the artifact -> name on the command line.

    Raises:
        FileNotFoundError: there is no such run, or it began without one of them.
    """
    with _all_namespaces():
        flows = {known.id: known for known in _flows()}
        if flow not in flows or run_id not in flows[flow]:
            others = [name for name, other in flows.items() if run_id in other]
            hint = f"it is a run of {others[0]}" if others else _recent_runs(flow)
            raise FileNotFoundError(f"{flow} has no run {run_id}; {hint}")
        kept = flows[flow][run_id]["_parameters"].task
        for name, option in parameters.items():
            if name not in kept:
                raise FileNotFoundError(
                    f"{flow}/{run_id} was begun by another version of the flow, which "
                    f"had no --{option}; start a new `run`"
                )


def check_not_continued(flow: str, run_id: str) -> None:
    """Raise ValueError where a run was continued, and the newest run that did so has
    not come to its end: that one has more to go on from."""
    with _all_namespaces():
        known = next((known for known in _flows() if known.id == flow), ())
        newer = list(takewhile(lambda run: run.id != run_id, known))
        origins = {run.id: _origin(run) for run in newer}
        for run in newer:
            before = origins[run.id]
            while before in origins:
                before = origins[before]
            if before == run_id:
                if run.successful:
                    return
                raise ValueError(
                    f"run {run_id} was continued as run {run.id}: resume "
                    f"--origin-run-id {run.id}"
                )


def latest_successful_run(flow: str) -> str:
    """The id of the newest successful run in the current namespace, one's own."""
    from metaflow.exception import MetaflowNamespaceMismatch

    try:
        run = _get_flow(flow).latest_successful_run
    except MetaflowNamespaceMismatch:
        run = None
    if run is None:
        with _all_namespaces():
            raise FileNotFoundError(
                f"run:{flow}/latest: no successful run of yours; {_recent_runs(flow)}"
            )
    return run.id


def get_run_artifact(flow: str, run_id: str, name: str = "model") -> Any:
    """An artifact of a run, from the last of its steps that has one.

    Raises:
        FileNotFoundError: there is no such flow, run or artifact.
    """
    if run_id == "latest":
        run_id = latest_successful_run(flow)
    with _all_namespaces():
        for task in _tasks(flow, run_id):
            if name in task:
                return task[name].data
        raise FileNotFoundError(
            f"run:{flow}/{run_id}: none of its steps has an artifact '{name}'; "
            f"{_recent_runs(flow)}"
        )


def get_training_rows(flow: str, run_id: str) -> "pd.DataFrame | dict":
    """The rows that a run divided into parts: tasks differ in what they read. Of
    prepared adverts it is their manifest, see `getters.prepared`."""
    for name in TEXTS[:-1]:
        try:
            return get_run_artifact(flow, run_id, name)
        except FileNotFoundError:
            continue
    return get_run_artifact(flow, run_id, TEXTS[-1])


def get_described_run(flow: str, run_id: str) -> dict[str, Any]:
    """What the model card of a run is made from, as when the run published it.

    Returns:
        See `describe_run`.

    Raises:
        FileNotFoundError: there is no such run, or it was not evaluated.
    """
    if run_id == "latest":
        run_id = latest_successful_run(flow)
    with _all_namespaces():
        for task in _tasks(flow, run_id):
            if task.parent.id == "evaluate" and task.successful:
                missing = [name for name in DESCRIBED_BY if name not in task]
                if missing:
                    raise FileNotFoundError(
                        f"run:{flow}/{run_id}: no artifact '{missing[0]}'; it was made "
                        "by an older version, without what a model card tells"
                    )
                artifacts = {name: task[name].data for name in DESCRIBED_BY}
                return describe_run(artifacts, run_id)
        raise FileNotFoundError(
            f"run:{flow}/{run_id}: its model was not evaluated; {_recent_runs(flow)}"
        )


def describe_run(artifacts: dict[str, Any], stored_as: str) -> dict[str, Any]:
    """What a model card is made from.

    Args:
        artifacts: of `DESCRIBED_BY`.
        stored_as: id of the run that has them.

    Returns:
        The artifacts, `recipe` under the name `config`, and of the run that trained the
        model: `flow`, `run_id`, `task` and `stored_as`. A run that was resumed keeps
        the id that it began with, so that publishing twice publishes the same.
    """
    flow, run_id = split_run(artifacts["lineage"]["run"])
    run = {"flow": flow, "run_id": run_id, "stored_as": stored_as}
    run |= {"task": task_of(flow), **artifacts}
    return run | {"config": run.pop("recipe")}


def iter_published(is_listed: Callable[[str], bool]) -> Iterator[dict[str, Any]]:
    """What was published by runs of all users, the latest of each flow first.

    Args:
        is_listed: see `iter_recent_runs`.

    Yields:
        flow, run_id, and the artifacts `published` and `metrics`.
    """
    with _all_namespaces():
        for flow in (flow for flow in _flows() if is_listed(flow.id)):
            for run in flow:
                for task in _tasks(flow.id, run.id):
                    published = task["published"].data if "published" in task else None
                    if published:
                        yield {
                            "flow": flow.id,
                            "run_id": run.id,
                            "published": published,
                            "metrics": task["metrics"].data,
                        }
                        break


def iter_recent_runs(
    limit: int, is_listed: Callable[[str], bool]
) -> Iterator[dict[str, Any]]:
    """The newest runs of several flows, of all users.

    Args:
        limit: runs of each flow.
        is_listed: whether a flow of that name is one of them; others may be kept in
            the same place.

    Yields:
        flow, run_id, user, `begun` (a datetime); `state`: successful, failed, running,
        or silent, where nothing tells whether the run still goes on; `step`: the last
        one that began, or None; `last_sign` of life (a datetime); `scores` of the model
        or None; `engine`: batch or kubernetes, where all steps run there, or None;
        `on_batch`: whether the last step that began runs there.
    """
    with _all_namespaces():
        for flow in sorted(_flows(), key=lambda flow: flow.id):
            if is_listed(flow.id):
                for run in islice(flow, limit):
                    yield {"flow": flow.id, "run_id": run.id, **_describe_state(run)}


def _describe_state(run) -> dict[str, Any]:
    """See `iter_recent_runs`; no more is read than is needed: it may be far away."""
    step = next(iter(run), None)
    task = step and step.task
    records = sorted(task.metadata, key=_in_time) if task else []
    well = None  # how the last attempt ended, None where it has not
    for record in records:
        if record.name in ("attempt", "attempt_ok"):
            well = record.value == "True" if record.name == "attempt_ok" else None
    beat = run._object.get("last_heartbeat_ts")  # where there is a metadata service
    last_sign = run.created_at
    if beat:
        last_sign = datetime.fromtimestamp(beat)
    elif records:
        last_sign = datetime.fromtimestamp(records[-1].created_at / 1000)
    if well and step.id == "end":
        state = "successful"
    elif well is False:
        state = "failed"
    elif beat and datetime.now() - last_sign < DEAD_AFTER:
        state = "running"
    else:
        state = "failed" if task and well is None and _was_killed(task) else "silent"
    users = (tag[5:] for tag in run.system_tags if tag.startswith("user:"))
    return {
        "user": next(users, None),
        "begun": run.created_at,
        "state": state,
        "step": step and step.id,
        "last_sign": last_sign,
        "scores": _scores(run),
        "on_batch": any(record.name == _JOB for record in records),
        "engine": None if state == "successful" else _engine(run),
    }


def _origin(run) -> str | None:
    """The id of the run that another one continues."""
    step = next(iter(run), None)
    records = step.task.metadata if step and step.task else []
    kept = (record.value for record in records if record.name == "origin-run-id")
    return next(kept, None)


def _in_time(record) -> tuple:
    return record.created_at, record.name


def _was_killed(task) -> bool:
    """Whether a task ended without a word: its log has the word of the runtime."""
    return any(line == "Task failed." for _, line in task.loglines("stderr"))


def _scores(run) -> dict | None:
    task = run["evaluate"].task if "evaluate" in run else None
    return task["metrics"].data["scores"] if task and "metrics" in task else None


def _engine(run) -> str | None:
    task = run["start"].task if "start" in run else None
    names = set(task.metadata_dict) if task else set()
    engines = {_JOB: "batch", "kubernetes-pod-name": "kubernetes"}
    return next((engines[name] for name in engines if name in names), None)


@contextmanager
def _all_namespaces() -> Iterator[None]:
    """See the runs of every user, as Metaflow otherwise shows one's own."""
    from metaflow import get_namespace, namespace

    own = get_namespace()
    namespace(None)
    try:
        yield
    finally:
        namespace(own)


def _flows() -> list:
    from metaflow import Metaflow

    return Metaflow().flows


def _get_flow(name: str):
    from metaflow import Flow
    from metaflow.exception import MetaflowNotFound

    try:
        return Flow(name)
    except MetaflowNotFound as error:
        raise FileNotFoundError(
            f"run:{name}: no run of a flow called {name} is known here; look at the "
            "name, METAFLOW_PROFILE, and the folder that holds .metaflow"
        ) from error


def _tasks(flow: str, run_id: str) -> Iterator:
    """Tasks of a run, the last step first."""
    known = _get_flow(flow)
    if run_id not in known:
        raise FileNotFoundError(
            f"run:{flow}/{run_id}: no such run; {_recent_runs(flow)}"
        )
    return (step.task for step in known[run_id] if step.task is not None)


def _recent_runs(flow: str) -> str:
    runs = list(_get_flow(flow))[:5]
    states = [
        f"{run.id} ({'successful' if run.successful else 'not successful'})"
        for run in runs
    ]
    return f"recent runs: {', '.join(states) or 'none'}"
