"""Finding entities: real tokens per second of training against the plain Trainer.

    python benchmarks/ner_training.py [--data train.json --tags tags_skill]

Peers: transformers' Trainer at its defaults, as its token classification example uses
it: random order, each batch padded to its longest, fp32; and the same with `bf16=True`.
All get the same windows, tags, weights, head, batch size, learning rate and number of
steps. Repetitions alternate, and each ratio is taken within one. The loss on held-out
texts after as many steps is shown beside the speed: a faster way that learns less is no
gain.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the flow does

import argparse
import tempfile

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
    DataCollatorForTokenClassification,
    Trainer,
)

from ojd_daps_language_models.configs import EntityData
from ojd_daps_language_models.getters.entities import iter_entities
from ojd_daps_language_models.preprocessing.packing import load_tokenizer
from ojd_daps_language_models.preprocessing.spans import (
    align_spans,
    find_words,
    load_word_tokenizer,
)
from ojd_daps_language_models.preprocessing.windows import encode_windows
from ojd_daps_language_models.training.fit import set_dropout
from ojd_daps_language_models.training.token_classification import (
    NOT_SCORED,
    TaggedWindows,
    load_tagger,
    score_windows,
)


def read(path: str, tags: str | None) -> tuple[list, list[str]]:
    """Texts with words and spans, and the labels: SKILL where one layer is read."""
    settings = EntityData()
    if tags:
        columns = {"id": None, "employer": None, "advert": None}
        settings = EntityData(columns=columns, layers={"SKILL": tags}, labels=["SKILL"])
    nlp = load_word_tokenizer()
    rows = []
    for texts, _ in iter_entities(path, settings):
        for row in texts.to_dict("records"):
            words = row["words"] or find_words(row["text"], nlp)
            spans, _ = align_spans(row["text"], words, row["spans"], settings.labels)
            rows.append((row["text"], words, spans))
    return rows, settings.labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="sample", help="see data.path")
    parser.add_argument("--tags", help="column of tags, where each token has one")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60, help="of each repetition")
    parser.add_argument("--loss-steps", type=int, help="before the loss; an epoch")
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--encoder", choices=SHAPES, default="embedded")
    arguments = parser.parse_args()

    folder = get_encoder(arguments.encoder)
    rows, labels = read(arguments.data, arguments.tags)
    order = np.random.default_rng(0).permutation(len(rows))
    tokenizer = load_tokenizer(folder)

    def tagged(numbers: np.ndarray) -> TaggedWindows:
        texts, words, spans = zip(*(rows[number] for number in numbers), strict=True)
        windows = encode_windows(texts, words, tokenizer, arguments.max_length, 32)
        return TaggedWindows(windows, [(labels, spans)], folder)

    train, test = tagged(order[len(rows) // 5 :]), tagged(order[: len(rows) // 5])
    plain = Plain(train)
    for row in plain.rows:
        row["labels"] = row["labels"][:, 0]  # of the one head
    collator = DataCollatorForTokenClassification(AutoTokenizer.from_pretrained(folder))

    def run(kind: str, steps: int, score: bool = False) -> tuple[float, float | None]:
        """Real tokens per second of training, and the loss on held-out texts."""
        model, _ = load_tagger(folder, labels, 0)
        with tempfile.TemporaryDirectory() as out:
            settings = training_settings(out, kind, steps, arguments.learning_rate)
            if kind == "ours":
                set_dropout(model, 0.1)
                model.get_input_embeddings().weight.requires_grad_(False)
                collate = Counted()
                trainer = AnyStretch(model, settings, collate, train)
            else:
                collate = Counted(collator)
                trainer = Trainer(model, settings, collate, plain)
            speed = train_timed(trainer, collate)
        return speed, held_out_loss(model, test) if score else None

    steps = arguments.loss_steps or -(-len(train) // BATCH)
    print(describe(train, len(test), "windows"))
    alternate(run, "real tokens/s of training a tagger of words", arguments, steps)


def held_out_loss(model, windows: TaggedWindows) -> float:
    """Mean loss in nats per token, in fp32."""
    logits = torch.from_numpy(score_windows(model, windows, 64, "fp32"))
    labels = torch.full(logits.shape[:2], NOT_SCORED)
    for number in range(len(windows)):
        of_window = windows.__getitems__([number])["labels"][0, :, 0]
        labels[number, : len(of_window)] = of_window
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten()
    ).item()


if __name__ == "__main__":
    main()
