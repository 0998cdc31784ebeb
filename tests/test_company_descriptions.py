"""Labelled sentences: read, settled, divided and balanced without a trick."""

import json

import numpy as np
import pandas as pd
import pytest

from ojd_daps_language_models.configs import (
    CompanyDescriptionsConfig,
    parse_config,
)
from ojd_daps_language_models.getters.company_descriptions import (
    iter_sentence_parts,
    iter_sentences,
)
from ojd_daps_language_models.preprocessing.company_descriptions import (
    NEGATIVE,
    POSITIVE,
    prepare_sentences,
    settle_labels,
    undersample,
)

COLUMNS = {
    "text": "sentence",
    "label": "label",
    "id": None,
    "employer": "employer",
    "advert": None,
}
LABELS = {POSITIVE: ["1", "true", POSITIVE], NEGATIVE: ["0", "false", NEGATIVE]}


def write(path, rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def read(path, columns=COLUMNS, labels=LABELS):
    chunks = list(iter_sentences(path, columns, labels, 1000))
    return tuple(
        pd.concat(tables, ignore_index=True) for tables in zip(*chunks, strict=True)
    )


def rows(count=120, employers=12, share=0.25):
    """Sentences that all differ, a share of them about the company."""
    return [
        {
            "sentence": f"Text {number} says {number * 7} things about {number * 3}",
            "label": int(number // employers % round(1 / share) == 0),
            "employer": f"E{number % employers}",
        }
        for number in range(count)
    ]


def prepare(tmp_path, data, changes="", test=None):
    text = f"data: {{columns: {{id: null, advert: null}}}}\n{changes}"
    config = parse_config(text, CompanyDescriptionsConfig)
    path = write(tmp_path / "data.jsonl", data)
    test = write(tmp_path / "test.jsonl", test) if test else None
    return prepare_sentences(iter_sentence_parts(path, None, test, config.data), config)


# Reading


@pytest.mark.parametrize(
    ("said", "label"),
    [
        *((1, POSITIVE), ("1", POSITIVE), (1.0, POSITIVE), (True, POSITIVE)),
        *(("TRUE", POSITIVE), (" Company_Description ", POSITIVE)),
        *((0, NEGATIVE), ("false", NEGATIVE), (False, NEGATIVE)),
    ],
)
def test_labels_may_be_numbers_truth_values_or_names(said, label, tmp_path):
    row = {"sentence": "We are old", "label": said, "employer": "A"}
    found, aside = read(write(tmp_path / "a.jsonl", [row]))
    assert found["label"].tolist() == [label] and aside.empty


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"label": "maybe"}, "the label is neither of the two: 'maybe'"),
        ({"label": 2}, "the label is neither of the two: '2'"),
        ({"label": None}, "the label is missing"),
        ({"employer": None}, "neither an employer nor an advert is given"),
        ({"sentence": "  "}, "the text is empty"),
        ({"sentence": None}, "the text is missing"),
    ],
)
def test_a_row_that_cannot_be_used_is_kept_aside_with_its_place(row, reason, tmp_path):
    good = {"sentence": "We are old", "label": 1, "employer": "A"}
    found, aside = read(write(tmp_path / "a.jsonl", [good, good | row]))
    assert len(found) == 1
    assert aside[["source", "row", "reason"]].values.tolist() == [
        ["a.jsonl", 2, reason]
    ]


