"""What the reports say is what the artifacts hold."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from metaflow.cards import Markdown, ProgressBar, Table, VegaChart

from ojd_daps_language_models.cards.company_descriptions import (
    company_descriptions_report,
)
from ojd_daps_language_models.cards.components import live_curves
from ojd_daps_language_models.cards.mlm import mlm_report
from ojd_daps_language_models.cards.nsp import nsp_report

PARTS = ("train", "validation", "test")
NAN = float("nan")
OVERLAP = {"verbatim": 0.0125, "near": 0.0, "verbatim_sentences": 31}


class Card(list):
    """What a report was appended to."""

    def refresh(self):
        pass

    def charts(self) -> list[dict]:
        return [part._spec for part in self if isinstance(part, VegaChart)]

    def tables(self) -> list[list[dict[str, str]]]:
        """The rows of each table, by header."""
        return [
            [dict(zip(part._headers, row, strict=True)) for row in part._data]
            for part in self
            if isinstance(part, Table)
        ]

    def text(self) -> str:
        return "\n".join(part._text for part in self if isinstance(part, Markdown))


def score(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.0125, "high": value + 0.0125}


def by_seed(scores: dict, seeds: list[int]) -> dict:
    """`seeds` and `spread` of the systems' scores."""
    plain = {
        group: {name: row["after"]["value"] for name, row in measures.items()}
        for group, measures in scores.items()
    }
    numbers = {"standard_deviation": 0.0071, "least": 0.8, "greatest": 0.875}
    spread = {
        group: {name: {"mean": value, **numbers} for name, value in measures.items()}
        for group, measures in plain.items()
    }
    shifted = [
        {
            "seed": seed,
            "scores": {
                group: {name: value - 0.004 * n for name, value in measures.items()}
                for group, measures in plain.items()
            },
        }
        for n, seed in enumerate(seeds)
    ]
    return {"seeds": shifted, "spread": spread if len(seeds) > 1 else {}}


def training_log(seeds: list[int]) -> pd.DataFrame:
    """Two epochs of twenty steps for each seed."""
    rows = []
    for number, seed in enumerate(seeds):
        for step in range(2, 42, 2):
            row = {"seed": seed, "step": step, "epoch": step / 20, "seconds": step / 2}
            loss = 0.7 * 0.96**step + 0.02 * number
            rows.append({**row, "loss": loss})
            if step % 20 == 0:
                scores = {"validation_average_precision": 0.95 - loss / 4}
                rows.append({**row, "validation_loss": loss + 0.1, **scores})
    return pd.DataFrame(rows)


def made_from() -> dict:
    """What all reports are given alike: an MLM run, itself on an earlier one."""
    first = {
        "checkpoint": "embedded",
        "data": "old.csv",
        "data fingerprint": "0f0f",
        "revision": "cafe01",
    }
    second = {
        "checkpoint": "run:MLMFlow/7",
        "data": "new.csv",
        "data fingerprint": "1e1e",
        "revision": "cafe02",
        "origin": first,
    }
    return {
        "lineage": {
            "checkpoint": "run:MLMFlow/12",
            "checkpoint revision": None,
            "data": "sentences.csv",
            "data fingerprint": "2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d",
            "revision": "cafe03-dirty",
            "python": "3.11.7",
            "origin": second,
        },
        "costs": {
            "load": {"seconds": 3.2, "peak_memory_mb": 410},
            "train": {"seconds": 71.5, "peak_memory_mb": 1400},
        },
        "config": {"training": {"epochs": 2, "batch_size": 16}},
    }


def data_report(unit: str, **own) -> dict:
    return {
        "funnel": [
            {"stage": "rows read", unit: 1480},
            {"stage": "with a usable text", unit: 1471},
            {"stage": "long enough, in the language", unit: 1460},
            {"stage": "after near and exact duplicates", unit: 1221},
        ],
        "kept_aside": [
            {"reason": "exact duplicate", unit: 239},
            {"reason": "in another language (fr)", unit: 11},
        ],
        "personal_data": {"email": 51, "phone_number": 38},
        "names": "not looked for",
        "parts": {
            part: {unit: 1000 - 380 * n, "employers": 61 - 9 * n, "words": 91_250}
            for n, part in enumerate(PARTS)
        },
        "overlap": {"validation": OVERLAP, "test": OVERLAP},
        "fingerprint": "2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d",
        **own,
    }


def lengths() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {part: rng.integers(8, 129, 400) for part in PARTS}


