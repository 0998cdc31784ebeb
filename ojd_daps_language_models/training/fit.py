"""What every fine-tuning shares: arguments, precision, log and progress."""

import math
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.data_loader import prepare_data_loader
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.utils import logging

from ojd_daps_language_models.configs import Training
from ojd_daps_language_models.progress import progress_bar
from ojd_daps_language_models.stores import PART, is_cut_off
from ojd_daps_language_models.training.attention import choose_attention
from ojd_daps_language_models.training.checkpoints import TrainingCheckpoints
from ojd_daps_language_models.training.collective import count, rank, take_from_first
from ojd_daps_language_models.training.memory import keeping_memory
from ojd_daps_language_models.training.saving import train_with_checkpoints
from ojd_daps_language_models.training.utilisation import Utilisation


def has_bf16() -> bool:
    """Whether this machine multiplies bfloat16 matrices in hardware."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def uses_bf16(precision: str, model: torch.nn.Module) -> bool:
    """Resolve `training.precision` for a model on this machine: without hardware, bf16
    is slow, and DeBERTa's first version masks with a number that bf16 has not."""
    why = "" if has_bf16() else "this machine has no bf16"
    configs = (getattr(module, "config", None) for module in model.modules())
    if "deberta" in {getattr(config, "model_type", None) for config in configs}:
        why = "this model, DeBERTa's first version, cannot attend in bf16"
    if precision == "bf16" and why:
        print(f"precision: fp32, for {why}")
    return precision != "fp32" and not why


def load_quietly(
    auto_class: type, folder: Path, **settings
) -> tuple[PreTrainedModel, set[str]]:
    """A model in fp32 on the GPU where there is one, and which weights are new.

    Args:
        auto_class: of transformers, such as `AutoModelForMaskedLM`.
        folder: what `save_pretrained` wrote.
        settings: for its `from_pretrained`.

    Raises:
        ValueError: weights of the encoder itself are missing.
    """
    logging.set_verbosity_error()  # a new head is ours to report, not to warn of
    logging.disable_progress_bar()
    model, loading = auto_class.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True, **settings
    )
    missing = set(loading["missing_keys"])
    missing |= {key for key, *_ in loading["mismatched_keys"]}
    encoder = f"{model.base_model_prefix}."
    lost = sorted(
        key for key in missing if key.startswith(encoder) and "pooler" not in key
    )
    if lost:
        raise ValueError(
            f"{folder}: {len(lost)} weights of the encoder are missing, such as "
            f"{lost[0]}; expected a complete checkpoint"
        )
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    choose_attention(model)
    return model, missing


def group_by_length(
    arguments: TrainingArguments, lengths: list[int]
) -> LengthGroupedSampler:
    """Batches of inputs of like lengths, so that little is padded.

    Fifty at a time are sorted, of a small set a quarter, and each such stretch goes
    from the longest batch to the shortest: in any order the sample's entities were
    learnt worse, see `benchmarks/README.md`.
    """
    return LengthGroupedSampler(size_of_step(arguments), lengths=lengths)


def size_of_step(arguments: TrainingArguments) -> int:
    """Inputs of an optimiser step, in all batches and processes."""
    batches = arguments.gradient_accumulation_steps * arguments.world_size
    return arguments.train_batch_size * batches


class EpochOrder(torch.utils.data.Sampler):
    """What another sampler draws, by the seed and the number of the epoch alone.

    All that is random in an epoch begins there, so that a training that was cut off
    reads on where it was.

    Args:
        sampler: draws from torch's generator when it begins.
        seed: of the training.
    """

    def __init__(self, sampler: torch.utils.data.Sampler, seed: int):
        self._sampler, self._seed, self._epoch = sampler, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[int]:
        seeds = np.random.SeedSequence([self._seed, self._epoch])
        set_seed(int(seeds.generate_state(1)[0]))
        return iter(self._sampler)


