"""Parts of a vocabulary of skills that share no label."""

from collections.abc import Iterable, Sequence

import pandas as pd

from ojd_daps_language_models.preprocessing.skill_labels import label_keys, set_aside
from ojd_daps_language_models.preprocessing.splits import (
    PARTS,
    TEST,
    TRAIN,
    VALIDATION,
    linked_groups,
    split_groups,
)

# The part of training skills that share a label with held-out ones: not learnt from,
# but still candidates.
LEFT_OUT = "left out"


def keep_parts_apart(
    pairs: pd.DataFrame, skills: pd.DataFrame, limit: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Pairs that are in the part of their skill, and those that are not.

    Args:
        pairs: with the part that they were given for.
        skills: with the last of the parts that they were given for.
        limit: share of the labels of `validation` that may be in `test`.

    Raises:
        ValueError: more are, and the epoch would be chosen by what is then scored.
    """
    keys = {
        part: set(rows["key"]) | set(rows["other_key"])
        for part in (VALIDATION, TEST)
        for rows in [pairs[pairs["part"] == part]]
    }
    share = len(keys[VALIDATION] & keys[TEST]) / max(len(keys[VALIDATION]), 1)
    if share > limit:
        raise ValueError(
            f"validation: {share:.1%} of its labels are in test too, and the limit is "
            f"{limit:.1%} (split.max_label_overlap); bring parts that are apart"
        )
    moved = pairs["part"] != pairs["key"].map(skills.set_index("key")["part"])
    aside = set_aside(pairs[moved], "its skill is in a held-out part", "held out")
    return pairs[~moved], aside


def link_skills(
    skills: pd.DataFrame, labels: pd.DataFrame, related: pd.DataFrame
) -> pd.Series:
    """The cluster of each skill: those that share a label, directly or through others.

    Args:
        skills: with `key`.
        labels: skill (its key), key.
        related: key, other_key; skills that the same rows of a file speak of.
    """
    one = pd.concat([labels["skill"], related["key"]], ignore_index=True)
    other = pd.concat([labels["key"], related["other_key"]], ignore_index=True)
    cluster = dict(zip(one, linked_groups(one, other), strict=True))
    return skills["key"].map(cluster)


def divide_skills(skills: pd.DataFrame, given: Iterable[str], split) -> pd.Series:
    """The part of each skill; only what the user did not bring is split off.

    Args:
        skills: with `cluster` and the part that they were given for.
        given: parts that the user brought.
        split: the section of the configuration.
    """
    parts = skills["part"].copy()
    held_out = set(skills.loc[parts != TRAIN, "cluster"])
    parts[(parts == TRAIN) & skills["cluster"].isin(held_out)] = LEFT_OUT
    training = parts == TRAIN
    if training.any():
        parts[training] = split_groups(
            skills.loc[training, "cluster"],
            validation=0 if VALIDATION in given else split.validation,
            test=0 if TEST in given else split.test,
            seed=split.seed,
            unit="skill",
        )
    return parts


def keep_within_parts(
    pairs: pd.DataFrame, skills: pd.DataFrame, labels: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Pairs within one part, with it and their cluster, and all others.

    Not even scored on are those of a held-out and a training skill: scores are said to
    be of skills that training did not see.
    """
    # A label of several skills is in the part of all of them: these are one cluster.
    part_of = dict(zip(labels["key"], labels["part"], strict=True))
    one, other = pairs["key"].map(part_of), pairs["other_key"].map(part_of)
    left = (one == LEFT_OUT) | (other == LEFT_OUT)
    crossing = ~left & (one != other)
    aside = [
        set_aside(pairs[left], "a label is in a held-out part", "held out"),
        set_aside(pairs[crossing], "its labels are in different parts", "crossing"),
    ]
    cluster = pairs["key"].map(skills.set_index("key")["cluster"])
    kept = pairs.assign(part=one, cluster=cluster)[~left & ~crossing]
    return kept, pd.concat(aside, ignore_index=True)


def keep_different_scores(pairs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Pairs of parts in which scores differ, or that have none, and all others.

    With a single score there is no rank correlation.

    Args:
        pairs: of `keep_within_parts`.

    Raises:
        ValueError: training pairs have a single score, and the loss is always 0.
    """
    distinct = pairs.groupby("part")["score"].transform("nunique")
    alone = pairs["score"].notna() & (distinct == 1)
    for part, scores in pairs[alone].groupby("part")["score"]:
        said = f"{part}: all pairs ({len(scores):,}) have the score {scores.iloc[0]:g}"
        if part == TRAIN:
            raise ValueError(
                f"{said}, from which nothing can be learnt; expected different scores, "
                "or pairs without a column of scores"
            )
        print(
            f"{said}, and no rank correlation; they are kept aside. Bring a part with "
            f"other scores (--{part}-data), or more pairs"
        )
    aside = set_aside(pairs[alone], "all pairs of its part have one score", "one score")
    return pairs[~alone], aside


def describe_parts(
    skills: pd.DataFrame,
    labels: pd.DataFrame,
    relations: pd.DataFrame,
    scored: pd.DataFrame,
    same_from: float,
) -> dict[str, dict]:
    """How much there is of everything in each part.

    Args:
        skills: with their part, as all of these.
        labels: likewise.
        relations: likewise.
        scored: pairs with scores.
        same_from: score from which a pair has two labels of one skill; others are
            unlike.
    """
    tables = {
        "skills": skills,
        "labels": labels,
        "relations": relations,
        "scored_pairs": scored,
        "unlike_pairs": scored[scored["score"] < same_from],
    }
    parts = [*PARTS, *([LEFT_OUT] if LEFT_OUT in set(skills["part"]) else [])]
    return {
        part: {name: int((rows["part"] == part).sum()) for name, rows in tables.items()}
        for part in parts
    }


def compare_parts(labels: pd.DataFrame) -> dict[str, dict]:
    """How many labels of each held-out part stand in training."""
    training = labels.loc[labels["part"] == TRAIN, "key"]
    return {part: _seen(labels, part, training) for part in (VALIDATION, TEST)}


def measure_seen(
    seen: Sequence[str] | None, labels: pd.DataFrame
) -> dict[str, dict] | None:
    """How many labels of each held-out part a checkpoint was trained on.

    Args:
        seen: texts that it was trained on; None where that is not known.
    """
    if seen is None:
        return None
    keys = label_keys(seen)
    return {part: _seen(labels, part, keys) for part in (VALIDATION, TEST)}


def _seen(labels: pd.DataFrame, part: str, keys: Iterable[str]) -> dict[str, int]:
    """How many labels of a part are among keys, as they are and in another order."""
    own = labels.loc[labels["part"] == part, "key"].unique()
    keys = set(keys)
    words = {frozenset(key.split()) for key in keys}
    return {
        "labels": len(own),
        "seen": sum(key in keys for key in own),
        "seen_in_another_order": sum(frozenset(key.split()) in words for key in own),
    }
