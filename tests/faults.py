"""Step decorators for tests: `run --with tests.faults.fail:at=train`."""

import sys

from metaflow import user_step_decorator


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
