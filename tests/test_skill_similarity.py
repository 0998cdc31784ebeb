"""Pairs and ESCO's export: read, linked, divided, and asked about without a trick."""

import json
from types import SimpleNamespace

import pandas as pd
import pytest

from ojd_daps_language_models import PROJECT_DIR
from ojd_daps_language_models.configs import SkillSimilarityConfig, parse_config
from ojd_daps_language_models.getters.skills import (
    check_skills,
    read_mentions,
    read_skills,
)
from ojd_daps_language_models.preprocessing.skill_labels import label_keys
from ojd_daps_language_models.preprocessing.skill_similarity import prepare_skills

URI = "http://data.europa.eu/esco/skill/"


def write(path, rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def pair(skill, other, **more):
    return {"skill": skill, "other": other, **more}


def many(count=40, others=3):
    """Pairs of skills that share no label."""
    return [
        pair(f"skill {number}", f"label {place} of {number}")
        for number in range(count)
        for place in range(others)
    ]


def prepare(tmp_path, pairs, changes=None, validation=None, test=None, mentions=None):
    settings = {"data": {"columns": {"id": None}}} | (changes or {})
    given = {}
    for name, rows in (("data", pairs), ("validation", validation), ("test", test)):
        given[name] = write(tmp_path / f"{name}.jsonl", rows) if rows else None
    if mentions:
        path = write(tmp_path / "mentions.jsonl", mentions)
        settings["data"] = settings["data"] | {"sentences": [path]}
    config = parse_config(json.dumps(settings), SkillSimilarityConfig)
    return prepare_skills(
        read_skills(*given.values(), config.data),
        read_mentions(given["data"], config.data),
        config,
    )


def scored(**more):
    columns = {"id": None, "score": "score"}
    return {"data": {"columns": columns}} | more


@pytest.fixture
def esco(tmp_path):
    """A folder as ESCO exports it, with a label of two skills, relations and groups."""
    folder = tmp_path / "esco"
    folder.mkdir()
    numbers = range(40)
    skills = pd.DataFrame(
        {
            "conceptUri": [f"{URI}{n}" for n in numbers],
            "preferredLabel": [f"Skill {n}" for n in numbers],
            "altLabels": [f"skill {n}\nalso {n}\nboth {n // 2}" for n in numbers],
            "description": [f"What number {n} is about." for n in numbers],
        }
    )
    skills.to_csv(folder / "skills_en.csv", index=False)
    pd.DataFrame(
        {
            "originalSkillUri": [f"{URI}{n}" for n in numbers],
            "relatedSkillUri": [f"{URI}{(n + 7) % 40}" for n in numbers],
        }
    ).to_csv(folder / "skillSkillRelations.csv", index=False)
    groups = [("KnowledgeSkillCompetence", f"{URI}{n}", f"g{n % 4}") for n in numbers]
    groups += [("SkillGroup", f"g{n}", "top") for n in range(4)]
    table = pd.DataFrame(groups, columns=["conceptType", "conceptUri", "broaderUri"])
    table.assign(broaderType="SkillGroup").to_csv(
        folder / "broaderRelationsSkillPillar.csv", index=False
    )
    return folder


# Reading


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json", ".parquet"])
def test_pairs_come_in_every_format(tmp_path, suffix):
    table = pd.DataFrame(many())
    path = tmp_path / f"pairs{suffix}"
    if suffix in (".csv", ".tsv"):
        table.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
    elif suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_json(path, orient="records", lines=suffix == ".jsonl")
    config = parse_config("data: {columns: {id: null}}", SkillSimilarityConfig)
    found = read_skills(str(path), None, None, config.data)["train"].pairs
    assert found["name"].tolist() == table["skill"].tolist()
    assert found["other"].tolist() == table["other"].tolist()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (pair("a", ""), "the other label is missing"),
        (pair(" ", "b"), "the skill is empty"),
        (pair(None, "b"), "the skill is missing"),
        (pair("a", "b" * 300), "the other label is longer than 200 characters"),
        (pair("Java  Script", "java script"), "both labels are the same"),
        (pair("skill 1", "label 1 of 1"), "the pair was given before"),
    ],
)
def test_a_pair_that_cannot_be_used_is_counted(tmp_path, row, reason):
    report = prepare(tmp_path, [*many(), row]).report
    assert report["kept_aside"] == [{"reason": reason, "pairs": 1}]
    assert report["funnel"][0]["pairs"] == report["funnel"][-1]["pairs"] + 1 == 121


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("high", "the score is not a number"),
        (4.5, "the score is not between 0 and 1"),
        (None, "the score is missing"),
    ],
)
def test_a_bad_score_is_counted_and_most_of_them_refused(tmp_path, value, reason):
    rows = [row | {"score": 1 - number % 3 / 9} for number, row in enumerate(many())]
    bad = pair("x", "y", score=value)
    report = prepare(tmp_path, [*rows, bad], scored()).report
    assert {"reason": reason, "pairs": 1} in report["kept_aside"]
    message = f"data.jsonl: 200 of 320 rows have no score.*row 1: {reason}"
    with pytest.raises(ValueError, match=message):
        prepare(tmp_path, [bad] * 200 + rows, scored())


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_scores_that_would_not_be_read_are_refused_before_the_run(tmp_path, suffix):
    table = pd.DataFrame(pair("audit", "weld", score=0.1, id=n) for n in range(3))
    path = tmp_path / f"pairs{suffix}"
    if suffix == ".csv":
        table.to_csv(path, index=False)
    elif suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_json(path, orient="records", lines=True)
    message = (
        f"pairs{suffix}: has a column 'score'.* name it under data.columns.score, or "
        "rename the column"
    )
    with pytest.raises(ValueError, match=message):
        check_skills(str(path), SkillSimilarityConfig().data)
    check_skills(
        str(path), parse_config(json.dumps(scored()), SkillSimilarityConfig).data
    )