def mlm_artifacts() -> dict:
    systems = {"floor": score(0.1), "before": score(0.2), "after": score(0.4321)}
    systems["change"] = score(0.2321)
    log = training_log([1]).drop(columns="seed")
    return {
        "data_report": data_report("adverts", sentences="the rules of spaCy"),
        "tokens": {part: {"lengths": values} for part, values in lengths().items()},
        "training_log": log,
        "metrics": {
            "adverts": 240,
            "hidden_tokens": 9125,
            "hidden_words": 8004,
            "head": "new, untrained",
            "scores": {
                "perplexity": {
                    name: score(value["value"] * 100) for name, value in systems.items()
                },
                "accuracy_at_1": systems,
                "accuracy_at_5": systems,
            },
            "by_pieces": [
                {"pieces": pieces, "system": system, "words": 9, "right": right}
                for system, right in (("before", 0.2), ("after", 0.4), ("floor", 0.1))
                for pieces in ("1 token", "2 tokens", "3 or more")
            ],
            "fill_mask": [
                {
                    "sentence": "We are looking for a [MASK].",
                    "before": [("man", 0.2)],
                    "after": [("nurse", 0.5)],
                }
            ],
        },
        **made_from(),
    }


KINDS = {"all": 0.81, "another_advert": 0.92, "same_employer": 0.79, "same_advert": 0.7}


def nsp_artifacts(seeds: list[int]) -> dict:
    scores = {
        kind: {
            measure: {
                "majority": score(0.5),
                "overlap": score(value - 0.15),
                "before": score(0.51),
                "after": score(value),
                "change": score(value - 0.51),
                "gain": score(0.15),
            }
            for measure in ("accuracy", "roc_auc")
        }
        for kind, value in KINDS.items()
    }
    counts = {"tp": 1501, "fp": 299, "fn": 499, "tn": 1701}
    metrics = {
        "adverts": 240,
        "pairs": 4000,
        "truncated": 17,
        "architecture": "BertForNextSentencePrediction",
        "head": "new, untrained",
        "overlap_threshold": 0.125,
        "scores": scores,
        "pairs_by_kind": {
            "another_advert": 2000,
            "same_employer": 1000,
            "same_advert": 1000,
        },
        "confusion": {
            kind: {
                "overlap": counts,
                "before": {"tp": 2000, "fp": 2000, "fn": 0, "tn": 0},
                "after": counts,
            }
            for kind in KINDS
        },
        **by_seed(scores, seeds),
    }
    pairs = {"another_advert": 500, "same_employer": 250, "same_advert": 250}
    report = data_report(
        "adverts",
        sentences="the rules of spaCy",
        pairs={part: {"first_sentences": 1000, **pairs, "moved": 13} for part in PARTS},
        too_few_sentences={"train": 5, "validation": 2, "test": 1},
        truncated={"train": 71, "validation": 19, "test": 17},
        seen_by_checkpoint={"test": {**OVERLAP, "verbatim": 0.375}},
    )
    return {
        "data_report": report,
        "lengths": lengths(),
        "training_log": training_log(seeds),
        "metrics": metrics,
        **made_from(),
    }


