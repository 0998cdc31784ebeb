"""What each part of our training is worth: the same training with and without it.

    python benchmarks/training_parts.py [--steps 6] [--repetitions 3]

Masked language modelling and a classifier of sentences, on the samples. The peer is our
own training with this one part left out; repetitions alternate, and each ratio is taken
within one. Speeds are real tokens per second, padding not counted; losses are on
held-out texts after as many steps.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the flow does

import argparse
import gzip
import json
import random
import statistics
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from unittest.mock import patch

import numpy as np
import torch
from classification_training import LABELS, read, take
from results import report
from shapes import SHAPES, get_encoder
from torch.utils.data import RandomSampler
from trainers import AnyStretch, Counted, train_timed, training_settings
from transformers import AutoTokenizer, TrainingArguments

from ojd_daps_language_models.getters.storage import sample_path
from ojd_daps_language_models.preprocessing.packing import (
    count_tokens,
    encode,
    encode_inputs,
    load_tokenizer,
    pack,
)
from ojd_daps_language_models.training import classification, fit, masked_lm
from ojd_daps_language_models.training.classification import (
    Sequences,
    SequenceTrainer,
    load_classifier,
    score_sequences,
)
from ojd_daps_language_models.training.masked_lm import (
    MaskedBlocks,
    MaskedLMTrainer,
    load_masked_lm,
    model_inputs,
    score_hidden_tokens,
)
from ojd_daps_language_models.training.masking import vocabulary_of

WIDTH = 128
HELD_OUT = 60  # adverts, and four times as many sentences, of which the losses are
MLM_PARTS = {
    "head": "logits at hidden positions only",
    "packing": "adverts packed into blocks",
    "bf16": "bf16",
    "attention": "attention in fp32 on a processor",
    "fused": "fused AdamW",
    "memory": "freed memory kept",
    "shapes": "few shapes of input",
}
CLASSIFIER_PARTS = {
    "grouping": "batches of like lengths",
    "bf16": "bf16",
    "attention": "attention in fp32 on a processor",
    "dropout": "no dropout",
    "frozen": "word embeddings that stay",
    "fused": "fused AdamW",
    "memory": "freed memory kept",
    "shapes": "few shapes of input",
}
# What takes a part away while a model is trained.
UNDO = {
    "memory": [patch.object(fit, "keeping_memory", nullcontext)],
    "shapes": [
        patch.object(masked_lm, "HEAD_ROWS", 1),
        patch.object(classification, "padded_width", lambda longest, most: longest),
    ],
}
Run = Callable[[str | None, int, bool], tuple[float, float | None]]


class EveryPosition(MaskedLMTrainer):
    """Logits at all positions, of which those at hidden ones make the loss."""

    def compute_loss(
        self, model, inputs, return_outputs=False, num_items_in_batch=None
    ):
        logits = model(**model_inputs(inputs)).logits.flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(
            logits[inputs["places"]].float(), inputs["labels"]
        )
        return (loss, {"logits": logits}) if return_outputs else loss


class AnyOrder(SequenceTrainer):
    """Batches of whatever lengths."""

    def _get_train_sampler(self, train_dataset=None):
        return RandomSampler(train_dataset or self.train_dataset)


def settings(
    out: str, without: str | None, steps: int, learning_rate: float
) -> TrainingArguments:
    kind = "fp32" if without == "bf16" else "ours"
    found = training_settings(out, kind, steps, learning_rate)
    found.optim = "adamw_torch" if without == "fused" else "adamw_torch_fused"
    return found


def speed_of(trainer, collate: Counted, without: str | None) -> float:
    """Train; real tokens per second."""
    with ExitStack() as undone:
        for changed in UNDO.get(without, ()):
            undone.enter_context(changed)
        return train_timed(trainer, collate)


def mlm(encoder: str) -> Run:
    """A function from the part left out, or None, steps, and whether to score, to speed
    and loss.
    """
    with gzip.open(sample_path("mlm"), "rt") as file:
        texts = [text for line in file if (text := json.loads(line)["text"])]
    random.Random(0).shuffle(texts)
    folder = get_encoder(encoder)
    tokenizer = load_tokenizer(folder)
    test, train = (
        encode(some, tokenizer) for some in (texts[:HELD_OUT], texts[HELD_OUT:])
    )
    hidden = (vocabulary_of(AutoTokenizer.from_pretrained(folder)), 0.15, False)
    counts = count_tokens(train.ids, tokenizer.get_vocab_size())
    frozen = MaskedBlocks(pack(test, WIDTH, 0), *hidden, 0, frozen_seed=0)

    def run(without: str | None, steps: int, score: bool) -> tuple[float, float | None]:
        model, _ = load_masked_lm(folder, 0, lambda: counts)
        fit.set_dropout(model, 0.0)
        if without == "attention":
            model.set_attn_implementation("sdpa")
        apart = without == "packing"
        blocks = pack(train, WIDTH, 0, separate=apart)
        dataset = MaskedBlocks(blocks, *hidden, None if apart else 0)
        kind = EveryPosition if without == "head" else MaskedLMTrainer
        collate = Counted(real=lambda batch: (batch["adverts"] >= 0).sum())
        with tempfile.TemporaryDirectory() as out:
            asked = settings(out, without, steps, 5e-4)
            speed = speed_of(kind(model, asked, collate, dataset), collate, without)
        if not score:
            return speed, None
        scores = score_hidden_tokens(model, frozen, 16, bf16=False)
        return speed, float(scores["losses"].mean())

    return run


def classifier(encoder: str) -> Run:
    """As `mlm`, of a classifier of sentences."""
    folder = get_encoder(encoder)
    texts, labels = read(None)
    inputs = encode_inputs(texts, load_tokenizer(folder), 512)
    order = np.random.default_rng(0).permutation(len(labels))
    test, train = (
        Sequences(take(inputs, rows), labels[rows], folder)
        for rows in np.split(order, [4 * HELD_OUT])
    )

    def run(without: str | None, steps: int, score: bool) -> tuple[float, float | None]:
        model, _ = load_classifier(folder, LABELS, 0)
        if without == "attention":
            model.set_attn_implementation("sdpa")
        if without != "dropout":
            fit.set_dropout(model, 0.0)
        if without != "frozen":
            model.get_input_embeddings().weight.requires_grad_(False)
        kind = AnyOrder if without == "grouping" else AnyStretch
        collate = Counted()
        with tempfile.TemporaryDirectory() as out:
            asked = settings(out, without, steps, 5e-5)
            speed = speed_of(kind(model, asked, collate, train), collate, without)
        if not score:
            return speed, None
        logits = torch.from_numpy(score_sequences(model, test, 64, "fp32"))
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(test.labels))
        return speed, loss.item()

    return run


def compare(
    run: Run, parts: dict[str, str], what: str, steps: int, repetitions: int
) -> None:
    """Report what each part is worth."""
    for part, name in parts.items():
        run(part, 2, False)  # oneDNN makes a program for each shape when it first comes
        found = [
            tuple(run(way, steps, n == 0) for way in (None, part))
            for n in range(repetitions)
        ]
        ours, others = zip(*found, strict=True)
        speeds, losses = zip(*ours, strict=True)
        slower, losses_without = zip(*others, strict=True)
        report(
            f"real tokens/s of {what}: {name}",
            "ours without it",
            [one / other for one, other in zip(speeds, slower, strict=True)],
            f"{statistics.median(speeds):,.0f} tokens/s; loss after {steps} steps "
            f"{losses[0]:.3f} against {losses_without[0]:.3f}",
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=6, help="per repetition")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--encoder", choices=SHAPES, default="embedded")
    arguments = parser.parse_args()
    often = arguments.steps, arguments.repetitions
    compare(mlm(arguments.encoder), MLM_PARTS, "masked language modelling", *often)
    compare(classifier(arguments.encoder), CLASSIFIER_PARTS, "a classifier", *often)


if __name__ == "__main__":
    main()
