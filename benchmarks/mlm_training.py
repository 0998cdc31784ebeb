"""Masked language modelling: tokens per second against the plain Trainer.

    python benchmarks/mlm_training.py [--data adverts.jsonl]

Peers: transformers' Trainer as its own example uses it, on the same blocks, the same
weights, batch size and steps, with `DataCollatorForLanguageModeling` and logits at
every position; once at its defaults (fp32) and once with `bf16=True`. Repetitions
alternate, and each ratio is taken within one repetition. The losses after the same
number of tokens are shown beside the speed: a faster way that learns less is no gain.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the flow does

import argparse
import gzip
import json
import random
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
import torch
from results import report
from shapes import SHAPES, get_encoder
from trainers import Counted, alternate, train_timed, training_settings
from transformers import (
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
)

from ojd_daps_language_models.getters.storage import sample_path
from ojd_daps_language_models.preprocessing.packing import (
    Blocks,
    count_tokens,
    encode,
    load_tokenizer,
)
from ojd_daps_language_models.training.fit import has_bf16, set_dropout
from ojd_daps_language_models.training.masked_lm import (
    MaskedBlocks,
    MaskedLMTrainer,
    load_masked_lm,
    score_hidden_tokens,
)
from ojd_daps_language_models.training.masking import vocabulary_of
from ojd_daps_language_models.training.utilisation import (
    flop_per_token,
    matrix_ceiling,
)

HELD_OUT = 64  # blocks


class Ids(torch.utils.data.Dataset):
    """Blocks as the plain Trainer reads them."""

    def __init__(self, ids):
        self.ids = ids.astype(np.int64)

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, row):
        return {"input_ids": self.ids[row]}


def every_token(batch) -> int:
    """Of blocks, which have no padding."""
    return batch["input_ids"].numel()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="JSON Lines with a column `text`")
    parser.add_argument("--steps", type=int, default=7, help="per repetition")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--loss-steps", type=int, default=40)
    parser.add_argument("--encoder", choices=SHAPES, default="embedded")
    parser.add_argument("--block-size", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument(
        "--use-batch-size", type=int, help="for the use of the hardware; as the other"
    )
    arguments = parser.parse_args()
    width, batch_size = arguments.block_size, arguments.batch_size

    path = arguments.data or sample_path("mlm")
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt") as file:
        texts = [t for line in file if (t := json.loads(line)["text"])]
    random.Random(0).shuffle(texts)
    folder = get_encoder(arguments.encoder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = encode(texts, load_tokenizer(folder))
    full = len(tokens.ids) // width  # blocks; the plain Trainer takes no others
    test, train = (
        Blocks(tokens, starts, np.full_like(starts, width), width, 0)
        for starts in np.split(np.arange(full) * width, [HELD_OUT])
    )
    train_ids = train[:].ids
    counts = count_tokens(train_ids.reshape(-1), len(tokenizer))
    vocabulary = vocabulary_of(tokenizer)
    frozen = MaskedBlocks(test, vocabulary, 0.15, False, 0, frozen_seed=0)

    def run(
        kind: str, steps: int, score: bool = False, batch_size: int = batch_size
    ) -> tuple[float, float | None]:
        """Tokens per second of training, and the loss on held-out blocks after it."""
        model, _ = load_masked_lm(folder, 0, lambda: counts)
        with tempfile.TemporaryDirectory() as out:
            settings = training_settings(out, kind, steps, 5e-4, batch_size)
            settings.warmup_steps = 0.1
            if kind == "ours":
                set_dropout(model, 0.0)
                collate = Counted(real=every_token)
                dataset = MaskedBlocks(train, vocabulary, 0.15, False, 0)
                trainer = MaskedLMTrainer(model, settings, collate, dataset)
            else:
                hide = DataCollatorForLanguageModeling(tokenizer)
                collate = Counted(hide, every_token)
                trainer = Trainer(model, settings, collate, Ids(train_ids))
            speed = train_timed(trainer, collate)
        loss = None
        if score:
            scores = score_hidden_tokens(model, frozen, batch_size, bf16=False)
            loss = float(scores["losses"].mean())
        return speed, loss

    print(f"{len(train)} blocks of {width} tokens, {torch.get_num_threads()} threads")
    what = "tokens/s of masked language modelling"
    alternate(run, what, arguments, arguments.loss_steps)
    model, _ = load_masked_lm(folder, 0, lambda: counts)
    flop = flop_per_token(model, [width], 0.15)
    dtype = torch.bfloat16 if has_bf16() else torch.float32
    size = 8192 if torch.cuda.is_available() else 2048
    blocks = arguments.use_batch_size or batch_size
    achieved, peak = [], []
    for _ in range(arguments.repetitions):
        speed, _ = run("ours", arguments.steps, batch_size=blocks)
        achieved.append(speed * flop / 1e9)
        peak.append(matrix_ceiling(model.device, dtype, size, 3) / 1e9)
    report(
        f"use of the hardware by masked language modelling, {blocks} blocks a step",
        "one large matrix product on this machine",
        [100 * own / most for own, most in zip(achieved, peak, strict=True)],
        f"{median(achieved):,.0f} of {median(peak):,.0f} GFLOP/s",
        unit="%",
    )


if __name__ == "__main__":
    main()