def company_artifacts(seeds: list[int]) -> dict:
    def systems(after: float, **others) -> dict:
        floors = {"tfidf": score(after - 0.06), "before": score(0.3)}
        gains = {"change": score(after - 0.3), "gain": score(0.06)}
        return {**floors, **others, "after": score(after), **gains}

    never = {"majority": {"value": NAN, "low": NAN, "high": NAN}}
    none = {"majority": {"value": 0.0, "low": 0.0, "high": 0.0}}
    scores = {
        "company_description": {
            "precision": systems(0.83, **never),
            "recall": systems(0.87, **none),
            "f1": systems(0.8495, **none),
            "average_precision": systems(0.91),
            "precision_at_prevalence": systems(0.52, **never),
        },
        "not_company_description": {
            name: systems(0.93, majority=score(0.7))
            for name in ("precision", "recall", "f1")
        },
        "both": {
            "accuracy": systems(0.9, majority=score(0.66)),
            "brier": systems(0.08),
        },
    }
    middles = np.arange(0.05, 1, 0.1)
    bins = [
        {
            "from": float(middle - 0.05),
            "to": float(middle + 0.05),
            "sentences": int(300 * abs(middle - 0.5) + 20),
            "predicted": float(middle),
            "observed": float(middle**1.2),
            "low": float(middle**1.2 * 0.85),
            "high": float(min(1, middle**1.2 * 1.15)),
        }
        for middle in middles
    ]
    other_bins = [row | {"observed": row["observed"] * 0.8} for row in bins[2:8]]
    labels = {"company_description": 331, "not_company_description": 669}
    report = data_report(
        "sentences",
        conflicts={"sentences": 21, "settled": 14, "kept_aside": 7},
        balance="The classes are weighted by their shares.",
        truncated={"train": 3, "validation": 1, "test": 2},
        seen_by_checkpoint=None,
    )
    report["parts"] = {
        part: numbers | labels for part, numbers in report["parts"].items()
    }
    return {
        "data_report": report,
        "lengths": lengths(),
        "training_log": training_log(seeds),
        "metrics": {
            "sentences": 1500,
            "employers": 43,
            "truncated": 2,
            "head": "new, untrained",
            "architecture": "BertForSequenceClassification",
            "labels": ["not_company_description", "company_description"],
            "threshold": {"after": 0.432, "tfidf": 0.387},
            "decision": "The likelier label is the one scored.",
            "prevalence": {
                "train": 0.331,
                "validation": 0.34,
                "test": 0.329,
                "assumed": 0.06,
            },
            "confusion": {
                "majority": {"tp": 0, "fp": 0, "fn": 493, "tn": 1007},
                "tfidf": {"tp": 390, "fp": 110, "fn": 103, "tn": 897},
                "before": {"tp": 200, "fp": 500, "fn": 293, "tn": 507},
                "after": {"tp": 429, "fp": 88, "fn": 64, "tn": 919},
            },
            "scores": scores,
            "reliability": {"after": bins, "tfidf": other_bins},
            **by_seed(scores, seeds),
        },
        **made_from(),
    }


REPORTS = {
    "mlm": (mlm_report, mlm_artifacts),
    "nsp": (nsp_report, lambda: nsp_artifacts([42])),
    "nsp, three seeds": (nsp_report, lambda: nsp_artifacts([42, 43, 44])),
    "company": (company_descriptions_report, lambda: company_artifacts([42])),
    "company, three seeds": (
        company_descriptions_report,
        lambda: company_artifacts([42, 43, 44]),
    ),
}


def report_on(name: str, change=lambda artifacts: None) -> Card:
    """The report of artifacts, some of them changed before."""
    report, artifacts = REPORTS[name]
    card, given = Card(), artifacts()
    change(given)
    report(card, "AFlow 12", **given)
    return card


def in_brackets(value: str, low: str, high: str) -> str:
    return f"{value} ({low}\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}{high})"


every_report = pytest.mark.parametrize("name", REPORTS)
with_seeds = pytest.mark.parametrize("name", ["nsp", "company"])


@every_report
def test_a_browser_can_read_it(name):
    parts = [part.render() for part in report_on(name)]
    json.dumps(parts, allow_nan=False)
    assert "error" not in {part["type"] for part in parts}


def test_the_table_holds_the_scores_of_each_kind_and_system():
    card = report_on("nsp")
    accuracy, ranking = card.tables()[:2]
    labels = [re.sub(r" \(.*", "", row[""]) for row in accuracy]
    assert labels == ["all kinds", "another advert", "same employer", "same advert"]
    assert accuracy[0]["after training"] == in_brackets("0.810", "0.798", "0.823")
    assert accuracy[3]["word overlap"] == in_brackets("0.550", "0.537", "0.562")
    assert accuracy[1]["change"] == ranking[1]["change"]
    assert "2,000" in accuracy[1][""]
    assert in_brackets("81.0%", "79.8%", "82.2%") in card.text()


def test_a_kind_that_is_not_there_is_left_out():
    def drop(given):
        for name in ("scores", "pairs_by_kind", "confusion"):
            del given["metrics"][name]["same_employer"]

    card = report_on("nsp", drop)
    assert all("employer" not in row[""] for row in card.tables()[0])
    assert "same employer" not in json.dumps(card.charts())
    assert "same advert" in json.dumps(card.charts())


def cells(card: Card) -> dict[tuple, int]:
    """Counts of the confusion matrices by row, system, truth and answer."""
    (chart,) = [chart for chart in card.charts() if "facet" in chart]
    return {
        (row["of"], row["system"], row["truth"], row["answer"]): row["count"]
        for row in chart["data"]["values"]
    }


