"""What is asked of a vocabulary of skills, and which answers are right."""

import pandas as pd

from ojd_daps_language_models.preprocessing.skill_labels import label_keys
from ojd_daps_language_models.preprocessing.splits import TEST, VALIDATION

LABELS, RELATED, SENTENCES = "alternative_labels", "related_skills", "sentences"


def make_queries(
    skills: pd.DataFrame,
    labels: pd.DataFrame,
    relations: pd.DataFrame,
    mentions: pd.DataFrame,
    no_skill: list[str],
) -> tuple[pd.DataFrame, dict]:
    """Queries to a ranking of all skills by name, with every right answer.

    - An alternative label: right are all skills that have it. One that is the name of a
      skill is left out.
    - The name of a skill: right are those related to it, and it is no answer itself.
    - A sentence of an advert: right are the skills that it mentions.

    Args:
        skills: of `skill_similarity.prepare_skills`.
        labels: likewise.
        relations: of `skill_labels.list_relations`.
        mentions: of the getter.
        no_skill: labels of sentences that name no skill.

    Returns:
        A row for each right answer: task, part, file (of sentences), text (the query),
        cluster (what is drawn together in the bootstrap), itself (number of the skill
        that is no answer, or -1), skill. Sentences are in the part `test`.

        And counts: `names_left_out`, of labels; and for each file of sentences
        `sentences`, `mentions`, `no_skill`, `unknown_labels` and `kept_sentences`.

    Raises:
        ValueError: none of the labels of a file of sentences is known.
    """
    asked = [_of_labels(skills, labels), _of_relations(skills, relations)]
    found, counts = _of_sentences(skills, labels, mentions, no_skill)
    queries = pd.concat([*asked, found], ignore_index=True)
    held_out = labels[labels["part"].isin([VALIDATION, TEST]) & ~labels["preferred"]]
    left_out = held_out["key"].isin(labels.loc[labels["preferred"], "key"])
    report = {
        "names_left_out": int(held_out.loc[left_out, "key"].nunique()),
        "files": counts,
    }
    columns = ["task", "part", "file", "text", "cluster", "itself", "skill"]
    return queries[columns].astype({"itself": int, "skill": int}), report


def check_queries(queries: pd.DataFrame, scored: pd.DataFrame) -> None:
    """Raise ValueError where a part has nothing that could choose or score a model.

    Args:
        queries: of `make_queries`.
        scored: pairs with scores, and their part.
    """
    asked = queries[queries["task"] == LABELS]
    for part in (VALIDATION, TEST):
        scores = scored.loc[scored["part"] == part, "score"]
        if not (asked["part"] == part).any() and scores.nunique() < 2:
            raise ValueError(
                f"{part}: no label to find a skill by, and no two pairs of different "
                "score; expected skills with other labels, or different scores of "
                f"pairs of skills of this part alone (--{part}-data brings one)"
            )


def _of_labels(skills: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    names = set(labels.loc[labels["preferred"], "key"])
    held_out = labels[labels["part"].isin([VALIDATION, TEST])]
    first = held_out[~held_out["key"].isin(names)].drop_duplicates("key")
    first = first.set_index("key")
    # Skills that left training for such a label have it as well.
    right = labels[labels["key"].isin(first.index)]
    return pd.DataFrame(
        {
            "task": LABELS,
            "part": right["key"].map(first["part"]),
            "file": "",
            "text": right["key"].map(first["text"]),
            "cluster": right["skill"].map(skills["cluster"]),
            "itself": -1,
            "skill": right["skill"],
        }
    )


def _of_relations(skills: pd.DataFrame, relations: pd.DataFrame) -> pd.DataFrame:
    known = relations[["skill", "other"]]
    back = known.rename(columns={"skill": "other", "other": "skill"})
    both = pd.concat([known, back], ignore_index=True)
    both["part"] = both["skill"].map(skills["part"])
    both = both[both["part"].isin([VALIDATION, TEST])]
    return pd.DataFrame(
        {
            "task": RELATED,
            "part": both["part"],
            "file": "",
            "text": both["skill"].map(skills["name"]),
            "cluster": both["skill"].map(skills["cluster"]),
            "itself": both["skill"],
            "skill": both["other"],
        }
    )


def _of_sentences(
    skills: pd.DataFrame,
    labels: pd.DataFrame,
    mentions: pd.DataFrame,
    no_skill: list[str],
) -> tuple[pd.DataFrame, dict]:
    preferred = labels[labels["preferred"]]
    number_of = dict(zip(preferred["key"], preferred["skill"], strict=True))
    nothing = set(label_keys(no_skill))
    mentions = mentions.assign(key=label_keys(mentions["label"]))
    mentions["skill"] = mentions["key"].map(number_of)
    counts = {}
    for file, rows in mentions.groupby("file"):
        named = rows[~rows["key"].isin(nothing)]
        known = named.dropna(subset="skill")
        counts[file] = {
            "sentences": int(rows["text"].nunique()),
            "mentions": len(rows),
            "no_skill": len(rows) - len(named),
            "unknown_labels": len(named) - len(known),
            "kept_sentences": int(known["text"].nunique()),
        }
        if known.empty:
            said = ", ".join(repr(label) for label in rows["label"].unique()[:3])
            raise ValueError(
                f"{rows['source'].iloc[0]}: none of its {len(rows):,} labels is the "
                f"name of a skill in the data; found {said}. Labels that mean none go "
                "into data.no_skill"
            )
    known = mentions.dropna(subset="skill").drop_duplicates(["file", "text", "skill"])
    known = known[~known["key"].isin(nothing)]
    return pd.DataFrame(
        {
            "task": SENTENCES,
            "part": TEST,
            "file": known["file"],
            "text": known["text"],
            "cluster": known["file"] + "\n" + known["text"],
            "itself": -1,
            "skill": known["skill"].astype(int),
        }
    ), counts
