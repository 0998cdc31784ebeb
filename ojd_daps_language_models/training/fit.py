"""What every fine-tuning shares: arguments, precision, log and progress."""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import TrainerCallback, TrainingArguments

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


def set_dropout(model: torch.nn.Module, share: float | None) -> None:
    """Set all dropout of a model for this training; its saved config keeps its own."""
    for module in model.modules():
        if share is not None and isinstance(module, torch.nn.Dropout):
            module.p = share


def training_arguments(
    config: Training, epochs: int, seed: int, folder: Path
) -> TrainingArguments:
    """Arguments for a Trainer: scored after each epoch, the best one is kept.

    Args:
        folder: for the Trainer's files; needs room for two copies of the model.
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
        metric_for_best_model="eval_loss",
        prediction_loss_only=True,
        logging_steps=0.02,  # fifty points on the curve, however long it takes
        disable_tqdm=True,
        report_to="none",
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    # DataParallel would scatter places and labels as if they were rows of the batch.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


class TrainingLog(TrainerCallback):
    """Keep what the Trainer reports and show how far it is.

    `rows` has a dict for each report: step, epoch, seconds, and `loss` or
    `validation_loss`.
    """

    def __init__(self, on_row: Callable[[list[dict], int], None] | None = None):
        self.rows: list[dict] = []
        self._on_row = on_row or (lambda rows, steps: None)

    def on_train_begin(self, args, state, control, **kwargs):
        self._start = time.monotonic()
        self._bar = progress_bar("training", "step", state.max_steps)

    def on_step_end(self, args, state, control, **kwargs):
        self._bar.update(1)

    def on_log(self, args, state, control, logs=None, **kwargs):
        names = {"loss": "loss", "eval_loss": "validation_loss"}
        found = {names[key]: value for key, value in logs.items() if key in names}
        if not found:
            return
        seconds = round(time.monotonic() - self._start, 1)
        row = {"step": state.global_step, "epoch": state.epoch, "seconds": seconds}
        self.rows.append({**row, **found})
        self._bar.set_postfix({k: f"{v:.3f}" for k, v in found.items()}, refresh=False)
        self._on_row(self.rows, state.max_steps)

    def on_train_end(self, args, state, control, **kwargs):
        self._bar.close()
