"""The report on named entities says what the artifacts hold."""

import json
from itertools import product

import pandas as pd
import pytest
from test_cards import (
    NAN,
    PARTS,
    Card,
    by_seed,
    data_report,
    in_brackets,
    lengths,
    made_from,
    score,
)

from ojd_daps_language_models.cards.components import PALETTE, live_curves
from ojd_daps_language_models.cards.ner import LOSS, ner_report

LABELS = {
    "entities": ["SKILL", "BENEFIT"],
    "knowledge": ["KNOWLEDGE"],
    "KNOWLEDGE": ["KNOWLEDGE"],
}
LAYERS = ["entities", "knowledge"]
VALUES = {
    "micro": 0.6102,
    "macro": 0.5802,
    "SKILL": 0.6402,
    "BENEFIT": 0.5202,
    "KNOWLEDGE": 0.4002,
}
ERRORS = {
    "right": 300,
    "wrong_boundary": 70,
    "wrong_label": 20,
    "wrong_both": 10,
    "missed": 100,
    "invented": 90,
}
SENTENCE = "Python & SQL <at work>, *paid* holidays."


def systems(after: float) -> dict:
    return {
        "gazetteer": score(after - 0.3),
        "crf": score(after - 0.2),
        "before": {"value": 0.0, "low": 0.0, "high": 0.0},
        "after": score(after),
        "change": score(after),
        "gain": score(0.2),
    }


def scores_of(labels: list[str]) -> dict:
    scores = {
        group: {
            "precision": systems(VALUES[group] + 0.05),
            "recall": systems(VALUES[group] - 0.05),
            "f1": systems(VALUES[group]),
        }
        for group in (*labels, "micro", "macro")
    }
    scores["micro"] |= {"partial_f1": systems(0.75), "type_f1": systems(0.8)}
    scores[labels[0]]["precision"]["before"] = dict.fromkeys(
        ("value", "low", "high"), NAN
    )
    return scores


def errors_of(labels: list[str], invented: int) -> dict:
    """All errors are with the first label; some spans are taken for another."""
    counts = ERRORS | {"invented": invented}
    other = labels[1] if len(labels) > 1 else labels[0]
    return {
        "labels": {labels[0]: counts},
        "total": counts,
        "confusion": {labels[0]: {other: 30}} if other != labels[0] else {},
    }


def training_log(seeds: list[int]) -> pd.DataFrame:
    """Two epochs of twenty steps for each seed."""
    rows = []
    for seed, step in product(seeds, range(2, 42, 2)):
        row = {"seed": seed, "step": step, "epoch": step / 20}
        loss = 0.7 * 0.96**step
        rows.append({**row, "loss": loss})
        if step % 20 == 0:
            f1 = 0.9 - loss
            rows.append({**row, "validation_loss": loss + 0.1, "validation_f1": f1})
    return pd.DataFrame(rows)


def artifacts(layers=("entities",), seeds=(42,)) -> dict:
    scores = {layer: scores_of(LABELS[layer]) for layer in layers}
    groups = {
        group if len(layers) == 1 else f"{layer}, {group}": measures
        for layer, of_layer in scores.items()
        for group, measures in of_layer.items()
    }
    report = data_report(
        "texts",
        spans={"read": 9121, "kept": 9100, "repaired": 17},
        spans_kept_aside=[{"reason": "it overlaps another", "spans": 21}],
        examples_aside=[
            {
                "id": 12345,
                "reason": "it overlaps another",
                "label": "SKILL",
                "start": 1005,
                "end": 1012,
                "text": "a secret",
            }
        ],
        words="the tokenizer of spaCy",
        seen_by_checkpoint=None,
    )
    for part in report["parts"].values():
        part["adverts"] = 71
    metrics = {
        "texts": 240,
        "postings": 57,
        "head": "new, untrained",
        "scores": scores,
        "layers": {
            layer: {
                "labels": list(LABELS[layer]),
                "gold": 500,
                "head": "new, untrained",
                "errors": {
                    "after": errors_of(LABELS[layer], 90),
                    "crf": errors_of(LABELS[layer], 80),
                },
            }
            for layer in layers
        },
        "lost_to_truncation": {
            part: {"texts": 1000, "long_texts": 30, "spans": 3000, "lost": 45}
            for part in PARTS
        },
        **by_seed(groups, list(seeds)),
    }
    spans = [
        {"start": 0, "end": 6, "label": "SKILL"},
        {"start": 9, "end": 22, "label": "SKILL"},
        {"start": 24, "end": 39, "label": "BENEFIT"},
    ]
    return {
        "data_report": report,
        "lengths": lengths(),
        "training_log": training_log(seeds),
        "metrics": metrics,
        "examples": [
            {"layer": layer, "text": SENTENCE, "spans": spans} for layer in layers
        ],
        **made_from(),
    }


