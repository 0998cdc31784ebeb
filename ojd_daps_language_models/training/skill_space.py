"""The space of skills as people can see it: a map, and nearest neighbours."""

import numpy as np
import pandas as pd

NEAREST = 3


def draw_map(skills: pd.DataFrame, vectors: dict[str, np.ndarray], evaluation) -> list:
    """Held-out skills in a plane, near to those that they are like.

    Args:
        skills: columns name, area, part.
        vectors: system -> embeddings of their names, of unit length.
        evaluation: with `map_skills` and `seed`.

    Returns:
        Rows of name, area, system, x, y.
    """
    rng = np.random.default_rng(evaluation.seed)
    unseen = rng.permutation(np.flatnonzero(skills["part"] != "train"))
    chosen = unseen[: evaluation.map_skills]
    names, areas = skills["name"], skills["area"]
    return [
        {"name": names[skill], "area": areas[skill], "system": system, "x": x, "y": y}
        for system, embedded in vectors.items()
        for skill, (x, y) in zip(chosen, _flatten(embedded[chosen]), strict=True)
    ]


def list_neighbours(
    skills: pd.DataFrame,
    asked: pd.DataFrame,
    vectors: dict[str, np.ndarray],
    queries: dict[str, np.ndarray],
    evaluation,
) -> list[dict]:
    """The names nearest to some labels.

    Args:
        skills: with `name`.
        asked: columns text and skill, the right one.
        vectors: system -> embeddings of names, of unit length.
        queries: system -> embeddings of what is asked, a row for each.
        evaluation: with `neighbours` and `seed`.

    Returns:
        Rows of label, skill (its name), and for each system names, nearest first.
    """
    rng = np.random.default_rng(evaluation.seed)
    names = skills["name"]
    return [
        {
            "label": asked["text"].iloc[row],
            "skill": names[asked["skill"].iloc[row]],
            **{
                system: names[_nearest(vectors[system], embedded[row])].tolist()
                for system, embedded in queries.items()
            },
        }
        for row in rng.permutation(len(asked))[: evaluation.neighbours]
    ]


def _flatten(vectors: np.ndarray) -> list[list[float]]:
    """Two dimensions that keep neighbours together (t-SNE, van der Maaten, 2008)."""
    from sklearn.manifold import TSNE

    perplexity = min(30, (len(vectors) - 1) / 3)
    found = TSNE(perplexity=perplexity, metric="cosine", init="pca", random_state=0)
    return found.fit_transform(vectors).round(2).tolist()


def _nearest(vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    return np.argsort(-(vectors @ query))[:NEAREST]
