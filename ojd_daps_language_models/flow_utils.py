"""What the flows share of Metaflow: configs, engines, clear errors, lineage."""

import os
import platform
import resource
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from metaflow import FlowMutator, resources, user_step_decorator
from metaflow.exception import MetaflowException
from metaflow.metaflow_config import BATCH_JOB_QUEUE, DEFAULT_DATASTORE
from metaflow.plugins.datastores.local_storage import LocalStorage

from ojd_daps_language_models import PROJECT_DIR
from ojd_daps_language_models.configs import Section, parse_config

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


class BadInput(MetaflowException):
    """Something that the user gave cannot be used; printed without a traceback."""

    headline = "This cannot be used"

    def __init__(self, message: str):
        # Metaflow takes an asterisk, as in a glob, for its own mark of bold text.
        super().__init__(message.replace("*", "\N{ASTERISK OPERATOR}"))


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
    the numbers from `@resources`.
    """

    def pre_mutate(self, mutable_flow):
        on_batch = "AWS_BATCH_JOB_ID" in os.environ
        if on_batch or (DEFAULT_DATASTORE == "s3" and BATCH_JOB_QUEUE):
            return
        for _, step in mutable_flow.steps:
            for _, _, _, asked in list(step.get_decorator_specs("batch")):
                step.remove_decorator("batch")
                numbers = {name: asked[name] for name in ("gpu", "cpu", "memory")}
                step.add_decorator(resources, deco_kwargs=numbers)


@user_step_decorator
def measured(step_name, flow, inputs=None, attributes=None):
    """Keep seconds and peak memory of a step in the artifact `costs`.

    With `reads_input=True`, what this package says of its input needs no traceback.
    """
    start = time.monotonic()
    try:
        yield
    except (ValueError, OSError) as error:
        raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
        ours = Path(raised_in).is_relative_to(PROJECT_DIR / "ojd_daps_language_models")
        if ours and attributes and attributes.get("reads_input"):
            raise BadInput(str(error)) from error
        raise
    # Linux counts in kilobytes, macOS in bytes.
    unit = 1024**2 if platform.system() == "Darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    cost = {
        "seconds": round(time.monotonic() - start, 1),
        "peak_memory_mb": round(peak),
    }
    flow.costs = {**getattr(flow, "costs", {}), step_name: cost}


def check_parameters(
    epochs: int, seed: int, push_to: str | None, seeds: int = 1
) -> None:
    """Raise ValueError for a Parameter that no run can use."""
    if epochs < 0:
        raise ValueError(f"--epochs: expected 0 or more, found {epochs}")
    if not 0 <= seed < 2**32:
        raise ValueError(f"--seed: expected 0 to {2**32 - 1}, found {seed}")
    if not 1 <= seeds <= 2**32 - seed:
        raise ValueError(f"--seeds: expected 1 or more, found {seeds}")
    if push_to:
        raise ValueError(
            f"--push-to {push_to}: publishing to the hub is not part of this version; "
            "leave it out (publishing.push_to in the configuration too), and the model "
            "stays in the run's artifact 'model'"
        )


def describe_code() -> dict[str, str]:
    """Revision of the code, and versions of the libraries that decide on a result."""
    return {
        "revision": _revision(),
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
    command = f"python {os.path.relpath(sys.argv[0])} card view {run_id}/evaluate"
    lines.append(f"report: {command}")
    if DEFAULT_DATASTORE == "local":
        pages = Path(LocalStorage.get_datastore_root_from_config(print)).glob(
            f"mf.cards/{flow}/runs/{run_id}/steps/evaluate/tasks/*/cards/*.html"
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


def _revision() -> str:
    """Commit of the checkout, with `-dirty` after it where files were changed; on a
    remote machine the hash of the code package."""
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=PROJECT_DIR,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("METAFLOW_CODE_SHA", "unknown: not a git checkout")