class SharedBatches(torch.utils.data.BatchSampler):
    """The batches of one process, where several read each input of an epoch once.

    As many come at once as there are processes, so that each step reads what as many
    batches of one process would. The last ones are shorter, and alike to within one
    input; inputs too few for them make the ones before longer.

    Args:
        sampler: draws the same in each process.
        batch_size: inputs.
        number: of this process, from 0.
        processes: how many there are.

    Raises:
        ValueError: there are fewer inputs than processes.
    """

    def __init__(
        self,
        sampler: torch.utils.data.Sampler,
        batch_size: int,
        number: int,
        processes: int,
    ):
        super().__init__(sampler, batch_size, drop_last=False)
        self._number, self._processes = number, processes
        if len(sampler) < processes:
            raise ValueError(
                f"{len(sampler)} inputs to train on, found by {processes} processes; "
                "expected one for each at least"
            )

    def __len__(self) -> int:
        whole, rest = divmod(len(self.sampler), self.batch_size * self._processes)
        return whole + (rest >= self._processes or not whole)

    def __iter__(self) -> Iterator[list[int]]:
        order = np.fromiter(self.sampler, np.int64, len(self.sampler))
        size = self.batch_size * self._processes
        for rows in np.split(order, range(size, len(self) * size, size)):
            yield np.array_split(rows, self._processes)[self._number].tolist()


class SharingTrainer(Trainer):
    """A Trainer whose processes, if there are several, share each epoch.

    Gradients are averaged over them, so that N processes take the steps of one that
    accumulates N times as many batches. That of accelerate would fill the last batches
    up with inputs that were read before.
    """

    loss_is_scaled_for_ga = False
    head_share = 0.0  # of tokens that reach the head, where it is large

    def train(self, *args, **kwargs):
        with keeping_memory():
            return super().train(*args, **kwargs)

    def get_train_dataloader(self):
        if count() == 1:
            return super().get_train_dataloader()
        batches = SharedBatches(
            self._get_train_sampler(), self._train_batch_size, rank(), count()
        )
        loader = torch.utils.data.DataLoader(
            self.train_dataset,
            batch_sampler=batches,
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )
        return prepare_data_loader(
            loader,
            self.args.device,
            num_processes=1,
            process_index=0,
            put_on_device=True,
        )

    def _save(self, output_dir=None, state_dict=None):
        # Under the model's own names, by which the best epoch is loaded again: those of
        # the checkpoint, where it has others, would be passed over without a word.
        if not isinstance(self.model, PreTrainedModel):
            super()._save(output_dir, state_dict)
        elif self.args.should_save:
            self.model.save_pretrained(output_dir, save_original_format=False)


def set_dropout(model: torch.nn.Module, share: float | None) -> None:
    """Set the dropout of a model for this training; its saved config keeps its own.

    That of attention is set to none: with it, attention is slow on CPUs.
    """
    for owner in model.modules() if share is not None else ():
        attends = type(owner).__name__.endswith("SelfAttention")
        for module in owner.children():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0 if attends else share


def training_arguments(
    model: torch.nn.Module,
    config: Training,
    epochs: int,
    seed: int,
    folder: Path,
    best_by: str = "loss",
) -> TrainingArguments:
    """Arguments for a Trainer: scored after each epoch, the best one is kept.

    Args:
        model: that is trained.
        folder: for the Trainer's files; needs room for two copies of the model.
        best_by: the lowest `loss` on validation, or the highest of another score.
    """
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=epochs,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=config.batch_size,
        gradient_accumulation_steps=config.accumulation,
        learning_rate=config.learning_rate,
        warmup_steps=config.warmup,
        weight_decay=config.weight_decay,
        bf16=uses_bf16(config.precision, model),
        use_cpu=not torch.cuda.is_available(),
        seed=seed,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_only_model=True,
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model=f"eval_{best_by}",
        prediction_loss_only=best_by == "loss",
        logging_nan_inf_filter=False,  # a training that diverges is to be seen
        logging_steps=0.02,  # fifty points on the curve, however long it takes
        disable_tqdm=True,
        report_to="none",
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    # DataParallel would scatter places and labels as if they were rows of the batch;
    # several GPUs are for several processes: see `training.processes`.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


LOGGED = {
    "loss": "loss",
    "eval_loss": "validation_loss",
    "eval_average_precision": "validation_average_precision",
    "eval_f1": "validation_f1",
    "eval_mrr": "validation_mrr",
    "eval_spearman": "validation_spearman",
}


def _ignore(rows: list[dict], steps: int) -> None:
    """What is done with rows that nobody wants."""