def report_on(layers=("entities",), seeds=(42,), change=lambda given: None) -> Card:
    """The report of artifacts, some of them changed before."""
    card, given = Card(), artifacts(layers, seeds)
    change(given)
    ner_report(card, "NERFlow 12", **given)
    return card


def titled(card: Card, title: str) -> list[dict[str, str]]:
    """The table that follows a title."""
    places = [
        number
        for number, part in enumerate(card)
        if getattr(part, "_text", "") == title
    ]
    (place,) = places
    after = Card(card[place:])
    return after.tables()[0]


every_report = pytest.mark.parametrize(
    "layers, seeds", [(["entities"], [42]), (LAYERS, [42, 43, 44])]
)


@every_report
def test_a_browser_can_read_it(layers, seeds):
    parts = [part.render() for part in report_on(layers, seeds)]
    json.dumps(parts, allow_nan=False)
    assert "error" not in {part["type"] for part in parts}


def test_it_begins_with_f1_beside_all_floors():
    text = report_on().text()
    beginning = text[: text.index("## Scores")]
    assert (
        f"SKILL, BENEFIT is **{in_brackets('0.610', '0.598', '0.623')}**" in beginning
    )
    assert f"CRF is {in_brackets('0.410', '0.398', '0.423')}" in beginning
    assert f"training spans {in_brackets('0.310', '0.298', '0.323')}" in beginning
    assert f"before training {in_brackets('0.000', '0.000', '0.000')}" in beginning
    assert "240 texts of 57 adverts" in beginning
    assert "It was trained on 1,000 texts from 71 adverts." in beginning


@pytest.mark.parametrize("resampled", ["texts", "employers"])
def test_where_adverts_are_not_known_none_are_counted(resampled):
    def change(given):
        given["metrics"]["resampled"] = resampled
        for part in given["data_report"]["parts"].values():
            part["adverts"] = 0

    text = report_on(change=change).text()
    beginning = text[: text.index("## Scores")]
    assert "It was scored on 240 texts that this training never saw." in beginning
    assert "It was trained on 1,000 texts." in beginning


def test_scores_stand_by_label_and_system():
    card = report_on()
    rows = {row[""]: row for row in titled(card, "### SKILL")}
    assert list(rows) == ["precision", "recall", "F1"]
    assert rows["F1"]["after training"] == in_brackets("0.640", "0.628", "0.653")
    assert rows["F1"]["dictionary"] == in_brackets("0.340", "0.328", "0.353")
    assert rows["precision"]["before training"] == "undefined"
    everything = [row[""] for row in titled(card, "### All labels")]
    assert everything == ["precision", "recall", "F1", "partial F1", "type F1"]
    assert len(titled(card, "### Mean over labels")) == 3


def test_the_chart_holds_f1_of_every_label_and_system():
    (chart,) = [c for c in report_on().charts() if '"row"' in json.dumps(c)]
    bars = {
        (bar["row"], bar["system"]): bar["value"] for bar in chart["data"]["values"]
    }
    assert len(bars) == 4 * 4  # two averages and two labels by four systems
    assert bars["BENEFIT", "after training"] == 0.5202
    assert bars["all labels", "CRF"] == pytest.approx(0.4102)


