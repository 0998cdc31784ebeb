"""Bi-encoder of skills: pairs per second, and what is learnt, against the library.

    python benchmarks/skill_similarity.py [--data esco]

Peer: sentence-transformers' own training loop that needs no other package (`old_fit`),
with MultipleNegativesRankingLoss and its data loader without repeated texts, as its
examples train on pairs: random order, texts tokenized batch by batch, fp32, dropout as
the checkpoint says, all weights trained. Both get the same pairs, weights, batch size,
learning rate and number of steps. Repetitions alternate, and each ratio is taken within
one. The mean reciprocal rank of unseen skills is shown beside the speed: a faster way
that learns less is no gain.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the flow does

import argparse
import statistics
import time

import numpy as np
import pandas as pd
from results import report
from sentence_transformers import InputExample
from sentence_transformers.sentence_transformer.datasets import NoDuplicatesDataLoader
from sentence_transformers.sentence_transformer.losses import (
    MultipleNegativesRankingLoss,
)

from ojd_daps_language_models import PROJECT_DIR
from ojd_daps_language_models.configs import SkillSimilarityConfig, parse_config
from ojd_daps_language_models.getters.checkpoints import get_checkpoint
from ojd_daps_language_models.getters.skills import read_mentions, read_skills
from ojd_daps_language_models.preprocessing.packing import Inputs
from ojd_daps_language_models.preprocessing.skill_queries import LABELS
from ojd_daps_language_models.preprocessing.skill_similarity import prepare_skills
from ojd_daps_language_models.tasks.skill_similarity import tokenize
from ojd_daps_language_models.training.bi_encoder import (
    embed,
    fit_bi_encoder,
    load_bi_encoder,
)
from ojd_daps_language_models.training.classification import Sequences
from ojd_daps_language_models.training.fit import TrainingLog
from ojd_daps_language_models.training.ranking import score_queries
from ojd_daps_language_models.training.skill_scores import rank_skills
from ojd_daps_language_models.training.text_pairs import KnownTruths, TextPairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="sample", help="pairs, or ESCO's folder")
    parser.add_argument("--steps", type=int, default=30, help="per repetition")
    parser.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args()

    file = PROJECT_DIR / "configs" / "skill_similarity.yaml"
    config = parse_config(file.read_text(encoding="utf-8"), SkillSimilarityConfig)
    settings = config.data.model_copy(update={"sentences": []})
    skills = prepare_skills(
        read_skills(arguments.data, None, None, settings),
        read_mentions(arguments.data, settings),
        config,
    )
    folder = get_checkpoint("embedded")
    tokens = tokenize(
        skills.skills, skills.queries, skills.pairs, skills.owners, folder, config
    )
    inputs = Inputs(**tokens["texts"])
    texts = Sequences(inputs, np.zeros(len(inputs.lengths)), folder)
    count = arguments.steps * config.training.batch_size
    training = tokens["pairs"][tokens["pairs"]["part"] == "train"]
    drawn = training.sample(count, replace=count > len(training), random_state=0)
    known = KnownTruths(
        tokens["owners"],
        skills.related,
        len(tokens["strings"]),
        len(tokens["names"]),
    )
    chosen = (skills.queries["part"] == "test") & (skills.queries["task"] == LABELS)
    asked = skills.queries[chosen].assign(number=tokens["queries"][chosen])
    needed = np.union1d(tokens["names"], asked["number"])

    def reciprocal_rank(model) -> float:
        vectors = embed(model, texts, needed, 256, "auto")
        ranks = rank_skills(asked, tokens["names"], needed, vectors)
        query = np.unique(asked["number"], return_inverse=True)[1]
        return float(score_queries(ranks, query)["mrr"].mean())

    def ours() -> tuple[float, float]:
        model, _ = load_bi_encoder(folder)
        start = time.perf_counter()
        fit_bi_encoder(
            model,
            TextPairs(texts, drawn, known),
            False,
            config.training,
            1,
            0,
            TrainingLog(),
            ("mrr", lambda model: 0.0),
        )
        return time.perf_counter() - start, reciprocal_rank(model)

    def theirs() -> tuple[float, float]:
        model, _ = load_bi_encoder(folder)
        start = time.perf_counter()
        model.old_fit(
            [(_loader(drawn, tokens, config), MultipleNegativesRankingLoss(model))],
            steps_per_epoch=arguments.steps,
            warmup_steps=round(config.training.warmup * arguments.steps),
            optimizer_params={"lr": config.training.learning_rate},
            show_progress_bar=False,
        )
        return time.perf_counter() - start, reciprocal_rank(model)

    before = reciprocal_rank(load_bi_encoder(folder)[0])
    print(f"mean reciprocal rank before training: {before:.3f}")
    ratios, ranks = [], []
    for repetition in range(arguments.repetitions):
        (own, own_rank), (peer, peer_rank) = ours(), theirs()
        ratios.append(peer / own)
        ranks.append((own_rank, peer_rank))
        print(
            f"{repetition + 1}: {count / own:,.0f} pairs/s, {own_rank:.3f}; peer "
            f"{count / peer:,.0f} pairs/s, {peer_rank:.3f}; {peer / own:.2f} times"
        )
    own_rank, peer_rank = map(statistics.median, zip(*ranks, strict=True))
    report(
        "pairs/s of training a bi-encoder of skills",
        "sentence-transformers' loop",
        ratios,
        f"mean reciprocal rank after {arguments.steps} steps {own_rank:.3f} against "
        f"{peer_rank:.3f}, {before:.3f} before",
    )


def _loader(
    pairs: pd.DataFrame, tokens: dict, config: SkillSimilarityConfig
) -> NoDuplicatesDataLoader:
    strings = tokens["strings"]
    examples = [
        InputExample(texts=[strings[one], strings[other]])
        for one, other in zip(pairs["text"], pairs["other"], strict=True)
    ]
    return NoDuplicatesDataLoader(examples, config.training.batch_size)


if __name__ == "__main__":
    main()
