"""Next-sentence prediction: both pairs of a first sentence in one batch, or not.

    python benchmarks/twins.py

The same pairs of the sample, weights, learning rate and number of steps, in batches of
like lengths: once with the true and the wrong pair of each first sentence in the same
batch (`TwinSampler`), once in any order. Shown is the ROC AUC on validation; chance is
one half.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the flow does

import argparse

import numpy as np

from ojd_daps_language_models import PROJECT_DIR
from ojd_daps_language_models.configs import NSPConfig, parse_config
from ojd_daps_language_models.getters.adverts import iter_advert_parts
from ojd_daps_language_models.getters.checkpoints import get_checkpoint
from ojd_daps_language_models.preprocessing.adverts import prepare_adverts
from ojd_daps_language_models.preprocessing.pair_tokens import join_pairs
from ojd_daps_language_models.preprocessing.pairs import LABELS, make_pairs
from ojd_daps_language_models.preprocessing.token_files import read_tokens
from ojd_daps_language_models.tasks.nsp import tokenize
from ojd_daps_language_models.training.classification import (
    JoinedSequences,
    fit_classifier,
    load_classifier,
    probabilities,
    score_sequences,
)
from ojd_daps_language_models.training.fit import TrainingLog
from ojd_daps_language_models.training.metrics import roc_auc


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="sample", help="adverts")
    parser.add_argument("--config", default=str(PROJECT_DIR / "configs" / "nsp.yaml"))
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()

    with open(arguments.config, encoding="utf-8") as file:
        config = parse_config(file.read(), NSPConfig)
    given = iter_advert_parts(arguments.data, None, None, config.data, "nsp")
    sentences, pairs, _ = make_pairs(
        prepare_adverts(given, config).adverts, config.pairs
    )
    folder = get_checkpoint("embedded")
    tokens, *_ = tokenize(sentences, pairs, folder, config)

    def sequences(part: str, together: bool) -> JoinedSequences:
        mine = pairs[pairs["part"] == part]
        joined = join_pairs(
            read_tokens(tokens["sentences"]), mine, folder, config.training.max_length
        )
        twins = np.roll(np.arange(len(mine)), len(mine) // 2)
        labels = mine["label"].to_numpy()
        return JoinedSequences(joined, labels, folder, twins if together else None)

    validation = sequences("validation", False)
    found = {}
    for seed in range(arguments.seeds):
        for name, together in (("together", True), ("in any order", False)):
            model, _ = load_classifier(folder, LABELS, seed, pairs=True)
            fit_classifier(
                model,
                sequences("train", together),
                validation,
                config.training,
                arguments.epochs,
                seed,
                TrainingLog(),
            )
            logits = score_sequences(model, validation, 64, config.training.precision)
            likely, once = probabilities(logits, 0), np.ones((1, len(logits)))
            score = roc_auc(validation.labels == 0, likely, once)[0]
            found.setdefault(name, []).append(score)
    for name, scores in found.items():
        print(f"{name}: ROC AUC {', '.join(f'{score:.3f}' for score in scores)}")


if __name__ == "__main__":
    main()
