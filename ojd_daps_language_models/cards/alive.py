"""Cards that outlive their step: stored while it runs, and no reason for it to fail."""

import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from metaflow import current
from metaflow.cards import Markdown
from metaflow.plugins.cards.card_creator import CardProcessManager

INCOMPLETE = "the card is incomplete"
FIRST_SIGN, EVERY_SIGN = 5, 120  # seconds; a rendering takes a processor about three
RENDERED_WITHIN = 60  # seconds


@contextmanager
def unfailing_card() -> Iterator[None]:
    """Say what a card could not show, in the log and on the card; the step goes on."""
    try:
        yield
    except Exception as error:  # a report is worth less than what it reports
        last = traceback.extract_tb(error.__traceback__)[-1]
        fault = (
            f"{INCOMPLETE}: {type(error).__name__}: {error} "
            f"({Path(last.filename).name}, line {last.lineno})"
        )
        print(fault)
        if current.get("card"):
            current.card.append(Markdown(verbatim(fault)))


@contextmanager
def sign_of_life(step: str, command: str) -> Iterator[Callable[[str], None]]:
    """Say at the top of the card, from time to time, that its step is alive.

    That stores the card too, so that there is one when the machine goes away. When the
    step is done, the sign goes.

    Args:
        command: continues the run.

    Yields:
        What puts last words, in Markdown, in the place of the sign, and stores that.
    """
    if not current.get("card"):
        yield lambda last_words: None
        return
    sign, over = Markdown(_running(step, command)), threading.Event()

    def tell() -> None:
        pause = FIRST_SIGN
        while not over.wait(pause):
            sign.update(_running(step, command))
            store_card()
            pause = EVERY_SIGN

    def end(last_words: str) -> None:
        over.set()
        teller.join()
        sign.update(last_words)
        store_card()

    with unfailing_card():
        current.card.append(sign, id="sign_of_life")
    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield end
    finally:
        over.set()
        teller.join()
    with unfailing_card():
        del current.card.components["sign_of_life"]


def store_card() -> None:
    """Render the card of this step as it is now, and wait until it is stored."""
    with unfailing_card():
        # A card's own `refresh` leaves out what comes too soon after the last one.
        for card in current.card._card_component_store.values():
            _await_rendering()
            card._card_proc("render_runtime")
            _await_rendering()


def verbatim(text: str) -> str:
    """Text as it is, in Markdown."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def _running(step: str, command: str) -> str:
    now = time.strftime("%Y-%m-%d %H:%M:%S %Z")
    return (
        f"Step {step} is running; last sign of life at {now}. If it was killed since, "
        f"this continues the run:\n\n{verbatim(command)}"
    )


def _await_rendering() -> None:
    for rendering in list(CardProcessManager.async_card_processes.values()):
        rendering["proc"].wait(RENDERED_WITHIN)
