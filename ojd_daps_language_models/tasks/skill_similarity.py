"""Similarity of skills: which labels, and which sentences, mean the same skill."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ojd_daps_language_models.configs import SkillSimilarityConfig
from ojd_daps_language_models.preprocessing.packing import (
    Inputs,
    encode_inputs,
    load_tokenizer,
)
from ojd_daps_language_models.preprocessing.skill_queries import LABELS
from ojd_daps_language_models.progress import progress_bar
from ojd_daps_language_models.training.checkpoints import TrainingCheckpoints


def tokenize(
    skills: pd.DataFrame,
    queries: pd.DataFrame,
    pairs: pd.DataFrame,
    owners: pd.DataFrame,
    checkpoint: Path,
    config: SkillSimilarityConfig,
) -> dict:
    """Tokenize every text once: names of skills, queries, and what is learnt.

    Args:
        skills: of `preprocessing.skill_similarity`.
        queries: likewise.
        pairs: likewise.
        owners: likewise.
        checkpoint: folder with a `tokenizer.json`.

    Returns:
        `texts`: the fields of `preprocessing.packing.Inputs`; `strings`: the texts; and
        with their numbers in place of them: `names` and `queries` (arrays, a number for
        each row), `pairs` and `owners` (tables).
    """
    columns = [skills["name"], queries["text"], pairs["text"], pairs["other"]]
    numbers, strings = pd.factorize(pd.concat([*columns, owners["text"]]))
    sizes = np.cumsum([len(column) for column in columns])
    names, asked, one, other, owned = np.split(numbers, sizes)
    bar = progress_bar("tokenizing", "text", len(strings), strings)
    inputs = encode_inputs(bar, load_tokenizer(checkpoint), config.training.max_length)
    return {
        "texts": inputs._asdict(),
        "strings": list(strings),
        "names": names,
        "queries": asked,
        "pairs": pairs.assign(text=one, other=other),
        "owners": owners.assign(text=owned),
    }


def train(
    tokens: dict,
    queries: pd.DataFrame,
    related: pd.DataFrame,
    checkpoint: Path,
    config: SkillSimilarityConfig,
    epochs: int,
    seeds: Sequence[int],
    on_row: Callable[[list[dict], int], None] | None = None,
    checkpoints: TrainingCheckpoints | None = None,
) -> tuple[list[bytes], pd.DataFrame]:
    """Train a model for each seed; validation chooses its epoch.

    The epoch is that of the highest mean reciprocal rank of skills by other labels. It
    is that of the highest rank correlation where validation pairs have scores, and so
    have training pairs, or validation has no other labels.

    Args:
        tokens: from `tokenize`.
        queries: of `preprocessing.skill_similarity`.
        related: likewise.
        checkpoint: folder of the model to start from.
        epochs: 0 gives the checkpoint back.
        seeds: of the batches.
        on_row: called with all rows of the log so far and the number of steps.
        checkpoints: where the trainings are kept while they go on.

    Returns:
        The packed folders; and the log: seed, step, epoch, seconds, loss, and
        validation_mrr or validation_spearman.
    """
    from ojd_daps_language_models.training.bi_encoder import (
        fit_bi_encoder,
        load_bi_encoder,
        pack_bi_encoder,
    )
    from ojd_daps_language_models.training.fit import TrainingLog
    from ojd_daps_language_models.training.text_pairs import KnownTruths, TextPairs

    texts = _texts(tokens, checkpoint)
    pairs = tokens["pairs"]
    training = pairs[pairs["part"] == "train"]
    scored = bool(training["score"].notna().all())
    known = None
    if not scored:
        known = KnownTruths(
            tokens["owners"], related, len(tokens["strings"]), len(tokens["names"])
        )
    measure = _validate(tokens, texts, queries, scored, config)
    models, rows = [], []
    for seed in seeds:
        model, _ = load_bi_encoder(checkpoint)
        if epochs:
            fit_bi_encoder(
                model,
                TextPairs(texts, training, known),
                scored,
                config.training,
                epochs,
                seed,
                TrainingLog(on_row, rows, seed=seed),
                measure,
                checkpoints,
            )
        models.append(pack_bi_encoder(model, config.training.max_length))
    return models, pd.DataFrame(rows)


def evaluate(
    tokens: dict,
    skills: pd.DataFrame,
    queries: pd.DataFrame,
    checkpoint: Path,
    models: Sequence[bytes],
    config: SkillSimilarityConfig,
    seeds: Sequence[int],
) -> tuple[dict, pd.DataFrame, dict]:
    """Rank all skills for each test query, once, beside checkpoint and floor.

    Args:
        tokens: from `tokenize`.
        skills: of `preprocessing.skill_similarity`.
        queries: likewise.
        checkpoint: folder of the model that training started from.
        models: from `train`.
        seeds: that they were trained with.

    Returns:
        Metrics. `scores`: what is asked -> measure -> system (`tfidf` of characters,
        `before`, `after`, and the paired differences `change`, after minus before, and
        `gain`, after minus tfidf) -> value, low, high; `seeds` and `spread`: see
        `training.metrics`; where what follows the encoder came from, and counts.

        A table from which all of this can be computed: for each right answer to a test
        query what was asked, and its place among all skills by each system; for each
        pair with a score its score, and its similarity by each system.

        And what the report shows: `map` (name, area, part and, before and after, places
        x and y of skills), `neighbours` (names nearest to labels, before and after).
    """
    from ojd_daps_language_models.training.baselines import embed_tfidf
    from ojd_daps_language_models.training.bi_encoder import (
        embed,
        load_bi_encoder,
        load_packed,
    )
    from ojd_daps_language_models.training.metrics import spread
    from ojd_daps_language_models.training.skill_scores import (
        answer_queries,
        count_queries,
        score_one,
        score_systems,
    )
    from ojd_daps_language_models.training.skill_space import draw_map, list_neighbours

    texts = _texts(tokens, checkpoint)
    test = queries["part"] == "test"
    asked = queries[test].assign(number=tokens["queries"][test])
    pairs = tokens["pairs"]
    scored = pairs[(pairs["part"] == "test") & pairs["score"].notna()]
    needed = _needed(tokens["names"], asked["number"], scored["text"], scored["other"])
    settings = (4 * config.training.batch_size, config.training.precision)
    strings = [tokens["strings"][number] for number in needed]
    before, modules = load_bi_encoder(checkpoint)
    by_model = [embed(load_packed(model), texts, needed, *settings) for model in models]
    vectors = {
        "tfidf": embed_tfidf(strings, skills["name"]),
        "before": embed(before, texts, needed, *settings),
        "after": by_model[0],
    }
    found = answer_queries(asked, scored, tokens["names"], needed, vectors)
    by_seed = [
        {
            "seed": int(seed),
            "scores": score_one(
                answer_queries(
                    asked, scored, tokens["names"], needed, {"after": embedded}
                )
            ),
        }
        for seed, embedded in zip(seeds, by_model, strict=True)
    ]
    names = np.searchsorted(needed, tokens["names"])
    of_names = {name: vectors[name][names] for name in ("before", "after")}
    other = asked[asked["task"] == LABELS]
    rows = np.searchsorted(needed, other["number"])
    of_labels = {name: vectors[name][rows] for name in ("before", "after")}
    metrics = {
        "skills": len(skills),
        **count_queries(found),
        "truncated": int(tokens["texts"]["truncated"][needed].sum()),
        "architecture": f"{type(before[0].auto_model).__name__}, embeddings of "
        f"{by_model[0].shape[1]} numbers",
        "head": modules,
        "scores": score_systems(found, config.evaluation),
        "seeds": by_seed,
        "spread": spread(by_seed),
    }
    space = {
        "map": draw_map(skills, of_names, config.evaluation),
        "neighbours": list_neighbours(
            skills, other, of_names, of_labels, config.evaluation
        ),
    }
    return metrics, found, space


def _texts(tokens: dict, checkpoint: Path):
    from ojd_daps_language_models.training.classification import Sequences

    inputs = Inputs(**tokens["texts"])
    return Sequences(inputs, np.zeros(len(inputs.lengths)), checkpoint)


def _needed(*numbers) -> np.ndarray:
    return np.unique(np.concatenate([np.asarray(column, int) for column in numbers]))


def _validate(
    tokens: dict,
    texts,
    queries: pd.DataFrame,
    scored: bool,
    config: SkillSimilarityConfig,
) -> tuple[str, Callable]:
    """Name and function of a model by which the epoch is chosen."""
    from ojd_daps_language_models.training.bi_encoder import embed
    from ojd_daps_language_models.training.ranking import score_queries, spearman
    from ojd_daps_language_models.training.skill_scores import (
        compare_pairs,
        rank_skills,
    )

    settings = (4 * config.training.batch_size, config.training.precision)
    pairs = tokens["pairs"]
    pairs = pairs[(pairs["part"] == "validation") & pairs["score"].notna()]
    chosen = (queries["part"] == "validation") & (queries["task"] == LABELS)
    if pairs["score"].nunique() > 1 and (scored or not chosen.any()):
        needed = _needed(pairs["text"], pairs["other"])

        def correlation(model) -> float:
            vectors = embed(model, texts, needed, *settings)
            alike = compare_pairs(pairs, needed, vectors)
            return float(
                spearman(pairs["score"].to_numpy(), alike, np.ones((1, len(pairs))))[0]
            )

        return "spearman", correlation
    asked = queries[chosen].assign(number=tokens["queries"][chosen])
    needed = _needed(tokens["names"], asked["number"])

    def reciprocal_rank(model) -> float:
        vectors = embed(model, texts, needed, *settings)
        ranks = rank_skills(asked, tokens["names"], needed, vectors)
        query = np.unique(asked["number"], return_inverse=True)[1]
        return float(score_queries(ranks, query)["mrr"].mean())

    return "mrr", reciprocal_rank