def test_the_heat_maps_hold_the_counts():
    found = cells(report_on("nsp"))
    assert len(found) == 4 * 3 * 4
    of_kind = ("same advert", "after training")
    assert found[*of_kind, "follows", "follows"] == 1501
    assert found[*of_kind, "follows", "does not"] == 499
    assert found[*of_kind, "does not", "follows"] == 299
    assert found[*of_kind, "does not", "does not"] == 1701

    found = cells(report_on("company"))
    assert len(found) == 4 * 4
    assert found["test sentences", "after training", "company", "other"] == 64
    assert found["test sentences", "always the same answer", "other", "other"] == 1007


def test_a_heat_map_without_a_class_has_no_share_of_it():
    def drop(given):
        given["metrics"]["confusion"]["after"] |= {"tp": 0, "fn": 0}

    assert "0 (0%)" in json.dumps(report_on("company", drop).charts())


def test_a_share_of_nothing_is_undefined():
    card = report_on("company")
    precision, recall = card.tables()[0][:2]
    assert precision["always the same answer"] == "undefined"
    assert recall["always the same answer"] == in_brackets("0.000", "0.000", "0.000")
    assert precision["after training"] == in_brackets("0.830", "0.818", "0.842")
    assert "nan" not in json.dumps([part.render() for part in card]).lower()


def test_company_descriptions_begin_with_f1_and_what_it_means_where_they_are_rare():
    text = report_on("company").text()
    beginning = text[: text.index("## Scores")]
    assert f"**{in_brackets('0.850', '0.837', '0.862')}**" in beginning
    assert f"**{in_brackets('87.0%', '85.8%', '88.2%')}**" in beginning
    assert f"**{in_brackets('52.0%', '50.8%', '53.2%')}**" in beginning
    assert "6.0% of all sentences" in beginning


def test_it_shows_how_common_company_descriptions_are():
    (shares,) = [t for t in report_on("company").tables() if "assumed" in str(t)]
    column = [row["share of company descriptions"] for row in shares]
    assert column == ["33.1%", "34.0%", "32.9%", "6.0%"]


def test_it_says_how_the_published_model_decides():
    decision = company_artifacts([42])["metrics"]["decision"]
    assert decision in report_on("company").text()


def test_the_reliability_curve_and_its_bins_hold_what_was_counted():
    bins = company_artifacts([42])["metrics"]["reliability"]
    charts = [c for c in report_on("company").charts() if "predicted" in json.dumps(c)]
    assert len(charts) == 2
    for chart in charts:
        for system, label in (
            ("after", "after training"),
            ("tfidf", "TF-IDF"),
        ):
            drawn = [row for row in chart["data"]["values"] if row["system"] == label]
            assert drawn == [{"system": label, **row} for row in bins[system]]


def test_intervals_are_over_what_kept_sentences_together():
    def by_advert(given):
        given["metrics"]["grouped_by"] = "adverts"

    assert report_on("company").text().count("a bootstrap over employers") == 2
    text = report_on("company", by_advert).text()
    assert text.count("a bootstrap over adverts") == 2
    assert "employers" not in text.partition("### Parts")[0]


@with_seeds
def test_one_seed_has_no_spread(name):
    assert "## Seeds" not in report_on(name).text()


@with_seeds
def test_several_seeds_have_a_spread(name):
    card = report_on(f"{name}, three seeds")
    assert "3 seeds" in card.text() and "seed 42" in card.text()
    (table,) = [t for t in card.tables() if "standard deviation" in t[0]]
    metrics = REPORTS[f"{name}, three seeds"][1]()["metrics"]
    means = [
        row["mean"] for rows in metrics["spread"].values() for row in rows.values()
    ]
    assert [row["mean"] for row in table] == [f"{mean:.4f}" for mean in means]
    assert {row["standard deviation"] for row in table} == {"0.0071"}
    (chart,) = [c for c in card.charts() if "other seeds" in json.dumps(c)]
    points = chart["data"]["values"]
    assert len(points) == 3 * len(means)
    own = {point["seed"] for point in points if "this run" in point["model"]}
    assert own == {42}


@pytest.mark.parametrize(
    "name, loss",
    [
        ("mlm", "loss (nats per hidden token)"),
        ("nsp, three seeds", "loss (nats per pair)"),
        ("company, three seeds", "loss (nats per sentence)"),
    ],
)
def test_losses_are_drawn_for_each_part_and_seed(name, loss):
    log = REPORTS[name][1]()["training_log"]
    (chart,) = [c for c in report_on(name).charts() if loss in json.dumps(c)]
    drawn = chart["data"]["values"]
    for part, column in (("training", "loss"), ("validation", "validation_loss")):
        values = [row["loss"] for row in drawn if row["part"] == part]
        assert values == log[column].dropna().tolist()
    seeds = set(log["seed"]) if "seed" in log else {None}
    assert {row["seed"] for row in drawn} == seeds
    assert chart["encoding"]["detail"]["field"] == "seed"


