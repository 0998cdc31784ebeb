"""Step decorators for tests: `run --with tests.faults.fail:at=train`."""

import os
import signal
import sys
import time

from metaflow import current, user_step_decorator


@user_step_decorator
def fail(step_name, flow, inputs=None, attributes=None):
    """Let the step do its work, then fail before its artifacts are kept."""
    yield
    if step_name == attributes["at"]:
        raise RuntimeError(f"planned failure in {step_name}")


@user_step_decorator
def say_whether_torch(step_name, flow, inputs=None, attributes=None):
    """Print the name of a step that imported torch."""
    yield
    if "torch" in sys.modules:
        print(f"torch was imported in {step_name}")


@user_step_decorator
def fail_within(step_name, flow, inputs=None, attributes=None):
    """Let the step itself fail at its end, inside of what the flow puts around it."""
    if step_name == attributes["at"]:

        def fail(*steps, **how):
            raise RuntimeError(f"planned failure in {step_name}")

        flow.next = fail
    try:
        yield
    finally:
        vars(flow).pop("next", None)


@user_step_decorator
def say_where_package(step_name, flow, inputs=None, attributes=None):
    """Print where the package was imported from, for a test of the code package."""
    import ojd_daps_language_models as package

    print(f"the package is {package.__file__}")
    yield


@user_step_decorator
def kill_in_training(step_name, flow, inputs=None, attributes=None):
    """Kill the first attempt to train, as when memory runs out, after some steps."""
    _disturb_training(step_name, lambda: os.kill(os.getpid(), signal.SIGKILL))
    yield


@user_step_decorator
def wait_in_training(step_name, flow, inputs=None, attributes=None):
    """Let the first attempt to train say so after some steps, and wait for its end."""

    def wait() -> None:
        print("the training waits", flush=True)
        time.sleep(300)

    _disturb_training(step_name, wait)
    yield


def _disturb_training(step_name, disturb) -> None:
    if step_name != "train" or current.retry_count:
        return
    from ojd_daps_language_models.training.fit import TrainingLog

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 3:
            disturb()

    TrainingLog.on_step_end = on_step_end


@user_step_decorator
def fail_in_task(step_name, flow, inputs=None, attributes=None):
    """Let one task of a step fail once it has done its work."""
    yield
    if step_name == attributes["at"] and flow.index == int(attributes["task"]):
        raise RuntimeError(f"planned failure in {step_name}")


@user_step_decorator
def without_cards(step_name, flow, inputs=None, attributes=None):
    """Let the step fill its card, which nobody reads, and render none of it."""
    from metaflow.plugins.cards.card_creator import CardCreator

    CardCreator._run_cards_subprocess = lambda *content, **how: None
    yield
