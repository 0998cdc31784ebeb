"""What every fine-tuning shares: arguments, precision, log and progress."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, TrainerCallback, TrainingArguments
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.utils import logging

from ojd_daps_language_models.configs import Training
from ojd_daps_language_models.progress import progress_bar


def has_bf16() -> bool:
    """Whether this machine multiplies bfloat16 matrices in hardware."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def uses_bf16(precision: str) -> bool:
    """Resolve `training.precision` on this machine: without hardware, bf16 is slow."""
    if precision == "bf16" and not has_bf16():
        print("precision: fp32, for this machine has no bf16")
    return precision != "fp32" and has_bf16()


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
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), missing


def group_by_length(
    arguments: TrainingArguments, lengths: list[int]
) -> LengthGroupedSampler:
    """Batches of inputs of like lengths, in random order, so that little is padded."""
    return LengthGroupedSampler(
        arguments.train_batch_size * arguments.gradient_accumulation_steps,
        lengths=lengths,
    )


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
    config: Training, epochs: int, seed: int, folder: Path, best_by: str = "loss"
) -> TrainingArguments:
    """Arguments for a Trainer: scored after each epoch, the best one is kept.

    Args:
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
        bf16=uses_bf16(config.precision),
        use_cpu=not torch.cuda.is_available(),
        seed=seed,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_only_model=True,
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model=f"eval_{best_by}",
        prediction_loss_only=best_by == "loss",
        logging_steps=0.02,  # fifty points on the curve, however long it takes
        disable_tqdm=True,
        report_to="none",
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    # DataParallel would scatter places and labels as if they were rows of the batch.
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
        self._on_row = on_row or (lambda rows, steps: None)
        self._marks = marks

    def on_train_begin(self, args, state, control, **kwargs):
        self._start = time.monotonic()
        label = ", ".join(f"{name} {value}" for name, value in self._marks.items())
        label = f"training ({label})" if label else "training"
        self._bar = progress_bar(label, "step", state.max_steps)

    def on_step_end(self, args, state, control, **kwargs):
        self._bar.update(1)

    def on_log(self, args, state, control, logs=None, **kwargs):
        found = {LOGGED[key]: value for key, value in logs.items() if key in LOGGED}
        if not found:
            return
        seconds = round(time.monotonic() - self._start, 1)
        row = {"step": state.global_step, "epoch": state.epoch, "seconds": seconds}
        self.rows.append({**self._marks, **row, **found})
        self._bar.set_postfix({k: f"{v:.3f}" for k, v in found.items()}, refresh=False)
        self._on_row(self.rows, state.max_steps)

    def on_train_end(self, args, state, control, **kwargs):
        self._bar.close()