def test_the_score_that_chooses_the_epoch_is_drawn_by_epoch():
    column = "validation_average_precision"
    (chart,) = [c for c in report_on("company").charts() if column in json.dumps(c)]
    drawn = chart["data"]["values"]
    log = company_artifacts([42])["training_log"].dropna(subset=column)
    assert [row[column] for row in drawn] == log[column].tolist()
    assert [row["epoch"] for row in drawn] == [1, 2]
    assert column not in json.dumps(report_on("nsp").charts())


@every_report
def test_without_training_it_says_so(name):
    text = report_on(
        name, lambda given: given.update(training_log=pd.DataFrame())
    ).text()
    assert text.count("Nothing was trained") == 2
    assert "It was trained on" not in text


@every_report
def test_the_funnel_counts_what_came_in(name):
    unit = "sentences" if name.startswith("company") else "adverts"
    (chart,) = [c for c in report_on(name).charts() if f"{unit} left" in json.dumps(c)]
    assert [row[unit] for row in chart["data"]["values"]] == [1480, 1471, 1460, 1221]


@every_report
def test_every_length_is_in_the_histogram(name):
    (chart,) = [c for c in report_on(name).charts() if "tokens per" in json.dumps(c)]
    unit = chart["encoding"]["y"]["field"]
    assert sum(row[unit] for row in chart["data"]["values"]) == 3 * 400


@every_report
def test_it_names_the_runs_that_the_checkpoint_comes_from(name):
    card = report_on(name)
    own = {row["what"]: row["value"] for row in card.tables()[-3]}
    assert own["checkpoint"] == "run:MLMFlow/12" and "origin" not in own
    assert card.tables()[-2] == [
        {
            "run": "run:MLMFlow/12",
            "its checkpoint": "run:MLMFlow/7",
            "its data": "new.csv",
            "data fingerprint": "1e1e",
            "code revision": "cafe02",
        },
        {
            "run": "run:MLMFlow/7",
            "its checkpoint": "embedded",
            "its data": "old.csv",
            "data fingerprint": "0f0f",
            "code revision": "cafe01",
        },
    ]


@every_report
def test_a_checkpoint_of_no_run_has_no_origin(name):
    text = report_on(name, lambda given: given["lineage"].update(origin=None)).text()
    assert "comes from" not in text.split("## How it was made")[1]


def test_it_tells_what_the_checkpoint_had_seen():
    assert "Overlap with what the checkpoint" not in report_on("mlm").text()
    assert "Not compared" in report_on("company").text()
    tables = report_on("nsp").tables()
    (seen,) = [t for t in tables if t[0].get("verbatim") == "0.375"]
    assert [row["part"] for row in seen] == ["test"]
    beginning = report_on("nsp").text().partition("## Scores")[0]
    told = "trained on before: 37.5% of its sentences word for word, 0.0% of its ad"
    assert "that this training never saw" in beginning and told in beginning
    assert "trained on before" not in report_on("company").text()


def test_pairs_and_adverts_without_one_are_counted():
    (pairs,) = [t for t in report_on("nsp").tables() if "moved" in t[0]]
    assert pairs[0] == {
        "part": "train",
        "first sentences": "1,000",
        "another advert": "500",
        "same employer": "250",
        "same advert": "250",
        "moved": "13",
        "truncated": "71",
        "adverts with too few sentences": "5",
    }


def test_contradicting_labels_are_counted():
    text = report_on("company").text()
    assert "21 sentences came with both labels: 14 were settled" in text
    assert "7 kept aside" in text


def test_the_live_bar_counts_the_steps_of_the_current_seed():
    card = Card()
    show = live_curves(card, "loss (nats per pair)")
    (bar,) = [part for part in card if isinstance(part, ProgressBar)]
    rows = [{"seed": 42, "step": 40, "epoch": 2.0, "seconds": 9.0, "loss": 0.5}]
    show(rows, 40)
    rows.append({"seed": 43, "step": 2, "epoch": 0.1, "seconds": 0.4, "loss": 0.7})
    show(rows, 40)
    assert (bar.render()["value"], bar.render()["max"]) == (2, 40)
    assert bar.render()["details"] == "seed 43"
    (chart,) = card.charts()
    assert [row["seed"] for row in chart["data"]["values"]] == [42, 43]
