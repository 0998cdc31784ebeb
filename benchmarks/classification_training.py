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
import tempfile
from pathlib import Path

import numpy as np
import torch
from shapes import SHAPES, get_encoder
from trainers import (
    BATCH,
    AnyStretch,
    Counted,
    Plain,
    alternate,
    describe,
    train_timed,
    training_settings,
)
from transformers import (
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
)

from ojd_daps_language_models.getters.storage import sample_path
from ojd_daps_language_models.preprocessing.packing import (
    Inputs,
    encode_inputs,
    load_tokenizer,
)
from ojd_daps_language_models.training.classification import (
    Sequences,
    load_classifier,
    score_sequences,
)
from ojd_daps_language_models.training.fit import set_dropout

LABELS = ("no", "yes")


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
        with tempfile.TemporaryDirectory() as out:
            settings = training_settings(out, kind, steps, arguments.learning_rate)
            if kind == "ours":
                set_dropout(model, 0.0)
                model.get_input_embeddings().weight.requires_grad_(False)
                collate = Counted()
                trainer = AnyStretch(model, settings, collate, train)
            else:
                collate = Counted(DataCollatorWithPadding(tokenizer))
                trainer = Trainer(model, settings, collate, plain)
            speed = train_timed(trainer, collate)
        loss = None
        if score:
            logits = torch.from_numpy(score_sequences(model, test, 64, "fp32"))
            loss = torch.nn.functional.cross_entropy(
                logits, torch.from_numpy(test.labels)
            ).item()
        return speed, loss

    steps = arguments.loss_steps or -(-len(train) // BATCH)
    print(describe(train, len(test), "sentences"))
    alternate(
        run, "real tokens/s of training a classifier of sentences", arguments, steps
    )


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