def test_names_of_one_s_own_for_the_labels(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("sentence,label,employer\nWe are old,about,A\nApply now,rest,A\n")
    own = {POSITIVE: ["About"], NEGATIVE: ["Rest"]}
    assert read(str(path), labels=own)[0]["label"].tolist() == [POSITIVE, NEGATIVE]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: {columns: {employer: null, advert: null}}", "both null"),
        (
            "data: {labels: {company_description: [x], not_company_description: [X]}}",
            "stand for both",
        ),
        (
            "data: {labels: {not_company_description: [rest, NA, None]}}",
            r"data.labels: \['na', 'none'\] mean that a label is missing, .* another",
        ),
        ("data: {labels: {not_company_description: [null]}}", "label is missing"),
        (
            "data: {min_words: 100, max_words: 80}",
            "^data: min_words 100 is above max_words 80, and every .* below$",
        ),
        ("training: {balance: smote}", "training.balance"),
        ("evaluation: {prevalence: 1}", "less than 1"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_config(text, CompanyDescriptionsConfig)


def test_labels_written_bare_in_yaml_mean_what_they_say():
    text = (
        "data: {labels: {company_description: [1, true], not_company_description: [0]}}"
    )
    labels = parse_config(text, CompanyDescriptionsConfig).data.labels
    assert labels.company_description == ["1", "True"]
    text = text.replace("1, true", "yes").replace("[0]", "[No, off]")
    labels = parse_config(text, CompanyDescriptionsConfig).data.labels
    assert labels.company_description == ["yes"]
    assert labels.not_company_description == ["No", "off"]


# Preparing


def test_every_row_is_kept_or_kept_aside(tmp_path):
    data = rows()
    data += [
        data[0],
        data[1] | {"label": "?"},
        {"sentence": "", "label": 1, "employer": "A"},
    ]
    data += [
        {"sentence": "Too short", "label": label, "employer": "E1"} for label in (0, 1)
    ]
    data += [
        {"sentence": "long " * 90, "label": label, "employer": "E1"} for label in (0, 1)
    ]
    prepared = prepare(tmp_path, data)
    assert len(prepared.sentences) + len(prepared.kept_aside) == len(data)
    assert prepared.report["funnel"][0]["sentences"] == len(data)
    assert prepared.report["funnel"][-1]["sentences"] == len(prepared.sentences)
    assert sum(row["sentences"] for row in prepared.report["kept_aside"]) == 7
    # the limits on length hold for both classes alike
    by_reason = {row["reason"]: row for row in prepared.report["kept_aside"]}
    for reason in ("fewer than 3 words", "more than 80 words"):
        assert by_reason[reason][POSITIVE] == by_reason[reason][NEGATIVE] == 1


def test_no_employer_and_no_sentence_is_on_two_sides(tmp_path):
    sentences = prepare(tmp_path, rows()).sentences
    assert (sentences.groupby("employer")["part"].nunique() == 1).all()
    assert sentences["text"].is_unique
    assert set(sentences["part"]) == {"train", "validation", "test"}


def test_the_seed_of_the_division_is_that_of_the_configuration(tmp_path):
    divisions = [
        tuple(prepare(tmp_path, rows(), f"split: {{seed: {seed}}}").sentences["part"])
        for seed in (0, 1, 1)
    ]
    assert divisions[0] != divisions[1] == divisions[2]


@pytest.mark.parametrize("balance", ["weights", "undersample", "none"])
def test_only_the_training_part_is_balanced(balance, tmp_path):
    data = rows(480, 24)
    prepared = prepare(tmp_path, data, f"training: {{balance: {balance}}}")
    parts = prepared.report["parts"]
    assert (parts["train"][POSITIVE] == parts["train"][NEGATIVE]) == (
        balance == "undersample"
    )
    for part in ("validation", "test"):
        share = parts[part][POSITIVE] / parts[part]["sentences"]
        assert share == pytest.approx(0.25, abs=0.08)
    assert prepared.report["prevalence"] == pytest.approx(0.25)
    reasons = {row["reason"] for row in prepared.report["kept_aside"]}
    assert ("left out to balance the training part" in reasons) == (
        balance == "undersample"
    )


def test_prevalence_counts_a_sentence_as_often_as_it_came(tmp_path):
    """What employers say of themselves stands in each of their adverts."""
    data = rows(120, 12)
    said = {row["employer"]: row for row in data if row["label"]}
    prepared = prepare(tmp_path, data + 9 * list(said.values()))
    positive = sum(row["label"] for row in data) + 9 * len(said)
    share = positive / (len(data) + 9 * len(said))
    assert prepared.report["prevalence"] == pytest.approx(share)
    assert len(prepared.sentences) == 120


def disputed(*labels, part="train", text="We make tea in Leeds for all of you"):
    return pd.DataFrame(
        {
            "text": [text] * len(labels),
            "label": [POSITIVE if label else NEGATIVE for label in labels],
            "part": part,
            "source": "a",
            "row": range(len(labels)),
            "id": [str(n) for n in range(len(labels))],
        }
    )


def test_most_copies_decide_and_a_tie_is_kept_aside():
    table = pd.concat(
        [
            disputed(1, 1, 0),
            disputed(1, 0, text="You drive a van through the north of England"),
            disputed(0, 0, text="Your pay is good and your hours are fine too"),
        ],
        ignore_index=True,
    )
    kept, aside, counts = settle_labels(table, 0.8)
    assert counts == {"sentences": 2, "settled": 1, "kept_aside": 1}
    assert set(kept.loc[kept["text"].str.startswith("We"), "label"]) == {POSITIVE}
    assert len(aside) == 2 and not kept["text"].str.startswith("You drive").any()


def test_official_parts_keep_their_labels():
    table = pd.concat([disputed(1, 1), disputed(0, part="test")], ignore_index=True)
    kept, aside, counts = settle_labels(table, 0.8)
    assert counts["sentences"] == 0 and aside.empty
    assert kept.loc[kept["part"] == "test", "label"].tolist() == [NEGATIVE]


def test_undersampling_leaves_other_parts_alone():
    table = pd.concat(
        [disputed(1, *[0] * 9), disputed(1, *[0] * 9, part="test")], ignore_index=True
    )
    kept, aside = undersample(table, seed=1)
    assert kept.groupby("part").size().to_dict() == {"test": 10, "train": 2}
    assert set(aside["label"]) == {NEGATIVE} and len(aside) == 8


def test_official_test_data_pushes_its_copies_out_of_training(tmp_path):
    data, test = rows(240, 12), rows(240, 12)[:40]
    prepared = prepare(tmp_path, data, test=test)
    assert prepared.report["parts"]["test"]["sentences"] == 40
    assert prepared.report["overlap"]["test"]["verbatim"] == 0
    reasons = {row["reason"] for row in prepared.report["kept_aside"]}
    assert "duplicate of a held-out sentence" in reasons


def test_parts_that_share_sentences_are_refused(tmp_path):
    data, config = rows(240, 12), "split: {max_verbatim_overlap: 0}"
    test = [
        {"sentence": f"{word} of our shops sells {word} tea.", "label": number % 2}
        | {"employer": "T"}
        for number, word in enumerate(["all", "each", "most", "half", "none", "one"])
    ]
    prepare(tmp_path, data, config, test)
    test[0]["sentence"] = "Text 7 says so. We make bread for all since 1900."
    data[0]["sentence"] = "We make bread for all since 1900. That is long ago now."
    with pytest.raises(ValueError, match=r"test: .* word for word in training"):
        prepare(tmp_path, data, config, test)


def test_the_test_part_cannot_choose_the_epoch(tmp_path):
    config = parse_config(
        "data: {columns: {id: null, advert: null}}", CompanyDescriptionsConfig
    )
    path = write(tmp_path / "data.jsonl", rows(240, 12))
    official = write(tmp_path / "official.jsonl", rows(240, 12)[:40])
    given = iter_sentence_parts(path, official, official, config.data)
    with pytest.raises(ValueError, match=r"100\.0% .* near-duplicate in test"):
        prepare_sentences(given, config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": 1}, f"the data: all 120 sentences are '{POSITIVE}'; expected both"),
        ({"label": "x"}, r"120 of 120 rows have no label that is known.*'x' \(120\)"),
        ({"employer": "A"}, r"too few groups of sentences.*found 1 \(sentences: 120\)"),
        ({"sentence": "Too short"}, r"no sentence is left.*fewer than 3 words \(120\)"),
    ],
)
def test_data_that_cannot_be_used_are_one_clear_error(change, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        prepare(tmp_path, [row | change for row in rows()])


def test_a_part_without_one_of_the_classes_is_refused(tmp_path):
    data = rows()
    test = [row | {"sentence": row["sentence"] + " today", "label": 0} for row in data]
    with pytest.raises(ValueError, match="test: all 120 sentences are 'not_company"):
        prepare(tmp_path, data, test=[r | {"employer": "T"} for r in test])


def test_sentences_of_an_advert_stay_together_where_no_employer_is_known(tmp_path):
    data = [
        {"sentence": row["sentence"], "label": row["label"], "advert": row["employer"]}
        for row in rows()
    ]
    config = parse_config(
        "data: {columns: {id: null, employer: null}}", CompanyDescriptionsConfig
    )
    path = write(tmp_path / "data.jsonl", data)
    given = iter_sentence_parts(path, None, None, config.data)
    sentences = prepare_sentences(given, config).sentences
    assert (sentences.groupby("advert")["part"].nunique() == 1).all()


@pytest.mark.parametrize("by", ["employer", "advert"])
def test_adverts_may_be_numbered_anew_for_each_employer(by, tmp_path):
    data = [row | {"advert": number // 60} for number, row in enumerate(rows())]
    text = f"data: {{columns: {{id: null}}}}\nsplit: {{by: {by}}}"
    config = parse_config(text, CompanyDescriptionsConfig)
    path = write(tmp_path / "data.jsonl", data)
    given = iter_sentence_parts(path, None, None, config.data)
    sentences = prepare_sentences(given, config).sentences
    assert set(sentences["advert"]) == {"0", "1"}
    keys = ["employer"] if by == "employer" else ["employer", "advert"]
    assert (sentences.groupby(keys)["part"].nunique() == 1).all()


def test_what_the_checkpoint_was_trained_on_is_counted(tmp_path):
    config = parse_config(
        "data: {columns: {id: null, advert: null}}", CompanyDescriptionsConfig
    )
    path = write(tmp_path / "data.jsonl", rows())
    given = lambda: iter_sentence_parts(path, None, None, config.data)  # noqa: E731
    first = prepare_sentences(given(), config)
    assert first.report["seen_by_checkpoint"] is None
    test = first.sentences.loc[first.sentences["part"] == "test", "text"]
    half = test.iloc[: len(test) // 2]
    seen = prepare_sentences(given(), config, list(half)).report["seen_by_checkpoint"]
    assert seen["test"]["verbatim_sentences"] == len(half)
    assert seen["validation"]["verbatim"] == 0
    assert np.isclose(seen["test"]["verbatim"], len(half) / len(test))