def test_pairs_of_the_same_text_only_are_refused(tmp_path):
    message = (
        r"no pair is left.*both labels are the same \(5\), of data.jsonl; the first is "
        "row 1: both labels are the same"
    )
    with pytest.raises(ValueError, match=message):
        prepare(tmp_path, [pair(f"a {n}", f"A  {n}") for n in range(5)])


def test_too_few_skills_are_refused(tmp_path):
    message = r"data.jsonl: too few groups of skills for .* found 1 \(skills: 6\)"
    with pytest.raises(ValueError, match=message):
        prepare(tmp_path, [pair(f"skill {n}", "one label") for n in range(6)])


def test_pairs_without_another_label_are_refused(tmp_path):
    message = "no column 'other'; found 'skill', 'others'"
    with pytest.raises(ValueError, match=message):
        prepare(tmp_path, [{"skill": "a", "others": "b"}])


def test_ids_that_repeat_are_refused_where_most_do(tmp_path):
    rows = [row | {"id": number % 9} for number, row in enumerate(many())]
    message = r"data.jsonl: 111 of 120 rows have an id .*data.columns.id, or null"
    with pytest.raises(ValueError, match=message):
        prepare(tmp_path, rows, {"data": {"columns": {"id": "id"}}})


# Parts


def test_no_label_is_in_two_parts_whichever_column_it_stands_in(tmp_path):
    """`python` as a second label links to `python` as a first one."""
    chain = [pair(f"s{n}", f"s{n + 1}") for n in range(0, 20, 2)]
    shared = [pair(f"t{n}", f"shared {n // 2}") for n in range(20)]
    found = prepare(tmp_path, [*many(), *chain, *shared])
    labels = found.labels
    assert (labels.groupby("key")["part"].nunique() == 1).all()
    part_of = dict(zip(labels["key"], labels["part"], strict=True))
    for row in [*chain, *shared]:
        assert part_of[row["skill"]] == part_of[row["other"]]
    parts = found.report["parts"]
    assert all(parts[part]["skills"] for part in ("train", "validation", "test"))
    assert found.report["shared_labels"] == {"labels": 10, "skills": 20}


