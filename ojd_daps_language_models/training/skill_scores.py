"""Scores of a bi-encoder of skills: rankings of all skills, and scored pairs."""

import numpy as np
import pandas as pd

from ojd_daps_language_models.preprocessing.skill_queries import SENTENCES
from ojd_daps_language_models.training import metrics
from ojd_daps_language_models.training.ranking import (
    rank_answers,
    score_queries,
    spearman,
)

PAIRS = "scored_pairs"
MEASURES = ("mrr", "recall_at_1", "recall_at_5", "recall_at_10")
SENTENCE_MEASURES = ("mrr", "rp_at_5", "rp_at_10")
SYSTEMS = ("tfidf", "before", "after")
DIFFERENCES = {"change": ("after", "before"), "gain": ("after", "tfidf")}


def rank_skills(
    asked: pd.DataFrame, names: np.ndarray, needed: np.ndarray, vectors
) -> np.ndarray:
    """Places of right answers among all skills, by their names.

    Args:
        asked: queries, with the `number` of their text.
        names: number of the name of each skill.
        needed: numbers of the texts that were embedded, sorted.
        vectors: their embeddings, of unit length; maybe sparse.
    """
    candidates = vectors[np.searchsorted(needed, names)].T

    def similarities(rows: np.ndarray) -> np.ndarray:
        found = vectors[rows] @ candidates
        return found if isinstance(found, np.ndarray) else found.toarray()

    return rank_answers(
        similarities,
        np.searchsorted(needed, asked["number"]),
        asked["skill"].to_numpy(),
        asked["itself"].to_numpy(),
    )


def compare_pairs(pairs: pd.DataFrame, needed: np.ndarray, vectors) -> np.ndarray:
    """Cosine of the two texts of each pair; arguments as of `rank_skills`."""
    one, other = (
        vectors[np.searchsorted(needed, pairs[side])] for side in ("text", "other")
    )
    product = one * other if isinstance(one, np.ndarray) else one.multiply(other)
    return np.asarray(product.sum(axis=1)).ravel()


def answer_queries(
    asked: pd.DataFrame,
    scored: pd.DataFrame,
    names: np.ndarray,
    needed: np.ndarray,
    vectors: dict,
) -> pd.DataFrame:
    """What each system says: places of right answers, similarities of scored pairs.

    Args:
        asked: as of `rank_skills`.
        scored: pairs with their `score`.
        names: as of `rank_skills`.
        needed: likewise.
        vectors: system -> embeddings of `needed`.
    """
    found = asked.drop(columns=["part", "itself", "number"]).assign(score=np.nan)
    pairs = pd.DataFrame(
        {
            "task": PAIRS,
            "file": "",
            "cluster": scored["cluster"],
            "score": scored["score"],
        }
    )
    for system, embedded in vectors.items():
        found[system] = rank_skills(asked, names, needed, embedded)
        pairs[system] = compare_pairs(scored, needed, embedded)
    return pd.concat([found, pairs], ignore_index=True) if len(pairs) else found


def _groups(found: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """What is scored apart; sentences of each file, and of all where there are more."""
    groups = {}
    for task, rows in found.groupby("task", sort=False):
        if task == SENTENCES:
            files = dict(list(rows.groupby("file", sort=False)))
            groups |= {f"{task}, {file}": own for file, own in files.items()}
        if task != SENTENCES or len(files) > 1:
            groups[task if task != SENTENCES else f"{task}, all"] = rows
    return groups


def _statistics(rows: pd.DataFrame, system: str) -> tuple[dict, int]:
    """Measures as functions of weights of clusters, and the number of clusters."""
    clusters, cluster = np.unique(rows["cluster"], return_inverse=True)
    said = rows[system].to_numpy()
    if rows["task"].iloc[0] == PAIRS:
        score = rows["score"].to_numpy()
        statistic = metrics.of_items(spearman, score, said, cluster)
        if (said == said[0]).all():
            # TF-IDF of pairs that share no characters: as good as chance, not undefined
            statistic = _zeros
        return {"spearman": statistic}, len(clusters)
    query = rows.groupby(["file", "text"]).ngroup().to_numpy()
    values = score_queries(said, query)
    cluster_of = np.empty(query.max() + 1, int)
    cluster_of[query] = cluster
    wanted = SENTENCE_MEASURES if rows["task"].iloc[0] == SENTENCES else MEASURES
    return {
        measure: metrics.of_sums(
            metrics.sum_by_group(
                cluster_of, len(clusters), np.ones(len(cluster_of)), values[measure]
            ),
            metrics.mean,
        )
        for measure in wanted
    }, len(clusters)


def _zeros(weights: np.ndarray) -> np.ndarray:
    return np.zeros(len(weights))


def score_systems(found: pd.DataFrame, evaluation) -> dict:
    """Scores of all systems with their intervals."""
    scores = {}
    for group, rows in _groups(found).items():
        statistics = {system: _statistics(rows, system) for system in SYSTEMS}
        measures, clusters = statistics["after"]
        scores[group] = {
            measure: metrics.compare(
                {system: own[measure] for system, (own, _) in statistics.items()},
                DIFFERENCES,
                clusters,
                evaluation.bootstrap_samples,
                evaluation.seed,
            )
            for measure in measures
        }
    return scores


def score_one(found: pd.DataFrame) -> dict:
    """Values of `after` alone, by what is asked and measure."""
    values = {}
    for group, rows in _groups(found).items():
        measures, clusters = _statistics(rows, "after")
        values[group] = {
            measure: float(statistic(np.ones((1, clusters)))[0])
            for measure, statistic in measures.items()
        }
    return values


def count_queries(found: pd.DataFrame) -> dict[str, int]:
    """How many queries of each kind were scored."""
    return {
        task: len(rows)
        if task == PAIRS
        else int(rows.groupby(["file", "text"]).ngroups)
        for task, rows in found.groupby("task", sort=False)
    }
