"""Classifying sentences: real tokens per second against the plain Trainer.

    python benchmarks/classification_training.py [--data train.json]

Peers: transformers' Trainer at its defaults, as its text classification example uses
it: random order, each batch padded to its longest, fp32; and the same with `bf16=True`.
All get the same sentences, labels, weights, head, batch size, learning rate and number
of steps. Repetitions alternate, and each ratio is taken within one. The loss on
held-out sentences after as many epochs is shown beside the speed: a faster way that
learns less is no gain.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the flow does

import argparse
import gzip
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from results import report
from shapes import SHAPES, get_encoder
from transformers import (
    AutoTokenizer,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)

from ojd_daps_language_models.getters.storage import sample_path
from ojd_daps_language_models.preprocessing.packing import (
    Inputs,
    encode_inputs,
    load_tokenizer,
)
from ojd_daps_language_models.training.classification import (
    Sequences,
    SequenceTrainer,
    load_classifier,
    score_sequences,
)
from ojd_daps_language_models.training.fit import has_bf16, set_dropout

LABELS = ("no", "yes")
BATCH = 16


class Plain(torch.utils.data.Dataset):
    """Sentences as the plain Trainer reads them, one by one."""

    def __init__(self, sequences: Sequences):
        self.rows = [
            {name: values[0] for name, values in sequences.__getitems__([row]).items()}
            for row in range(len(sequences))
        ]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, row):
        return self.rows[row]


def read(path: Path | None) -> tuple[list[str], np.ndarray]:
    """Sentences and labels: of the sample, or whether SkillSpan's hold a skill."""
    path = path or sample_path("company_descriptions")
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt") as file:
        rows = [json.loads(line) for line in file]
    if "tokens" in rows[0]:
        texts = [" ".join(row["tokens"]) for row in rows]
        labels = [any(tag != "O" for tag in row["tags_skill"]) for row in rows]
    else:
        rows = [row for row in rows if row["sentence"] and row["label"] in (0, 1)]
        texts = [row["sentence"] for row in rows]
        labels = [row["label"] for row in rows]
    return texts, np.array(labels, int)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="SkillSpan's JSON Lines")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60, help="of each repetition")
    parser.add_argument("--loss-steps", type=int, help="before the loss; an epoch")
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--encoder", choices=SHAPES, default="embedded")
    arguments = parser.parse_args()

    folder = get_encoder(arguments.encoder)
    texts, labels = read(arguments.data)
    inputs = encode_inputs(texts, load_tokenizer(folder), arguments.max_length)
    order = np.random.default_rng(0).permutation(len(labels))
    train, test = (
        Sequences(take(inputs, rows), labels[rows], folder)
        for rows in (order[len(order) // 5 :], order[: len(order) // 5])
    )
    plain = Plain(train)
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def run(kind: str, steps: int, score: bool = False) -> tuple[float, float | None]:
        """Real tokens per second of training, and the loss on held-out sentences."""
        model, _ = load_classifier(folder, LABELS, 0)
        count = Counted()
        with tempfile.TemporaryDirectory() as out:
            settings = training_settings(out, kind, steps, arguments.learning_rate)
            if kind == "ours":
                set_dropout(model, 0.0)
                model.get_input_embeddings().weight.requires_grad_(False)
                trainer = SequenceTrainer(model, settings, count, train)
            else:
                collator = DataCollatorWithPadding(tokenizer)
                trainer = Trainer(
                    model, settings, lambda rows: count(collator(rows)), plain
                )
            trainer.remove_callback(PrinterCallback)
            start = time.perf_counter()
            trainer.train()
            speed = count.tokens / (time.perf_counter() - start)
        loss = None
        if score:
            logits = torch.from_numpy(score_sequences(model, test, 64, "fp32"))
            loss = torch.nn.functional.cross_entropy(
                logits, torch.from_numpy(test.labels)
            ).item()
        return speed, loss

    compare(run, arguments, train, len(test), "sentences", "a classifier of sentences")


def training_settings(
    out: str, kind: str, steps: int, learning_rate: float
) -> TrainingArguments:
    """What all three have in common, and bf16 for all but the first."""
    return TrainingArguments(
        output_dir=out,
        max_steps=steps,
        per_device_train_batch_size=BATCH,
        learning_rate=learning_rate,
        bf16="fp32" not in kind and has_bf16(),
        use_cpu=not torch.cuda.is_available(),
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
    )


def compare(
    run, arguments, train: Sequences, held_out: int, unit: str, model: str
) -> None:
    """Alternate the three ways of training, and print speeds, ratios and losses.

    Args:
        run: from kind, steps and whether to score to tokens per second and loss.
        arguments: with `repetitions`, `steps`, and `loss_steps`, None for an epoch.
        train: that they are trained on.
        held_out: number of what the loss is of.
        unit: what these are called.
        model: that is trained.
    """
    kinds = ["plain Trainer, fp32", "plain Trainer, bf16", "ours"]
    for kind in kinds:
        run(kind, 2)
    speeds = {kind: [] for kind in kinds}
    for _ in range(arguments.repetitions):
        for kind in kinds:
            speeds[kind].append(run(kind, arguments.steps)[0])
    steps = arguments.loss_steps or -(-len(train) // BATCH)
    losses = {kind: run(kind, steps, score=True)[1] for kind in kinds}

    lengths = train.inputs.lengths
    print(
        f"\n{len(train):,} {unit} of {lengths.mean():.1f} tokens (the longest "
        f"{lengths.max()}), batches of {BATCH}, {torch.get_num_threads()} threads; "
        f"loss on {held_out:,} others after {steps} steps"
    )
    report_speeds(f"real tokens/s of training {model}", speeds, losses, steps)


def report_speeds(
    what: str, speeds: dict[str, list[float]], losses: dict[str, float], steps: int
) -> None:
    """Report ours against all other kinds of training."""
    for kind, others in speeds.items():
        if kind != "ours":
            ratios = [a / b for a, b in zip(speeds["ours"], others, strict=True)]
            note = (
                f"{statistics.median(speeds['ours']):,.0f} against "
                f"{statistics.median(others):,.0f}; loss after {steps} steps "
                f"{losses['ours']:.3f} against {losses[kind]:.3f}"
            )
            report(what, kind, ratios, note)


class Counted:
    """Counts the real tokens of batches that pass."""

    def __init__(self):
        self.tokens = 0

    def __call__(self, batch):
        self.tokens += int(batch["attention_mask"].sum())
        return batch


def take(inputs: Inputs, rows: np.ndarray) -> Inputs:
    """Some of the inputs, in the order given."""
    starts = np.cumsum(inputs.lengths) - inputs.lengths
    ids = [
        inputs.ids[start : start + length]
        for start, length in zip(starts[rows], inputs.lengths[rows], strict=True)
    ]
    return Inputs(np.concatenate(ids), *(column[rows] for column in inputs[1:]))


if __name__ == "__main__":
    main()