def test_a_first_label_in_the_second_column_is_a_related_skill(tmp_path):
    found = prepare(tmp_path, [*many(), pair("skill 1", "SKILL 2")])
    names = found.skills["name"]
    asked = found.queries[found.queries["task"] == "related_skills"]
    assert set(asked["text"]) <= {"skill 1", "skill 2"}
    assert found.report["relations"]["all"] == 1
    assert "SKILL 2" not in set(names)
    labels = found.labels[~found.labels["preferred"]]
    assert "skill 2" not in set(labels["key"])


def test_nothing_that_is_learnt_speaks_of_a_held_out_skill(tmp_path):
    changes = {"positives": {"sentences": 2, "descriptions": 1}}
    found = prepare(tmp_path, many(), changes)
    train = found.pairs[found.pairs["part"] == "train"]
    held_out = found.labels[found.labels["part"] != "train"]
    said = " | ".join([*train["text"], *train["other"]]).casefold() + " "
    for key in held_out["key"]:
        assert f"{key} " not in said and f"{key}," not in said


def test_scored_pairs_across_parts_are_not_learnt(tmp_path):
    rows = [row | {"score": 1.0} for row in many()]
    apart = [pair(f"skill {n}", f"skill {n + 1}", score=0.2) for n in range(39)]
    found = prepare(tmp_path, [*rows, *apart], scored())
    reasons = {row["reason"]: row["pairs"] for row in found.report["kept_aside"]}
    crossing = reasons["its labels are in different parts"]
    part = dict(zip(found.skills["name"], found.skills["part"], strict=True))
    expected = sum(part[row["skill"]] != part[row["other"]] for row in apart)
    assert crossing == expected > 0
    for row in found.pairs.itertuples():
        if row.other in part:
            assert part[row.text] == part[row.other] == row.part


def like_and_unlike(count=40):
    """Pairs of one skill, and of two, with their scores."""
    like = [row | {"score": 1.0} for row in many(count)]
    unlike = [pair(f"skill {n}", f"skill {n + 1}", score=0.2) for n in range(count - 1)]
    return [*like, *unlike]


def test_unlike_pairs_of_each_part_are_counted(tmp_path):
    """A division by skill leaves few of them, and on these the correlation rests."""
    split = {"validation": 0.3, "test": 0.3}
    found = prepare(tmp_path, like_and_unlike(), scored(split=split))
    pairs = found.pairs.dropna(subset="score")
    assert set(found.report["parts"]) == set(pairs["part"])
    for part, counts in found.report["parts"].items():
        scores = pairs.loc[pairs["part"] == part, "score"]
        assert counts["scored_pairs"] == len(scores)
        assert counts["unlike_pairs"] == (scores == 0.2).sum() > 0
    report = prepare(tmp_path, many()).report
    assert {counts["unlike_pairs"] for counts in report["parts"].values()} == {0}


@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_held_out_part_of_one_score_is_ranked_by_labels_alone(tmp_path, part, capsys):
    """Its rank correlation would be undefined, and no model with it is published."""
    alone = [pair(f"held out {n}", f"its label {n}", score=0.9) for n in range(4)]
    found = prepare(tmp_path, like_and_unlike(), scored(), **{part: alone})
    reason = "all pairs of its part have one score"
    aside = {row["reason"]: row["pairs"] for row in found.report["kept_aside"]}
    assert aside[reason] == 4
    assert found.kept_aside["reason"].value_counts()[reason] == 4
    funnel = [row["pairs"] for row in found.report["funnel"]]
    assert funnel[-2] - funnel[-1] == 4
    assert funnel[0] - funnel[-1] == len(found.kept_aside)
    assert found.report["parts"][part]["scored_pairs"] == 0
    assert part not in set(found.pairs["part"])
    asked = found.queries[found.queries["part"] == part]
    assert set(asked["text"]) == {row["other"] for row in alone}
    said = f"{part}: all pairs (4) have the score 0.9"
    assert said in capsys.readouterr().out


