"""Finding entities: real tokens per second of training against the plain Trainer.

    python benchmarks/ner_training.py [--data train.json --tags tags_skill]
        [--advert idx --max-length 128]

Peers: transformers' Trainer at its defaults, as its token classification example uses
it: random order, each batch padded to its longest, fp32; and the same with `bf16=True`.
All get the same texts, tags, weights, head and learning rate, and as many steps of as
many tokens. With `--advert`, ours reads the texts of an advert together, as the flow
does; a token that two windows share counts once, where it is learnt. `--windows` and
`--own-learning-rate` give ours larger steps, as the flow takes. Repetitions alternate,
and each ratio is taken within one. The loss on held-out words after as many tokens,
each read as in training, is shown beside the speed: a faster way that learns less is no
gain.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the flow does

import argparse
import tempfile

import numpy as np
import pandas as pd
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

from ojd_daps_language_models.configs import EntityData, NERConfig
from ojd_daps_language_models.getters.entities import iter_entities
from ojd_daps_language_models.preprocessing.entities import adverts_of
from ojd_daps_language_models.preprocessing.spans import (
    align_spans,
    find_words,
    load_word_tokenizer,
)
from ojd_daps_language_models.preprocessing.windows import Windows, first_tokens
from ojd_daps_language_models.tasks import ner
from ojd_daps_language_models.training.classification import NOT_SCORED
from ojd_daps_language_models.training.fit import set_dropout
from ojd_daps_language_models.training.token_classification import (
    TaggedWindows,
    load_tagger,
    score_windows,
)


def read(
    path: str, tags: str | None, advert: str | None
) -> tuple[pd.DataFrame, list[str]]:
    """Texts, those of an advert after each other, with words and spans; and the labels:
    SKILL where one layer is read."""
    settings = EntityData()
    if tags:
        columns = {"id": None, "employer": None, "advert": advert}
        settings = EntityData(columns=columns, layers={"SKILL": tags}, labels=["SKILL"])
    nlp = load_word_tokenizer()
    texts = pd.concat([chunk for chunk, _ in iter_entities(path, settings)])
    texts["words"] = [
        words or find_words(text, nlp)
        for text, words in zip(texts["text"], texts["words"], strict=True)
    ]
    texts["spans"] = [
        align_spans(*row, settings.labels)[0]
        for row in texts[["text", "words", "spans"]].itertuples(index=False)
    ]
    texts["id"] = [f"text {number}" for number in range(len(texts))]
    if not advert:
        texts["advert"] = None
    adverts = pd.factorize(adverts_of(texts))[0]
    return texts.iloc[np.argsort(adverts, kind="stable")], settings.labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="sample", help="see data.path")
    parser.add_argument("--tags", help="column of tags, where each token has one")
    parser.add_argument("--advert", help="column of the advert: ours reads it as one")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60, help="of each repetition")
    parser.add_argument("--loss-steps", type=int, help="before the loss; an epoch")
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--windows", type=int, help="of our steps; as many tokens")
    parser.add_argument("--own-learning-rate", type=float, help="of ours; the same")
    parser.add_argument("--encoder", choices=SHAPES, default="embedded")
    arguments = parser.parse_args()
    arguments.own_learning_rate = arguments.own_learning_rate or arguments.learning_rate

    folder = get_encoder(arguments.encoder)
    texts, labels = read(arguments.data, arguments.tags, arguments.advert)
    adverts = adverts_of(texts).unique()
    held_out = np.random.default_rng(0).permutation(adverts)[: len(adverts) // 5]
    texts["part"] = np.where(adverts_of(texts).isin(held_out), "test", "train")

    def tagged(together: bool) -> tuple[TaggedWindows, TaggedWindows]:
        """Windows of the texts to learn from, and of the others."""
        config = NERConfig(
            training={"together": together, "max_length": arguments.max_length}
        )
        tokens = ner.tokenize(texts, folder, config)
        return tuple(
            TaggedWindows(
                Windows(**tokens[part]),
                [(labels, texts.loc[texts["part"] == part, "spans"])],
                folder,
            )
            for part in ("train", "test")
        )

    theirs, held_out_of_theirs = tagged(together=False)
    ours, held_out_of_ours = tagged(together=bool(arguments.advert))
    as_many = BATCH * theirs.inputs.lengths.mean() / ours.inputs.lengths.mean()
    batch = arguments.windows or max(1, round(as_many))
    plain = Plain(theirs)
    for row in plain.rows:
        row["labels"] = row["labels"][:, 0]  # of the one head
    collator = DataCollatorForTokenClassification(AutoTokenizer.from_pretrained(folder))

    def run(kind: str, steps: int, score: bool = False) -> tuple[float, float | None]:
        """Real tokens per second of training, and the loss on held-out words."""
        model, _ = load_tagger(folder, labels, 0)
        own = kind == "ours"
        with tempfile.TemporaryDirectory() as out:
            settings = training_settings(
                out,
                kind,
                steps,
                arguments.own_learning_rate if own else arguments.learning_rate,
                batch if own else BATCH,
            )
            if own:
                set_dropout(model, 0.1)
                model.get_input_embeddings().weight.requires_grad_(False)
                collate = Counted(real=count_labels)
                trainer = AnyStretch(model, settings, collate, ours)
            else:
                collate = Counted(collator, count_labels)
                trainer = Trainer(model, settings, collate, plain)
            speed = train_timed(trainer, collate)
        held_out = held_out_of_ours if own else held_out_of_theirs
        return speed, held_out_loss(model, held_out) if score else None

    steps = arguments.loss_steps or -(-len(theirs) // BATCH)
    words = int(held_out_of_theirs.windows.word_counts.sum())
    print(describe(theirs, words, "windows"))
    print(f"ours: {describe(ours, words, 'windows', batch)}")
    own_steps = round(steps * as_many / batch)
    what = "real tokens/s of training a tagger of words"
    alternate(run, what, arguments, steps, own_steps)


def count_labels(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The tokens of a batch that are learnt, those of words."""
    return (batch["labels"] != NOT_SCORED).sum()


def held_out_loss(model, windows: TaggedWindows) -> float:
    """Mean loss in nats per word, in fp32, where the flow reads each."""
    logits = score_windows(model, windows, 64, "fp32")
    batch = windows.__getitems__(range(len(windows)))
    real = batch["attention_mask"].bool()
    first, _ = first_tokens(windows.windows.words)
    return torch.nn.functional.cross_entropy(
        torch.from_numpy(logits)[real][first], batch["labels"][real][first, 0]
    ).item()


if __name__ == "__main__":
    main()