def test_a_layer_of_one_label_has_no_averages():
    card = report_on(LAYERS)
    titles = [line for line in card.text().splitlines() if line.startswith("### ")]
    assert titles[:5] == [
        "### Entities: all labels",
        "### Entities: mean over labels",
        "### Entities: SKILL",
        "### Entities: BENEFIT",
        "### Knowledge: KNOWLEDGE",
    ]
    assert len(titled(card, "### Knowledge: KNOWLEDGE")) == 5
    assert "for knowledge: KNOWLEDGE is **" in card.text()
    same_name = report_on(["entities", "KNOWLEDGE"])
    assert "### KNOWLEDGE: KNOWLEDGE" not in same_name.text()
    assert "for KNOWLEDGE is **" in same_name.text()


def test_errors_are_counted_for_the_model_and_the_crf():
    table = titled(report_on(), "## Errors on the test texts")
    rows = {(row["label"], row["system"]): row for row in table}
    assert rows["all labels", "after training"] == {
        "label": "all labels",
        "system": "after training",
        "gold spans": "500",
        "right": "300",
        "wrong boundary": "70",
        "wrong label": "20",
        "wrong both": "10",
        "missed": "100",
        "invented": "90",
    }
    assert rows["SKILL", "CRF"]["invented"] == "80"
    assert rows["BENEFIT", "CRF"]["gold spans"] == "0"


def test_confused_labels_are_named():
    card = report_on(LAYERS)
    assert titled(card, "### Labels that the model confuses") == [
        {"gold": "entities: SKILL", "model": "BENEFIT", "spans": "30"}
    ]
    assert "confuses" not in report_on(["knowledge"]).text()


def test_it_says_what_truncation_would_have_lost():
    text = report_on().text()
    assert "135 of 9,000 gold spans (1.5%) would have been lost" in text


def test_spans_kept_aside_are_counted_and_shown_without_their_text():
    card = report_on()
    assert "9,121 spans were read, 9,100 of them are used; 17 had" in card.text()
    (row,) = titled(card, "The first of them:")
    assert row == {
        "id": "12345",
        "reason": "it overlaps another",
        "label": "SKILL",
        "start": "1005",
        "end": "1012",
    }
    assert "a secret" not in json.dumps([part.render() for part in card])


def test_spans_are_marked_in_sentences_by_label():
    (html,) = [part for part in report_on().text().split("\n") if "<mark" in part]
    assert html.startswith("<div") and html.count("<mark") == 3
    assert "&amp; <mark" in html and "SQL &lt;at work&gt;<span" in html
    colours = [piece.split(";")[0] for piece in html.split("background: ")[1:]]
    assert colours[0] == colours[1] != colours[2]


def test_no_label_becomes_markup():
    def change(given):
        given["examples"][0]["spans"][0]["label"] = "<script>"
        given["metrics"]["layers"]["entities"]["labels"][0] = "<script>"

    (html,) = [p for p in report_on(change=change).text().split("\n") if "<mark" in p]
    assert "<script>" not in html and "&lt;script&gt;" in html
    assert f"{PALETTE[0]}50" in html


def test_without_examples_there_is_no_section():
    text = report_on(change=lambda given: given.update(examples=[])).text()
    assert "## What it finds" not in text


def test_several_seeds_have_a_spread():
    card = report_on(LAYERS, [42, 43, 44])
    (table,) = [t for t in card.tables() if "standard deviation" in t[0]]
    names = [row["score"] for row in table]
    assert len(names) == len(set(names)) == (4 * 3 + 2) + (3 * 3 + 2)
    assert "F1, entities, SKILL" in names and "type F1, knowledge, all labels" in names
    assert "## Seeds" not in report_on().text()


def test_the_live_bar_names_the_seed():
    card = Card()
    show = live_curves(card, LOSS)
    show(training_log([42]).iloc[:1].to_dict("records"), 40)
    assert card[1].render()["details"] == "seed 42"


def test_without_training_it_says_so():
    text = report_on(change=lambda given: given.update(training_log=pd.DataFrame()))
    assert text.text().count("Nothing was trained") == 2


@every_report
def test_every_length_is_in_the_histogram(layers, seeds):
    charts = report_on(layers, seeds).charts()
    (chart,) = [c for c in charts if "tokens per text" in json.dumps(c)]
    assert sum(row["texts"] for row in chart["data"]["values"]) == 3 * 400