def test_a_part_without_labels_and_with_one_score_is_refused(tmp_path):
    alone = [pair(f"held out {n}", f"other {n}", score=0.1) for n in range(4)]
    message = r"test: no label.* two pairs of different score.*\(--test-data brings one"
    with pytest.raises(ValueError, match=message):
        prepare(tmp_path, like_and_unlike(), scored(), test=alone)


def test_training_pairs_of_one_score_are_refused(tmp_path):
    """CoSENT compares pairs of different scores: there are none to learn from."""
    rows = [row | {"score": 1.0} for row in many()]
    held_out = [pair(f"s {n}", f"t {n}", score=n / 4) for n in range(5)]
    test = [pair(f"u {n}", f"v {n}", score=n / 4) for n in range(5)]
    message = r"train: all pairs \(120\) have the score 1, from which nothing can be"
    with pytest.raises(ValueError, match=message):
        prepare(tmp_path, rows, scored(), validation=held_out, test=test)


def test_official_parts_stay_and_training_skills_that_share_their_labels_leave(
    tmp_path,
):
    test = [pair("held out", "its label"), pair("Skill 3", "another word")]
    rows = [*many(), pair("skill 5", "Its  label")]
    found = prepare(tmp_path, rows, test=test)
    skills = found.skills.set_index("name")
    assert set(skills.index[skills["part"] == "test"]) == {"held out", "skill 3"}
    assert skills.loc["skill 5", "part"] == "left out"
    reasons = {row["reason"]: row["pairs"] for row in found.report["kept_aside"]}
    assert reasons == {
        "its skill is in a held-out part": 3,
        "a label is in a held-out part": 4,
    }
    asked = found.queries[found.queries["part"] == "test"]
    # both skills that have the label are right
    right = asked[asked["text"] == "its label"]["skill"].map(found.skills["name"])
    assert set(right) == {"held out", "skill 5"}
    assert set(asked["text"]) == {"its label", "another word"}
    assert found.report["overlap"]["test"]["seen"] == 0


def test_official_parts_that_share_labels_are_refused(tmp_path):
    parts = {"validation": many(4), "test": many(2)}
    with pytest.raises(
        ValueError, match=r"validation: 50.0% of its labels are in test"
    ):
        prepare(tmp_path, many()[60:], **parts)


def test_added_rows_leave_every_skill_in_its_part(tmp_path):
    before = prepare(tmp_path, many())
    after = prepare(tmp_path, [*many(), pair("zzz", "new"), pair("zz", "newer")])
    part = dict(zip(after.skills["name"], after.skills["part"], strict=True))
    moved = [
        name
        for name, own in zip(before.skills["name"], before.skills["part"], strict=True)
        if part[name] != own
    ]
    assert len(moved) <= 2


def test_seeds_of_division_and_drawing_are_those_of_the_configuration(tmp_path):
    settings = [
        {"split": {"seed": split}, "positives": {"sentences": 1, "seed": drawn}}
        for split, drawn in ((0, 0), (1, 0), (0, 1), (0, 1))
    ]
    one, divided, drawn, again = (prepare(tmp_path, many(), row) for row in settings)
    assert not one.skills["part"].equals(divided.skills["part"])
    assert one.skills["part"].equals(drawn.skills["part"])
    assert not one.pairs["text"].equals(drawn.pairs["text"])
    assert drawn.pairs["text"].equals(again.pairs["text"])


# Sentences of adverts


