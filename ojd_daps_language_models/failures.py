"""What a step says when it fails: why, in plain words, and how to go on."""

import errno
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from metaflow import FlowSpec, current
from metaflow.exception import MetaflowException
from metaflow.system_context import system_context

from ojd_daps_language_models import PROJECT_DIR
from ojd_daps_language_models.cards.alive import sign_of_life, verbatim
from ojd_daps_language_models.resume import resume_command

SHOWN = 300  # characters of an error on a card, which more people see than a log


class Stopped(MetaflowException):
    """Why a flow stopped; Metaflow prints it as it is, and no traceback."""

    headline = "Stopped"

    def __init__(self, message: str):
        # Metaflow takes an asterisk, as in a glob, for its own mark of bold text.
        super().__init__(message.replace("*", "\N{ASTERISK OPERATOR}"))


class BadInput(Stopped):
    """Something that the user gave cannot be used."""


class StepFailed(Stopped):
    """A step raised what is not said of its input."""

    headline = "Failed"


@contextmanager
def explained_failures(
    flow: FlowSpec, step: str, reads_input: bool = False
) -> Iterator[None]:
    """Keep the card of a step alive; if the step fails, say why and how to go on.

    Args:
        reads_input: what this package says of the input of the step needs no traceback.

    Raises:
        BadInput: what this package said of the input.
        StepFailed: any other exception, once its traceback is printed.
    """
    command = resume_command(flow)
    with sign_of_life(step, command) as end_card:
        try:
            yield
        except Exception as error:
            said_by_us = reads_input and _is_ours(error)
            reason = str(error) if said_by_us else in_plain_words(error)
            if not said_by_us and not isinstance(error, MetaflowException):
                traceback.print_exception(error)
            way_on = _way_on(step, command)
            end_card(_on_card(step, reason, way_on))
            if said_by_us:
                raise BadInput(f"{reason}\n{way_on}") from error
            raise StepFailed(f"step {step}: {reason}\n{way_on}") from error


def in_plain_words(error: Exception) -> str:
    """What went wrong, with the type of the error where nothing plainer is known."""
    said = error.message if isinstance(error, MetaflowException) else str(error)
    name = type(error).__name__
    larger = "is full; continue on a larger one, or start a new `run` with"
    if name == "OutOfMemoryError":  # of torch, which is not imported for its name
        return f"the memory of the GPU {larger} a smaller `training.batch_size`: {said}"
    if isinstance(error, MemoryError):
        return f"the memory of the machine {larger} more of it under `compute`"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"the disk is full: {said}"
    return f"{name}: {said}" if said else name


def _is_ours(error: Exception) -> bool:
    raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
    return isinstance(error, ValueError | OSError) and Path(raised_in).is_relative_to(
        PROJECT_DIR / "ojd_daps_language_models"
    )


def _way_on(step: str, command: str) -> str:
    if current.retry_count < (system_context.max_user_code_retries or 0):
        return "The step will be retried."
    if step == "start":
        return "Nothing has been done yet: fix that and `run` again."
    return (
        f"Steps before {step} are kept. Once that is fixed, this continues with the "
        f"same options; to change options, start a new `run`:\n{command}"
    )


def _on_card(step: str, reason: str, way_on: str) -> str:
    shown = reason if len(reason) <= SHOWN else f"{reason[:SHOWN]} …"
    sentence, _, command = way_on.partition("\n")
    return (
        f"# Step {step} failed\n\n{verbatim(shown)}\n\n"
        f"Its log says more. {sentence}\n\n{verbatim(command)}"
    )