class TrainingLog(TrainerCallback):
    """Keep what the Trainer reports and show how far it is.

    Args:
        on_row: called with all rows so far and the number of steps.
        rows: of trainings that came before.
        marks: columns that are the same in each row, such as `seed`.

    `rows` has a dict for each report: the marks, step, epoch, seconds, and of `LOGGED`
    what was reported.
    """

    def __init__(
        self,
        on_row: Callable[[list[dict], int], None] | None = None,
        rows: list[dict] | None = None,
        **marks: Any,
    ):
        self.rows: list[dict] = [] if rows is None else rows
        self.marks = marks
        self._first = len(self.rows)
        self._on_row = on_row or _ignore
        self._before = 0.0  # seconds that the training took until it was cut off

    @property
    def name(self) -> str:
        """Of the training: `training (seed 42)`."""
        label = ", ".join(f"{name} {value}" for name, value in self.marks.items())
        return f"training ({label})" if label else "training"

    def state(self) -> dict[str, Any]:
        """What `go_on` needs, in values that JSON knows."""
        return {"rows": self.rows[self._first :], "seconds": self._seconds()}

    def go_on(self, state: dict[str, Any]) -> None:
        """Take up the log of a training that was cut off."""
        self.rows[self._first :] = state["rows"]
        self._before = state["seconds"]

    def on_train_begin(self, args, state, control, **kwargs):
        self._start = time.monotonic()
        self._bar = progress_bar(self.name, "step", state.max_steps)
        self._bar.initial = self._bar.n = state.global_step
        if self.rows[self._first :]:
            self._on_row(self.rows, state.max_steps)

    def on_step_end(self, args, state, control, **kwargs):
        self._bar.update(1)

    def on_log(self, args, state, control, logs=None, **kwargs):
        found = {LOGGED[key]: value for key, value in logs.items() if key in LOGGED}
        if not found:
            return
        for key, value in found.items():
            if not math.isfinite(value):
                raise ValueError(
                    f"{self.name}: {key} is {value} after step {state.global_step}; "
                    "the training has diverged, so training.learning_rate is too high"
                )
        seconds = round(self._seconds(), 1)
        row = {"step": state.global_step, "epoch": state.epoch, "seconds": seconds}
        self.rows.append({**self.marks, **row, **found})
        self._bar.set_postfix({k: f"{v:.3f}" for k, v in found.items()}, refresh=False)
        self._on_row(self.rows, state.max_steps)

    def on_train_end(self, args, state, control, **kwargs):
        self._bar.close()

    def _seconds(self) -> float:
        return self._before + time.monotonic() - self._start


def run_training(
    trainer_class: Callable[..., SharingTrainer],
    model: torch.nn.Module,
    config: Training,
    epochs: int,
    seed: int,
    log: TrainingLog,
    checkpoints: TrainingCheckpoints | None,
    data: Iterable[np.ndarray],
    best_by: str = "loss",
    **settings: Any,
) -> None:
    """Train a model and leave it as it was after the epoch best on validation.

    Args:
        trainer_class: of the model; gets what all have in common, and the settings.
        checkpoints: where the training is kept while it goes on; None: nowhere.
        data: all that its datasets are made of.
        best_by: see `training_arguments`.
        settings: of this class, and its datasets, which give batches as a whole.
    """
    with _temporary_folder() as folder:
        trainer = trainer_class(
            model,
            training_arguments(model, config, epochs, seed, Path(folder), best_by),
            data_collator=_as_it_is,
            callbacks=[log],
            **settings,
        )
        trainer.remove_callback(PrinterCallback)  # the log has its own lines
        if isinstance(model, PreTrainedModel):  # whose inputs have one length each
            trainer.add_callback(Utilisation(trainer, log.name))
        if checkpoints is None:
            trainer.train()
            take_from_first(model)
            return
        key = checkpoints.key(
            log.name,
            data,
            trainer=type(trainer).__name__,
            training=dict(config),
            marks=log.marks,
            epochs=epochs,
            seed=seed,
            processes=count(),
        )
        train_with_checkpoints(trainer, log, checkpoints, key)
        take_from_first(model)  # which alone kept the best epoch


def _temporary_folder() -> tempfile.TemporaryDirectory:
    """Of this training; those of trainings that were killed are removed."""
    # Process numbers say nothing about other hosts or containers that share the disk.
    prefix = f"ojd_daps_training_{platform.node()}_"
    left = Path(tempfile.gettempdir()).glob(f"{prefix}*{PART}")
    for folder in filter(is_cut_off, left):
        shutil.rmtree(folder, ignore_errors=True)
    return tempfile.TemporaryDirectory(f".{os.getpid()}{PART}", prefix)


def _as_it_is(batch):
    return batch