def test_sentences_are_asked_once_with_all_their_skills(tmp_path):
    mentions = [
        {"sentence": "We do 1 and 2.", "label": "Skill 1"},
        {"sentence": "We do 1 and 2.", "label": "skill 2"},
        {"sentence": "We do 1 and 2.", "label": "skill 2"},
        {"sentence": "Nothing.", "label": "UNDERSPECIFIED"},
        {"sentence": "We juggle.", "label": "juggling"},
    ]
    found = prepare(tmp_path, many(), mentions=mentions)
    asked = found.queries[found.queries["task"] == "sentences"]
    assert asked["text"].tolist() == ["We do 1 and 2."] * 2
    assert found.report["queries"]["files"]["mentions"] == {
        "sentences": 3,
        "mentions": 5,
        "no_skill": 1,
        "unknown_labels": 1,
        "kept_sentences": 1,
    }


@pytest.mark.parametrize(
    ("files", "given", "names"),
    [
        (["my.tech.jsonl", "my.house.jsonl"], None, ["my.tech", "my.house"]),
        (["tech/a.jsonl", "house/a.jsonl"], ["tech/a.jsonl", "house"], None),
        (["1.0/tech/a.jsonl", "1.0/house/a.jsonl"], ["1.0/*/a.jsonl"], None),
        (["a.jsonl", "a.ndjson"], None, None),
    ],
)
def test_each_file_of_sentences_is_scored_on_its_own(tmp_path, files, given, names):
    """Scores are published, and no more of a path with them than tells files apart."""
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / file, [{"sentence": "We do 1.", "label": "skill 1"}])
    paths = [str(tmp_path / path) for path in given or files]
    text = json.dumps({"data": {"sentences": paths}})
    data = parse_config(text, SkillSimilarityConfig).data
    found = set(read_mentions("own.csv", data)[0]["file"])
    assert found == {file.removeprefix("1.0/") for file in names or files}


def test_sentences_without_a_known_label_are_refused(tmp_path):
    mentions = [{"sentence": "We juggle.", "label": "juggling"}]
    message = "mentions.jsonl: none of its 1 labels is the name of a skill.*'juggling'"
    with pytest.raises(ValueError, match=message):
        prepare(tmp_path, many(), mentions=mentions)


def test_sentences_of_the_sample_are_not_asked_of_other_skills(tmp_path, capsys):
    file = PROJECT_DIR / "configs" / "skill_similarity.yaml"
    config = parse_config(file.read_text(encoding="utf-8"), SkillSimilarityConfig)
    assert len(read_mentions("sample", config.data)[0]) and not capsys.readouterr().out
    rows = [row | {"id": number} for number, row in enumerate(many())]
    path = write(tmp_path / "own.jsonl", rows)
    skills = read_skills(path, None, None, config.data)
    found = prepare_skills(skills, read_mentions(path, config.data), config)
    assert found.report["queries"]["files"] == {}
    assert "those of the sample are left out" in capsys.readouterr().out


# ESCO


def esco_config(**positives):
    changes = {"positives": positives, "split": {"validation": 0.2, "test": 0.2}}
    return parse_config(json.dumps(changes), SkillSimilarityConfig)


def prepare_esco(folder, config):
    given = read_skills(str(folder), None, None, config.data)
    return prepare_skills(given, read_mentions(str(folder), config.data), config)


def test_esco_is_recognised_with_labels_relations_groups_and_attribution(esco, capsys):
    found = prepare_esco(esco, esco_config())
    sentence = "This service uses the ESCO classification of the European Commission."
    assert found.report["attribution"] == sentence
    assert sentence in capsys.readouterr().out
    assert found.report["kept_aside"] == [
        {"reason": "both labels are the same", "pairs": 40}
    ]
    assert found.report["shared_labels"] == {"labels": 20, "skills": 40}
    assert found.report["relations"]["all"] == 40
    assert found.skills["group"].nunique() == 4
    assert (found.pairs["kind"] == "description").any()


