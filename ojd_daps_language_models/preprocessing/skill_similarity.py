"""From pairs of skills to what a bi-encoder learns and is asked, all accounted for."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from ojd_daps_language_models.preprocessing.positives import make_positives
from ojd_daps_language_models.preprocessing.preparation import (
    count_reasons,
    funnel,
    hash_parts,
    name_files,
    nothing_left,
    print_kept,
)
from ojd_daps_language_models.preprocessing.skill_labels import (
    list_labels,
    list_relations,
    list_skills,
    tidy_pairs,
)
from ojd_daps_language_models.preprocessing.skill_parts import (
    compare_parts,
    describe_parts,
    divide_skills,
    keep_different_scores,
    keep_parts_apart,
    keep_within_parts,
    link_skills,
    measure_seen,
)
from ojd_daps_language_models.preprocessing.skill_queries import (
    check_queries,
    make_queries,
)
from ojd_daps_language_models.preprocessing.splits import TRAIN

STAGES = {
    "unreadable": "with two labels, and with a score where pairs have one",
    "unfit": "of different labels",
    "duplicate": "each once",
    "held out": "with no label in a held-out part",
    "crossing": "within one part",
    "one score": "in a part with different scores, where pairs have one",
}
ATTRIBUTION = "This service uses the ESCO classification of the European Commission."


class Prepared(NamedTuple):
    """A vocabulary of skills and what is known of it, ready for a model.

    skills: name, description, group, area, cluster (of skills that share labels), part.
        The other tables give a skill by the number of its row here.
    labels: skill, text, key, preferred (bool), part; each label of a skill once.
    queries: see `skill_queries.make_queries`.
    pairs: text, other, kind, score, part, cluster: positives to learn from, and pairs
        with scores of all parts.
    owners: text, skill; the skills that a text to learn from speaks of.
    related: skill, other; skills whose texts are true of each other, both ways.
    kept_aside: source, row, id, reason; of pairs.
    report: plain counts, see `prepare_skills`.
    """

    skills: pd.DataFrame
    labels: pd.DataFrame
    queries: pd.DataFrame
    pairs: pd.DataFrame
    owners: pd.DataFrame
    related: pd.DataFrame
    kept_aside: pd.DataFrame
    report: dict


def prepare_skills(
    given: dict,
    mentions: tuple[pd.DataFrame, pd.DataFrame],
    config,
    seen: Sequence[str] | None = None,
) -> Prepared:
    """Make a vocabulary of pairs, divide it by skill, and draw what is learnt.

    Args:
        given: of the getter, for `train` and, where the user brought official parts,
            for `validation` and `test`: each with the tables pairs, kept_aside, skills
            and relations.
        mentions: of the getter: sentences with skills, and those kept aside.
        config: with the sections `data`, `split` and `positives`.
        seen: texts that the checkpoint was trained on, None where that is not known.

    Returns:
        Its report has `funnel` (stage, pairs left), `kept_aside` (reason, pairs),
        `parts` (skills, labels, relations, scored pairs and, of these, unlike ones of
        each), `positives` (kind, how many), `shared_labels` (labels of several skills,
        and those skills), `relations` (all, and those across parts), `queries` (counts
        of what is asked and left out), `overlap` (of each held-out part with training),
        `seen_by_checkpoint` (the same with `seen`, or None), `attribution` (ESCO's, or
        None) and `fingerprint` (of parts, labels, scores and queries in any order).

    Raises:
        ValueError: no pair is left, too few skills to split, official parts that share
            labels, no training skill left, training pairs of a single score, or nothing
            to score on.
    """
    pairs, aside = tidy_pairs(given)
    if pairs.empty:
        raise ValueError(nothing_left(aside, "pair"))
    # Where there are no scores, all pairs have two labels of one skill.
    same = ~(pairs["score"] < config.data.same_from)
    skills = list_skills(given, pairs, same)
    pairs, moved = keep_parts_apart(pairs, skills, config.split.max_label_overlap)
    labels, related = list_labels(skills, pairs[same.loc[pairs.index]])
    skills["cluster"] = link_skills(skills, labels, related)
    try:
        skills["part"] = divide_skills(skills, given, config.split)
    except ValueError as error:
        raise ValueError(f"{name_files(pairs)}: {error}") from error
    numbers = dict(zip(skills["key"], range(len(skills)), strict=True))
    labels = labels.assign(skill=labels["skill"].map(numbers))
    labels["part"] = labels["skill"].map(skills["part"])

    pairs, apart = keep_within_parts(pairs, skills, labels)
    pairs, alone = keep_different_scores(pairs)
    aside = pd.concat([aside, moved, apart, alone], ignore_index=True)
    print_kept(len(pairs), aside, "pair")
    if not (skills["part"] == TRAIN).any():
        raise ValueError(f"no training skill is left: {nothing_left(aside, 'pair')}")
    relations = list_relations(given, related, skills)
    scored = pairs.dropna(subset="score")
    queries, asked = make_queries(
        skills, labels, relations, mentions[0], config.data.no_skill
    )
    check_queries(queries, scored)
    learnt = make_positives(skills, labels, relations, scored, config.positives)
    if learnt.pairs.empty:
        raise ValueError(
            "nothing to learn from: no training skill has another label, a description "
            "or a related skill; see `positives` in the configuration"
        )
    held_out = scored[scored["part"] != TRAIN].assign(kind="scored")
    known = pd.concat([learnt.pairs.assign(part=TRAIN), held_out], ignore_index=True)
    known = known[["text", "other", "kind", "score", "part", "cluster"]]
    report = {
        "funnel": funnel(aside, len(pairs), "pair", STAGES),
        "kept_aside": count_reasons(aside, "pair"),
        "parts": describe_parts(
            skills, labels, relations, scored, config.data.same_from
        ),
        "positives": learnt.pairs["kind"].value_counts().to_dict(),
        "shared_labels": _count_shared(labels),
        "relations": {
            "all": len(relations),
            "across parts": int(relations["part"].isna().sum()),
        },
        "queries": asked | {"unusable_sentences": len(mentions[1])},
        "overlap": compare_parts(labels),
        "seen_by_checkpoint": measure_seen(seen, labels),
        "attribution": ATTRIBUTION if _of_esco(given) else None,
        "fingerprint": _fingerprint(labels, scored, queries, skills["name"]),
    }
    for name in ("parts", "positives", "shared_labels", "relations", "queries"):
        print(f"{name}: {report[name]}")
    if report["attribution"]:
        print(report["attribution"])
    return Prepared(
        skills.drop(columns="key"),
        labels,
        queries,
        known,
        learnt.owners,
        learnt.related,
        aside.drop(columns="stage"),
        report,
    )


def _count_shared(labels: pd.DataFrame) -> dict[str, int]:
    """Labels of several skills, which would be false negatives, and those skills."""
    shared = labels[labels.duplicated("key", keep=False)]
    return {
        "labels": int(shared["key"].nunique()),
        "skills": int(shared["skill"].nunique()),
    }


def _of_esco(given: dict) -> bool:
    uris = pd.concat([found.skills["skill"] for found in given.values()])
    return bool(uris.str.contains("data.europa.eu/esco", regex=False).any())


def _fingerprint(
    labels: pd.DataFrame, scored: pd.DataFrame, queries: pd.DataFrame, names: pd.Series
) -> str:
    tables = [
        (labels["part"], labels["skill"].map(names), labels["text"]),
        (
            scored["part"],
            scored["text"] + "\n" + scored["other"],
            scored["score"].map(str),
        ),
        (queries["task"], queries["text"], queries["skill"].map(names)),
    ]
    return hash_parts(*map(np.concatenate, zip(*tables, strict=True)))
