"""The skills that pairs speak of, their labels, and which are related.

A skill is known by its preferred label, its name: wherever that stands, whatever its
case and white space, it is the same skill. A `key` is a label in that form.
"""

from collections.abc import Iterable

import pandas as pd

from ojd_daps_language_models.preprocessing.preparation import refuse_repeated_ids
from ojd_daps_language_models.preprocessing.splits import PARTS


def label_keys(labels: Iterable[str]) -> list[str]:
    """Labels in the form that tells them apart: no case, single spaces."""
    return [" ".join(label.casefold().split()) for label in labels]


def tidy_pairs(given: dict) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Pairs of different labels, each once in its part, and all others.

    Of a pair with several scores the mean is taken.

    Raises:
        ValueError: most ids of a part repeat.
    """
    for found in given.values():
        count = len(found.pairs) + len(found.kept_aside)
        refuse_repeated_ids(found.kept_aside, count)
    pairs = pd.concat(
        [found.pairs.assign(part=part) for part, found in given.items()],
        ignore_index=True,
    )
    pairs["text"] = pd.Series([" ".join(t.split()) for t in pairs["name"]], dtype="str")
    pairs["other"] = pd.Series(
        [" ".join(t.split()) for t in pairs["other"]], dtype="str"
    )
    pairs["key"] = label_keys(pairs["text"])
    pairs["other_key"] = label_keys(pairs["other"])
    pairs["score"] = pairs.groupby(["part", "key", "other_key"])["score"].transform(
        "mean"
    )
    alike = pairs["key"] == pairs["other_key"]
    again = pairs.duplicated(["part", "key", "other_key"]) & ~alike
    aside = [found.kept_aside for found in given.values()]
    aside += [
        set_aside(pairs[alike], "both labels are the same", "unfit"),
        set_aside(pairs[again], "the pair was given before", "duplicate"),
    ]
    return pairs[~alike & ~again], pd.concat(aside, ignore_index=True)


def list_skills(given: dict, pairs: pd.DataFrame, same: pd.Series) -> pd.DataFrame:
    """All skills, each once, by the key of its preferred label.

    In files of pairs these are the first labels, and those second ones that are not
    another label of any.
    """
    found = [table.skills.assign(part=part) for part, table in given.items()]
    others = set(pairs.loc[same, "other_key"]) | set(pairs["key"])
    alone = pairs[~pairs["other_key"].isin(others)]
    for rows, text in ((pairs, "text"), (alone, "other")):
        found.append(rows[[text, "part"]].set_axis(["name", "part"], axis=1))
    skills = pd.concat(found, ignore_index=True)
    skills["key"] = label_keys(skills["name"])
    # What is held out anywhere is held out: of several parts the last one counts.
    skills["part"] = pd.Categorical(skills["part"], PARTS, ordered=True)
    parts = skills.groupby("key", sort=False)["part"].max().astype("str")
    skills = skills.drop(columns=["skill", "part"]).drop_duplicates("key")
    return skills.assign(part=skills["key"].map(parts)).reset_index(drop=True)


def list_labels(
    skills: pd.DataFrame, same: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Labels of skills by key, and in files of pairs those skills that are related.

    There, a second label that is a first one elsewhere is a skill of its own.
    """
    names = set(skills["key"])
    # In an export a label may be the preferred one of another skill and stay a label.
    related = same["skill"].isna() & same["other_key"].isin(names)
    others = same[~related]
    labels = pd.concat(
        [
            skills.assign(skill=skills["key"], text=skills["name"], preferred=True),
            others.assign(skill=others["key"], text=others["other"], preferred=False)[
                ["skill", "text", "preferred"]
            ].assign(key=others["other_key"]),
        ],
        ignore_index=True,
    )[["skill", "text", "key", "preferred"]]
    labels = labels.drop_duplicates(["skill", "key"]).reset_index(drop=True)
    return labels, same.loc[related, ["key", "other_key"]]


def list_relations(
    given: dict, related: pd.DataFrame, skills: pd.DataFrame
) -> pd.DataFrame:
    """Pairs of related skills by number, each once, with the part of both."""
    named = pd.concat([table.skills for table in given.values()], ignore_index=True)
    key_of = dict(zip(named["skill"], label_keys(named["name"]), strict=True))
    found = pd.concat([table.relations for table in given.values()], ignore_index=True)
    found = pd.DataFrame({side: found[side].map(key_of) for side in ("skill", "other")})
    both = pd.concat([found, related.set_axis(["skill", "other"], axis=1)])
    numbers = dict(zip(skills["key"], range(len(skills)), strict=True))
    both = both.apply(lambda column: column.map(numbers)).dropna().astype(int)
    ordered = pd.DataFrame(
        {"skill": both.min(axis=1), "other": both.max(axis=1)}
    ).drop_duplicates(ignore_index=True)
    ordered = ordered[ordered["skill"] != ordered["other"]]
    one, other = (ordered[side].map(skills["part"]) for side in ("skill", "other"))
    return ordered.assign(part=one.where(one == other)).reset_index(drop=True)


def set_aside(pairs: pd.DataFrame, reason: str, stage: str) -> pd.DataFrame:
    """What is kept of pairs that are not used."""
    return pairs[["source", "row", "id"]].assign(reason=reason, stage=stage)
