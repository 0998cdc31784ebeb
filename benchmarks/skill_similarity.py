"""Bi-encoder of skills: pairs per second, and what is learnt, against the library.

    python benchmarks/skill_similarity.py [--data esco]

Peers: sentence-transformers' own Trainer with MultipleNegativesRankingLoss and batches
without repeated texts (`BatchSamplers.NO_DUPLICATES`), as its documentation trains on
pairs: random order, texts tokenized batch by batch, dropout as the checkpoint says, all
weights trained, fp32; and the same with `bf16=True`. All get the same pairs, weights,
batch size, learning rate and number of steps. Repetitions alternate, and each ratio is
taken within one. The mean reciprocal rank of unseen skills is shown beside the speed: a
faster way that learns less is no gain.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the flow does

import argparse
import statistics
import tempfile
import time

import numpy as np
import torch
from datasets import Dataset
from results import report
from sentence_transformers import (
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.losses import (
    MultipleNegativesRankingLoss,
)
from sentence_transformers.sentence_transformer.training_args import BatchSamplers
from transformers import PrinterCallback

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
from ojd_daps_language_models.training.fit import TrainingLog, has_bf16
from ojd_daps_language_models.training.ranking import score_queries
from ojd_daps_language_models.training.skill_scores import rank_skills
from ojd_daps_language_models.training.text_pairs import KnownTruths, TextPairs

PEERS = ("sentence-transformers' Trainer, fp32", "sentence-transformers' Trainer, bf16")


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

    strings = tokens["strings"]
    plain = Dataset.from_dict(
        {side: [strings[row] for row in drawn[side]] for side in ("text", "other")}
    )

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

    def theirs(peer: str) -> tuple[float, float]:
        model, _ = load_bi_encoder(folder)
        with tempfile.TemporaryDirectory() as out:
            settings = SentenceTransformerTrainingArguments(
                output_dir=out,
                max_steps=arguments.steps,
                per_device_train_batch_size=config.training.batch_size,
                batch_sampler=BatchSamplers.NO_DUPLICATES,
                learning_rate=config.training.learning_rate,
                warmup_steps=config.training.warmup,
                weight_decay=config.training.weight_decay,
                bf16="fp32" not in peer and has_bf16(),
                use_cpu=not torch.cuda.is_available(),
                save_strategy="no",
                logging_strategy="no",
                report_to="none",
                disable_tqdm=True,
            )
            loss = MultipleNegativesRankingLoss(model)
            trainer = SentenceTransformerTrainer(model, settings, plain, loss=loss)
            trainer.remove_callback(PrinterCallback)
            start = time.perf_counter()  # to make it reads texts for a model card
            trainer.train()
            return time.perf_counter() - start, reciprocal_rank(model)

    before = reciprocal_rank(load_bi_encoder(folder)[0])
    print(f"mean reciprocal rank before training: {before:.3f}")
    found = {kind: [] for kind in ("ours", *PEERS)}
    for _ in range(arguments.repetitions):
        for kind, runs in found.items():
            runs.append(ours() if kind == "ours" else theirs(kind))
            seconds, rank = runs[-1]
            print(f"{kind}: {count / seconds:,.0f} pairs/s, {rank:.3f}", flush=True)
    ranks = {
        kind: statistics.median(rank for _, rank in runs)
        for kind, runs in found.items()
    }
    for peer in PEERS:
        report(
            "pairs/s of training a bi-encoder of skills",
            peer,
            [
                other / own
                for (own, _), (other, _) in zip(found["ours"], found[peer], strict=True)
            ],
            f"mean reciprocal rank after {arguments.steps} steps {ranks['ours']:.3f} "
            f"against {ranks[peer]:.3f}, {before:.3f} before",
        )


if __name__ == "__main__":
    main()
