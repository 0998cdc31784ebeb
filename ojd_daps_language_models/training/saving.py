"""Save a training while it goes on, and go on with one that was cut off."""

import dataclasses
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import Trainer, TrainerCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import SAFE_WEIGHTS_NAME

from ojd_daps_language_models.training.checkpoints import (
    TrainingCheckpoints,
    checkpoint_name,
)
from ojd_daps_language_models.training.collective import (
    any_of,
    from_first,
    gather,
    rank,
    wait_for_all,
)
from ojd_daps_language_models.training.processes import STOPPED
from ojd_daps_language_models.training.states import State, read_state, save_state

KEPT = 2  # checkpoints of a training
COST = 0.025  # share of the time of a training that saving may take
FIRST_SPEED = 300e6  # bytes per second, believed until a checkpoint was timed


def train_with_checkpoints(
    trainer: Trainer, log: Any, checkpoints: TrainingCheckpoints, key: str
) -> None:
    """Train, from the newest checkpoint of this very training on, and save it.

    One that had come to its end is not trained again. On SIGTERM, which is what a
    machine that is taken away sends, the training is saved and the process ends; a
    second one ends it at once.

    Args:
        trainer: that scores after each epoch and keeps the best one.
        log: its `TrainingLog`.
        key: of `TrainingCheckpoints.key`.

    Raises:
        SystemExit: after SIGTERM.
    """
    saver = Saver(trainer, log, checkpoints, key)
    trainer.add_callback(saver)
    with _on_sigterm(saver.stop):
        trainer.train(resume_from_checkpoint=saver.restore())
    if saver.is_stopping:  # it came after the last occasion to save
        signal.raise_signal(signal.SIGTERM)


