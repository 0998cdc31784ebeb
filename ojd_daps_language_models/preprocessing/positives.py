"""Which texts a bi-encoder learns to be alike, and which pairs are known to be true.

Everything that is learnt has the name of a skill, its preferred label, on its second
side, as a search has.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from ojd_daps_language_models.preprocessing.skill_labels import label_keys
from ojd_daps_language_models.preprocessing.splits import TRAIN

COLUMNS = ("text", "other", "kind", "score", "cluster")
MOST_IN_SENTENCE = 3  # skills
SENTENCES = (  # written for this project, of parts that adverts of all kinds have
    *("{}", "{}.", "- {}", "Skills: {}", "Requirements: {}.", "Responsibilities: {}."),
    *("Experience with {}.", "Experience in {} is required.", "You will {}."),
    *("Strong knowledge of {}.", "Good understanding of {}.", "Familiar with {}."),
    *("Ability to {}.", "Proven ability in {}.", "You are able to {}."),
    "In this role you will {}, and report to the manager of the team.",
    "We are looking for a colleague with solid experience in {}.",
    "The ideal candidate has a background in {} and good communication.",
    "You have a degree and several years of experience in {}.",
    "Knowledge of {} is an advantage but not essential.",
)


class Positives(NamedTuple):
    """What a bi-encoder learns from, and what must not count as a negative.

    pairs: text, other, kind, cluster of skills; and score, missing where the pair is
        simply true.
    owners: text, skill; the skills that a text in `pairs` speaks of.
    related: skill, other; skills whose texts are true of each other, both ways.
    """

    pairs: pd.DataFrame
    owners: pd.DataFrame
    related: pd.DataFrame


def make_positives(
    skills: pd.DataFrame,
    labels: pd.DataFrame,
    relations: pd.DataFrame,
    scored: pd.DataFrame,
    settings,
) -> Positives:
    """The training pairs: those with scores, where there are any, else true ones.

    Args:
        skills: of `skill_similarity.prepare_skills`.
        labels: likewise.
        relations: of `skill_labels.list_relations`.
        scored: pairs with scores, and their part.
        settings: the section `positives` of the configuration.
    """
    training = scored[scored["part"] == TRAIN]
    if len(training):
        pairs = training.assign(kind="scored")[list(COLUMNS)]
        empty = pd.DataFrame({"text": [], "skill": [], "other": []})
        return Positives(
            pairs.reset_index(drop=True),
            empty[["text", "skill"]],
            empty[["skill", "other"]],
        )
    owners_of = labels.groupby("key")["skill"].agg(frozenset).to_dict()
    related = _related(skills, relations, settings)
    drawn = _draw(skills, labels, related, owners_of, settings)
    names = skills["name"]
    pairs = pd.DataFrame(drawn, columns=["text", "skill", "kind", "owners"])
    pairs["other"] = pairs["skill"].map(names)
    owned = defaultdict(set)
    for text, own in zip(pairs["text"], pairs["owners"], strict=True):
        owned[text] |= own
    for name, key in zip(pairs["other"], label_keys(pairs["other"]), strict=True):
        owned[name] |= owners_of[key]
    owners = [(text, skill) for text, own in owned.items() for skill in sorted(own)]
    pairs["cluster"] = pairs["skill"].map(skills["cluster"])
    return Positives(
        pairs.assign(score=np.nan)[list(COLUMNS)],
        pd.DataFrame(owners, columns=["text", "skill"]),
        related[["skill", "other"]],
    )


def _draw(
    skills: pd.DataFrame,
    labels: pd.DataFrame,
    related: pd.DataFrame,
    owners_of: dict,
    settings,
) -> list[tuple[str, int, str, frozenset]]:
    """Texts, each with the skill that it is paired with, its kind, and its owners."""
    rng = np.random.default_rng(settings.seed)
    training = labels[labels["part"] == TRAIN]
    others = training[~training["preferred"]]
    drawn = others.sample(frac=1, random_state=rng)
    if settings.labels:
        drawn = drawn.groupby("skill").head(settings.labels)
    rows = [
        (text, skill, "other label", owners_of[key])
        for text, skill, key in zip(
            drawn["text"], drawn["skill"], drawn["key"], strict=True
        )
    ]
    own = skills.loc[skills["part"] == TRAIN, "description"].dropna()
    for _ in range(settings.descriptions):
        rows += [
            (text, skill, "description", frozenset([skill]))
            for skill, text in own.items()
        ]
    rows += _make_sentences(training, owners_of, settings.sentences, rng)
    names = skills["name"]
    for kind, known in related.groupby("kind"):
        known = known.sample(frac=1, random_state=rng)
        if kind == "sibling":
            known = known.groupby("skill").head(settings.siblings)
        else:  # one way each: more of them pull a skill away from its own labels
            both = known[["skill", "other"]].apply(frozenset, axis=1)
            known = known[~both.duplicated()]
        rows += [
            (names[skill], other, kind, frozenset([skill]))
            for skill, other in zip(known["skill"], known["other"], strict=True)
        ]
    return rows


def _make_sentences(
    training: pd.DataFrame, owners_of: dict, times: int, rng: np.random.Generator
) -> Iterator[tuple[str, int, str, frozenset]]:
    """Sentences as adverts have them, of labels of one to three skills."""
    if not times:
        return
    labels_of = defaultdict(list)
    for skill, text, key in zip(
        training["skill"], training["text"], training["key"], strict=True
    ):
        labels_of[skill].append((text, key))
    skills = list(labels_of)
    for skill in skills * times:
        beside = rng.integers(len(skills), size=rng.integers(MOST_IN_SENTENCE))
        chosen = [
            labels_of[one][rng.integers(len(labels_of[one]))]
            for one in rng.permutation(
                [skill, *(skills[one] for one in beside)]
            ).tolist()
        ]
        owners = frozenset().union(*(owners_of[key] for _, key in chosen))
        listed = _list_words([text for text, _ in chosen], rng)
        template = SENTENCES[rng.integers(len(SENTENCES))]
        yield template.format(listed), skill, "sentence", owners


def _list_words(words: Sequence[str], rng: np.random.Generator) -> str:
    """Words with commas and an `and`, or, as text loses them, with spaces."""
    *first, last = words
    if not first:
        return last
    return " ".join(words) if rng.random() < 0.3 else f"{', '.join(first)} and {last}"


def _related(skills: pd.DataFrame, relations: pd.DataFrame, settings) -> pd.DataFrame:
    """Training skills that are learnt to be alike: skill, other, kind; both ways."""
    tables = [pd.DataFrame({"skill": [], "other": [], "kind": []})]
    if settings.relations:
        known = relations[relations["part"] == TRAIN][["skill", "other"]]
        back = known.rename(columns={"skill": "other", "other": "skill"})
        tables.append(pd.concat([known, back]).assign(kind="related"))
    if settings.siblings:
        groups = skills.loc[skills["part"] == TRAIN, "group"].dropna()
        groups = groups.rename_axis("skill").reset_index()
        both = groups.merge(groups.rename(columns={"skill": "other"}), on="group")
        both = both[both["skill"] != both["other"]]
        tables.append(both[["skill", "other"]].assign(kind="sibling"))
    return pd.concat(tables, ignore_index=True).astype({"skill": int, "other": int})