def test_relations_and_siblings_are_learnt_within_training_only(esco):
    found = prepare_esco(esco, esco_config(relations=True, siblings=2))
    part = dict(zip(found.skills["name"], found.skills["part"], strict=True))
    learnt = found.pairs[found.pairs["kind"].isin(["related", "sibling"])]
    assert set(learnt["kind"]) == {"related", "sibling"}
    assert {part[text] for text in [*learnt["text"], *learnt["other"]]} == {"train"}
    group = dict(zip(found.skills["name"], found.skills["group"], strict=True))
    siblings = learnt[learnt["kind"] == "sibling"]
    assert (siblings["text"].map(group) == siblings["other"].map(group)).all()
    assert siblings["text"].value_counts().max() == 2


def test_esco_of_another_language_says_which_key(esco):
    (esco / "skills_en.csv").rename(esco / "skills_fr.csv")
    message = r"no skills_en.csv; found skills_fr.csv: set data.language to fr"
    with pytest.raises(ValueError, match=message):
        check_skills(str(esco), esco_config().data)
    french = parse_config("data: {language: fr}", SkillSimilarityConfig)
    check_skills(str(esco), french.data)


def test_a_row_of_esco_that_cannot_be_read_is_named(esco):
    with open(esco / "skillSkillRelations.csv", "a") as file:
        file.write("one,two,three,four\n")
    with pytest.raises(ValueError, match=r"skillSkillRelations.csv, row 41: .* ESCO"):
        prepare_esco(esco, esco_config())


def test_esco_of_another_version_names_file_and_columns(esco):
    table = pd.read_csv(esco / "skills_en.csv")
    table.rename(columns={"altLabels": "altLabel"}).to_csv(
        esco / "skills_en.csv", index=False
    )
    message = "skills_en.csv: no column 'altLabels'.*expected the folder of ESCO's exp"
    with pytest.raises(ValueError, match=message) as error:
        check_skills(str(esco), esco_config().data)
    assert "Your names of columns" not in str(error.value)
    table.to_csv(esco / "skills_en.csv", index=False)
    (esco / "skillSkillRelations.csv").unlink()
    with pytest.raises(ValueError, match=r"no skillSkillRelations.csv; found"):
        check_skills(str(esco), esco_config().data)


def test_a_single_file_of_esco_asks_for_the_folder(esco):
    with pytest.raises(ValueError, match="expected the folder of ESCO's export"):
        check_skills(str(esco / "skills_en.csv"), esco_config().data)
    pairs = parse_config("data: {format: esco}", SkillSimilarityConfig)
    (esco / "skills_en.csv").unlink()
    with pytest.raises(ValueError, match=r"no skills_en.csv; found"):
        check_skills(str(esco), pairs.data)


def test_esco_comes_from_s3_too(esco, s3):
    for path in esco.iterdir():
        s3.put(f"esco/{path.name}", path.read_bytes())
    config = esco_config()
    there = prepare_esco(f"s3://{s3.bucket}/esco/", config)
    assert (
        there.report["fingerprint"] == prepare_esco(esco, config).report["fingerprint"]
    )


def test_keys_tell_labels_apart():
    assert label_keys([" Java  Script", "java script\n"]) == ["java script"] * 2


def test_what_is_known_of_the_checkpoint_is_counted(esco):
    config = esco_config()
    given = read_skills(str(esco), None, None, config.data)
    seen = ["ALSO 1", "3 also"]
    mentions = read_mentions(str(esco), config.data)
    counts = prepare_skills(given, mentions, config, seen).report["seen_by_checkpoint"]
    total = SimpleNamespace(
        seen=sum(row["seen"] for row in counts.values()),
        order=sum(row["seen_in_another_order"] for row in counts.values()),
    )
    part = prepare_esco(esco, config).labels.set_index("key")["part"]
    assert total.seen == (part["also 1"] != "train")
    assert total.order == total.seen + (part["also 3"] != "train")