class Saver(TrainerCallback):
    """Keep the last checkpoints of a training.

    One is due after each evaluation, and where the next step and saving after it would
    end so late that a kill just then cost more than some minutes. All of them together
    take no more than `COST` of the time. Where several processes train, all go on from
    the same step, and what one of them wants to save for, the first one saves.

    Args:
        trainer: that this is a callback of.
        log: its `TrainingLog`.
        checkpoints: where they are kept.
        key: of the training.
    """

    def __init__(
        self, trainer: Trainer, log: Any, checkpoints: TrainingCheckpoints, key: str
    ):
        self.is_stopping = False
        self._all_stop = False  # as agreed with the other processes
        self._trainer, self._log, self._key = trainer, log, key
        self._checkpoints, self._notice = checkpoints, checkpoints.notice
        self._saved: list[int] = []  # steps
        self._restored: State | None = None
        self._scored: int | None = None  # step of the last evaluation
        self._spent, self._cost = 0.0, None  # seconds of all and of one
        self._step_began, self._step_seconds = 0.0, 0.0  # of the last one

    def stop(self) -> None:
        """Let the training be saved and the process end as soon as can be."""
        self.is_stopping = True

    def restore(self) -> str | None:
        """The Trainer's folder to go on from; None where nothing was saved."""
        saved = self._checkpoints.steps()
        self._saved = saved.get(self._key, [])
        self._restored = self._newest()
        if self._restored is None:
            name = self._key.rpartition("-")[0]
            if any(key.rpartition("-")[0] == name for key in saved):
                print(f"no checkpoint of this training: {self._log.name} begins anew")
            return None
        tensors, rest = self._restored
        state, best = rest["state"], rest["state"]["best_global_step"]
        step, steps = state["global_step"], state["max_steps"]
        print(f"{self._log.name} goes on from step {step} of {steps}")
        self._log.go_on(rest["log"])
        weights = _part(tensors, "model.")
        if best:
            folder = self._folder(best)
            state["best_model_checkpoint"] = str(folder)
            _save_weights(_part(tensors, "best.") or weights, folder)
        folder = self._folder(step)
        _save_weights(weights, folder)
        (folder / TRAINER_STATE_NAME).write_text(json.dumps(state), encoding="utf-8")
        return str(folder)

    def on_train_begin(self, args, state, control, **kwargs):
        self._began = self._last = time.monotonic()
        if self._restored is None:
            return
        tensors, rest = self._restored
        if "optimizer" in rest:
            kwargs["optimizer"].load_state_dict(
                _join_optimizer(_part(tensors, "optimizer."), rest["optimizer"])
            )
            kwargs["lr_scheduler"].load_state_dict(rest["scheduler"])
        # What was not logged yet, so that the next mean is over all of its steps.
        self._trainer._tr_loss += rest["losses"][rank()]
        self._trainer._globalstep_last_logged = rest["logged"]
        self._cost = rest["cost"]
        if rest["is_scored"]:
            self._scored = state.global_step
        else:
            control.should_evaluate = control.should_save = True
            self._trainer._maybe_log_save_evaluate(
                tr_loss=self._trainer._tr_loss,
                grad_norm=None,
                model=self._trainer.model,
                trial=None,
                epoch=state.epoch,
                ignore_keys_for_eval=None,
                start_time=0,
            )

    def on_step_begin(self, args, state, control, **kwargs):
        if self._restored is not None:
            # Not before: to fetch the first batch draws numbers as well. An epoch's
            # first step needs nothing, see `EpochOrder`.
            if not self._ends_epoch(state):
                _set_generators(self._restored.tensors)
            self._restored = None
        elif self._is_due(60 * self._checkpoints.minutes):
            self._save(state)
        self._step_began = time.monotonic()

    def on_step_end(self, args, state, control, **kwargs):
        self._step_seconds = time.monotonic() - self._step_began

    def on_epoch_end(self, args, state, control, **kwargs):
        if self._is_urgent():  # to score may take longer than there is
            self._save(state)

    def on_prediction_step(self, args, state, control, **kwargs):
        if self._is_urgent():
            self._save(state)

    def on_evaluate(self, args, state, control, **kwargs):
        self._scored = state.global_step

    def on_save(self, args, state, control, **kwargs):
        if self._is_due(0):
            self._save(state)

    def _is_urgent(self) -> bool:
        return self._agree(self._is_noticed())

    def _is_due(self, wait: float) -> bool:
        """Whether to save now: urgently, or so that no kill costs `wait` seconds."""
        return self._agree(self._is_noticed() or self._is_affordable(wait))

    def _agree(self, is_due: bool) -> bool:
        """Whether any process has to save."""
        self._all_stop, is_due = any_of(self.is_stopping, is_due)
        return self._all_stop or is_due

    def _is_noticed(self) -> bool:
        return bool(self._notice and self._notice.exists())

    def _is_affordable(self, wait: float) -> bool:
        if rank():  # by the clock of the first process
            return False
        now, cost = time.monotonic(), self._cost
        if cost is None:
            weights = self._trainer.model.parameters()
            size = sum(w.nbytes * (3 if w.requires_grad else 1) for w in weights)
            cost = size / FIRST_SPEED
        if now + self._step_seconds + cost - self._last < wait:
            return False
        return self._spent + cost <= COST * (now - self._began)

    def _save(self, state: TrainerState) -> None:
        """Save, and end the process if that was asked for."""
        start = time.monotonic()
        own = gather((self._trainer._tr_loss.item(), _generators()))
        if not rank():
            self._write(state, *zip(*own, strict=True))
        wait_for_all()
        self._last, self._cost = start, time.monotonic() - start
        self._spent += self._cost
        last = self._saved[-1] if self._saved else 0
        if self._all_stop:
            print(
                f"stopped by SIGTERM: {self._log.name} goes on from step {last} of "
                f"{state.max_steps} when the run is resumed or tried again"
            )
            raise SystemExit(STOPPED)
        if self._is_noticed():
            print(f"the machine is about to be taken away; saved: step {last}")
            self._notice = None

    def _write(self, state: TrainerState, losses, generators) -> None:
        store, step = self._checkpoints.store, state.global_step
        try:
            if step:
                content = self._state(state, losses, generators)
                save_state(store, self._name(step), content)
                self._saved = [*(s for s in self._saved if s != step), step]
            while len(self._saved) > KEPT:
                store.delete(self._name(self._saved.pop(0)))
        except OSError as error:
            # Training goes well without: only to lose the machine costs more now.
            print(f"checkpoint of step {step}: {error}")

    def _state(self, state: TrainerState, losses, generators) -> State:
        """All that is to be saved; `losses` and `generators` are of each process."""
        trainer, step = self._trainer, state.global_step
        is_scored = not self._ends_epoch(state) or self._scored == step
        tensors = _named("model.", trainer.model.state_dict())
        rest = {
            "state": dataclasses.asdict(state),
            "log": self._log.state(),
            "losses": losses,
            "logged": trainer._globalstep_last_logged,
            "is_scored": is_scored,
            "cost": self._cost,
        }
        if state.best_global_step not in (None, step):
            best = self._folder(state.best_global_step) / SAFE_WEIGHTS_NAME
            tensors |= _named("best.", load_file(best))
        if step < state.max_steps:
            optimizer = trainer.optimizer.state_dict()
            for number, values in optimizer["state"].items():
                tensors |= _named(f"optimizer.{number}.", values)
            for number, found in enumerate(generators):
                tensors |= _named(f"generator.{number}.", found)
            rest["optimizer"] = optimizer["param_groups"]
            rest["scheduler"] = trainer.lr_scheduler.state_dict()
        return State(tensors, rest)

    def _newest(self) -> State | None:
        """The last state that is whole, as the first process found it."""
        found = None if rank() else self._read_newest()
        step = from_first(found and found.rest["state"]["global_step"])
        if rank() and step is not None:
            found = read_state(self._checkpoints.store, self._name(step))
        return found

    def _read_newest(self) -> State | None:
        """Says so where one is not whole."""
        for step in reversed(self._saved):
            try:
                return read_state(self._checkpoints.store, self._name(step))
            except (FileNotFoundError, ValueError) as error:
                print(f"checkpoint of step {step} left out: {error}")
        return None

    def _name(self, step: int) -> str:
        return checkpoint_name(self._key, step)

    def _folder(self, step: int) -> Path:
        """Where the Trainer keeps a step."""
        name = f"{PREFIX_CHECKPOINT_DIR}-{step}"
        return Path(self._trainer.args.output_dir) / name

    def _ends_epoch(self, state: TrainerState) -> bool:
        return state.global_step % (state.max_steps // state.num_train_epochs) == 0


@contextmanager
def _on_sigterm(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on the first SIGTERM; only the main thread may ask for signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(*_):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        stop()

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _generators() -> dict[str, torch.Tensor]:
    found = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        found["cuda"] = torch.cuda.get_rng_state()
    return found


def _set_generators(tensors: dict[str, torch.Tensor]) -> None:
    own = _part(tensors, f"generator.{rank()}.")
    torch.set_rng_state(own["cpu"])
    if torch.cuda.is_available() and "cuda" in own:
        torch.cuda.set_rng_state(own["cuda"])


def _join_optimizer(
    tensors: dict[str, torch.Tensor], groups: list[dict]
) -> dict[str, Any]:
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, kind = name.partition(".")
        state.setdefault(int(number), {})[kind] = tensor
    return {"state": state, "param_groups": groups}


def _save_weights(tensors: dict[str, torch.Tensor], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / SAFE_WEIGHTS_NAME)


def _named(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Tensors whose names begin so, by the rest of their names."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
