"""A stand-in for the MLM flow: its name and its decorators, and no work; for tests.

`--how` tells what goes wrong; a resumed run can be put right by the file `mended`.
"""

import os
import signal
import time
from pathlib import Path

from metaflow import FlowSpec, Parameter, card, current, step
from metaflow.cards import Markdown

from ojd_daps_language_models.cards import alive
from ojd_daps_language_models.flow_utils import measured
from ojd_daps_language_models.getters.runs import split_run
from ojd_daps_language_models.resume import launch

alive.FIRST_SIGN = 0.2


class MLMFlow(FlowSpec):
    """Start, read, train, evaluate."""

    how = Parameter("how", default="well")
    data = Parameter("data", default="/home/somebody/adverts.csv")

    @measured(reads_input=True)
    @step
    def start(self):
        """Know what a run is made from."""
        self.origin = "run:MLMFlow/7"
        self.code = {"revision": "0123456789ab-dirty"}
        if self.how == "refused at once":
            split_run("nonsense")
        self.next(self.load)

    @measured(reads_input=True)
    @step
    def load(self):
        """Read what cannot be used, if told to."""
        if self.how == "refused":
            split_run("nonsense")
        self.next(self.train)

    @card(type="blank")
    @measured
    @step
    def train(self):
        """Fail, or be killed, if told to."""
        current.card.append(Markdown("# Curves"))
        if not Path("mended").exists():
            if self.how == "failing":
                raise RuntimeError("no *good*")
            if self.how in ("killed", "left alone"):
                stored = f"mf.cards/*/runs/{current.run_id}/steps/train/**/*.html"
                while not list(Path(".metaflow").glob(stored)):
                    time.sleep(0.1)
                if self.how == "killed":
                    os.kill(os.getpid(), signal.SIGKILL)
                # The run is left by its launcher, and can say nothing more.
                os.kill(os.getppid(), signal.SIGKILL)
                os.kill(os.getpid(), signal.SIGKILL)
        self.next(self.evaluate)

    @card(type="blank")
    @measured
    @step
    def evaluate(self):
        """Give itself a score, and report."""
        score = {"after": {"value": 12.25, "low": 12.0, "high": 12.5}}
        self.metrics = {"scores": {"words": {"perplexity": score}}}
        with alive.unfailing_card():
            current.card.append(Markdown("# Report"))
            if self.how == "card":
                raise KeyError("scores")
        self.next(self.end)

    @measured
    @step
    def end(self):
        """Be done."""


if __name__ == "__main__":
    launch(MLMFlow)
