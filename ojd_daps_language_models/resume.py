"""Starting a flow, and the command that continues one."""

import atexit
import gc
import os
import re
import shlex
import sys
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from types import resolve_bases

from metaflow import Config, FlowSpec, Parameter, current
from metaflow.metaflow_config import DEFAULT_DATASTORE, DEFAULT_METADATA
from metaflow.system_context import system_context
from metaflow.util import get_latest_run_id

from ojd_daps_language_models.getters.runs import (
    check_not_continued,
    check_origin,
    flow_file,
)

# How the tasks of a run, which are other processes, learn what was typed.
RESUMED_BY = "OJD_RESUMED_BY"
ENGINES = ("batch", "kubernetes")
# What Metaflow asks them for where nobody has asked for more.
USUAL = {"cpu": "1", "gpu": "0", "memory": "4096"}
ASKED = re.compile(r"(?:^|,)(cpu|gpu|memory|queue)=([^,]+)")
# What is set there may be secret, and the command is kept and shown.
SECRET = re.compile("(?s)^((?:--with=)?environment:).*")
TOKEN = re.compile(r"(?s)environment:.*\b(HF_TOKEN|HUGGING_FACE_HUB_TOKEN)\b")


def launch(flow: type[FlowSpec]) -> None:
    """Do what the command line says of a flow.

    A `resume` that cannot work, a token that others would read, and a configuration
    that is not UTF-8 are refused in a sentence. A run that stops, for whatever reason,
    ends with the command that continues it.
    """
    # At its end, Python would look through all of torch for garbage: a second or more.
    atexit.register(gc.freeze)
    (flow,) = resolve_bases((flow,))  # the class itself, where it is decorated
    try:
        check_tokens(sys.argv[1:])
        check_resume(flow, sys.argv[1:])
        check_encoding(flow, sys.argv[1:])
    except (ValueError, OSError) as error:
        sys.exit(f"    Stopped:\n    {error}")
    if {"run", "resume"} & set(sys.argv):
        os.environ[RESUMED_BY] = resumed_by(sys.argv)
    # Metaflow lets `python` run what `@parallel` adds to a task on this machine.
    os.environ["PATH"] = (
        f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    try:
        flow()
    except SystemExit as stop:
        if isinstance(stop.__context__, UnboundLocalError) and "resume" in sys.argv:
            # Metaflow's own fault, whose traceback it has printed.
            print(f"    There is no such run of {flow.__name__}.", file=sys.stderr)
        elif stop.code and system_context.is_launch:
            _say_how_to_continue(stop)
        raise


def check_tokens(arguments: Sequence[str]) -> None:
    """Refuse a token of the hub that would be part of the command lines of tasks.

    Args:
        arguments: as typed after the name of the file.

    Raises:
        ValueError: `--with environment:` sets one; its value is not told.
    """
    for found in filter(None, map(TOKEN.match, values_given("--with", arguments))):
        raise ValueError(
            f"--with environment: {found[1]} would stand in the command line and the "
            "definition of each job, where others read it: set it in your shell, and "
            "for jobs keep it in AWS Secrets Manager, `--with "
            "'secrets:sources=[\"aws-secrets-manager.NAME\"]'`"
        )


def check_resume(flow: type[FlowSpec], arguments: Sequence[str]) -> None:
    """Refuse a `resume` that Metaflow would misread or answer with a traceback.

    Args:
        arguments: as typed after the name of the file.

    Raises:
        ValueError: an option cannot be given, or not so; or without an id, the last
            `run` was continued by one that has more to go on from.
        FileNotFoundError: there is no such run, or it lacks what the flow needs.
    """
    if "resume" not in arguments or "run" in arguments:
        return
    at = arguments.index("resume")
    before, after = arguments[:at], arguments[at + 1 :]
    names = {
        name: value.name
        for kind in reversed(flow.__mro__)  # a flow inherits parameters too
        for name, value in vars(kind).items()
        if isinstance(value, Parameter)
    }
    frozen = {f"--{name}" for name in names.values()} | {"--config-value"}
    for option in (word.partition("=")[0] for word in (*before, *after)):
        if option in frozen:
            raise ValueError(
                f"{option}: a resumed run keeps the parameters and the configuration "
                "that it began with; leave it out, or start a new `run` with it"
            )
    if any(word.startswith("--origin-run-id=") for word in after):
        raise ValueError(
            "--origin-run-id: write a space before the id; with =, Metaflow takes the "
            "configuration of another run"
        )
    # Without a service, this machine need not know of a run that S3 has.
    knows_all = DEFAULT_METADATA == "service" or DEFAULT_DATASTORE == "local"
    elsewhere = any(word.startswith(("--metadata", "--datastore")) for word in before)
    is_known = knows_all and not elsewhere
    if "--origin-run-id" in after:
        given = after[after.index("--origin-run-id") + 1 :]
        if not given:
            raise ValueError("--origin-run-id: no id follows; `make runs` lists them")
        if is_known:
            check_origin(flow.__name__, given[0], names)
    elif is_known and (latest := get_latest_run_id(print, flow.__name__)):
        check_not_continued(flow.__name__, latest)


def check_encoding(flow: type[FlowSpec], arguments: Sequence[str]) -> None:
    """Refuse a configuration in bytes that Metaflow would answer with a traceback.

    Args:
        arguments: as typed after the name of the file.

    Raises:
        ValueError: the file is not UTF-8.
    """
    usual = [
        value.kwargs["default"]
        for kind in flow.__mro__
        for value in vars(kind).values()
        if isinstance(value, Config)
    ]
    typed = zip(arguments, arguments[2:], strict=False)  # its name is between them
    given = [path for option, path in typed if option == "--config"]
    for path in filter(os.path.isfile, given or usual):
        content = Path(path).read_bytes()
        try:
            content.decode()
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise ValueError(
                f"{path}: line {line} is not UTF-8; expected YAML in it: save the file "
                "in this encoding"
            ) from error


def resumed_by(arguments: Sequence[str]) -> str:
    """What to type, before the id of a run, to continue what was started like this.

    Args:
        arguments: as typed, from the name of the file on.
    """
    at = min(arguments.index(word) for word in ("run", "resume") if word in arguments)
    options = list(arguments[1:at])
    for frozen in ("--config", "--config-value"):
        while frozen in options:
            place = options.index(frozen)
            del options[place : place + 3]  # its name and its value follow
    options = [SECRET.sub(r"\1…", option) for option in options]
    decorators = values_given("--with", arguments[at + 1 :])
    shown = [SECRET.sub(r"\1…", spec) for spec in decorators]
    limits = [
        word
        for option in ("--max-workers", "--max-num-splits")
        for value in values_given(option, arguments[at + 1 :])[-1:]
        for word in (option, value)
    ]
    return _resume(arguments[0], options, shown, limits)


def resume_command(flow: FlowSpec) -> str:
    """What to type to continue this run, asked from within a step.

    The artifact `resumed_by` keeps it for machines where nobody has typed anything.
    """
    typed = os.environ.get(RESUMED_BY) or getattr(flow, "resumed_by", None)
    if not typed:
        specs = list(map(_as_typed, values_given("--with", sys.argv)))
        typed = _resume(flow_file(current.flow_name), (), specs)
    flow.resumed_by = typed
    return f"{typed} {current.run_id}"


def resume_command_of(run_id: str, script: str, engine: str | None) -> str:
    """What to type to continue a run that was started elsewhere.

    Args:
        script: file of the flow.
        engine: `batch` or `kubernetes`, where all steps ran there.
    """
    return f"{_resume(script, (), [engine] if engine else [])} {run_id}"


def kill_command_of(run_id: str, script: str) -> str:
    """What to type to end the jobs on Batch of a run whose launcher is gone.

    Args:
        script: file of the flow.
    """
    return _typed(["python", script, "batch", "kill", "--run-id", run_id])


def _resume(
    script: str,
    options: Sequence[str],
    decorators: Sequence[str],
    limits: Sequence[str] = (),
) -> str:
    words = [
        *("python", script, *options, "resume"),
        *(word for name in decorators for word in ("--with", name)),
        *limits,
        "--origin-run-id",
    ]
    return _typed(words)


def _typed(words: Sequence[str]) -> str:
    """A command, with the profile that is set."""
    profile = os.environ.get("METAFLOW_PROFILE")
    setting = f"METAFLOW_PROFILE={shlex.quote(profile)} " if profile else ""
    return setting + shlex.join(words)


def _as_typed(spec: str) -> str:
    """A `--with` of a job as it may have been typed: Metaflow has added to an engine
    all that the profile says, of which the queue cannot be told from one that was
    asked for."""
    name, _, attributes = spec.partition(":")
    if name not in ENGINES:
        return SECRET.sub(r"\1…", spec)
    asked = [
        f"{key}={value}"
        for key, value in ASKED.findall(attributes)
        if value != USUAL.get(key)
    ]
    return f"{name}:{','.join(asked)}" if asked else name


def values_given(option: str, arguments: Sequence[str]) -> list[str]:
    """What was given for an option, in both ways to write it."""
    return [
        after if word == option else word.partition("=")[2]
        for word, after in zip_longest(arguments, arguments[1:], fillvalue="")
        if word.partition("=")[0] == option
    ]


def _say_how_to_continue(stop: SystemExit) -> None:
    """The last lines of a run that stopped, also where its task was killed."""
    run_id = current.get("run_id")
    failed = re.match(r"Step \*(\w+)\*", str(stop.__context__))
    if not run_id or (failed and failed[1] == "start"):
        return  # nothing has been done yet
    print(
        f"    {current.flow_name}/{run_id} has stopped. This continues it from there:\n"
        f"    {os.environ[RESUMED_BY]} {run_id}",
        file=sys.stderr,
    )
