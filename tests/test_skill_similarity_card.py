"""The report on skills says what the artifacts hold."""

import json

import numpy as np
import pandas as pd
import pytest
from test_cards import Card, by_seed, in_brackets, made_from, score

from ojd_daps_language_models.cards.skill_similarity import skill_similarity_report

ATTRIBUTION = "This service uses the ESCO classification of the European Commission."


def systems(value: float) -> dict:
    return {
        "tfidf": score(value - 0.2),
        "before": score(value - 0.3),
        "after": score(value),
        "change": score(0.3),
        "gain": score(0.2),
    }


def skill_artifacts(seeds: list[int]) -> dict:
    scores = {
        "alternative_labels": {"mrr": systems(0.81), "recall_at_1": systems(0.7)},
        "related_skills": {"mrr": systems(0.5)},
        "sentences, House_A": {"mrr": systems(0.6), "rp_at_5": systems(0.55)},
    }
    log = [
        {"seed": seed, "step": step, "epoch": step / 10, "loss": 1 / step}
        for seed in seeds
        for step in range(1, 21)
    ]
    log += [
        {"seed": seed, "step": step, "epoch": step / 10, "validation_mrr": step / 40}
        for seed in seeds
        for step in (10, 20)
    ]
    counts = {"skills": 50, "labels": 300, "relations": 4, "scored_pairs": 0}
    seen = {"labels": 300, "seen": 0, "seen_in_another_order": 3}
    return {
        "data_report": {
            "funnel": [
                {"stage": "rows read", "pairs": 1229},
                {"stage": "each once", "pairs": 1209},
            ],
            "kept_aside": [{"reason": "both labels are the same", "pairs": 20}],
            "parts": {part: counts for part in ("train", "validation", "test")},
            "positives": {"other label": 788, "sentence": 195},
            "shared_labels": {"labels": 13, "skills": 26},
            "relations": {"all": 30, "across parts": 11},
            "queries": {
                "names_left_out": 7,
                "files": {"House_A": {"sentences": 77, "unknown_labels": 4}},
            },
            "overlap": {"validation": seen, "test": seen},
            "seen_by_checkpoint": None,
            "attribution": ATTRIBUTION,
        },
        "lengths": np.random.default_rng(0).integers(4, 40, 300),
        "training_log": pd.DataFrame(log),
        "metrics": {
            "skills": 300,
            "alternative_labels": 238,
            "related_skills": 12,
            "sentences": 61,
            "truncated": 0,
            "architecture": "BertModel, embeddings of 384 numbers",
            "head": "the checkpoint's own modules",
            "scores": scores,
            **by_seed(scores, seeds),
        },
        "space": {
            "map": [
                {"name": f"s{n}", "area": area, "system": system, "x": n, "y": -n}
                for system in ("before", "after")
                for n, area in enumerate(["wood", "wood", "metal", None, float("nan")])
            ],
            "neighbours": [
                {
                    "label": "bdgts. mgmt",
                    "skill": "manage budgets",
                    "before": ["manage events", "plan menus"],
                    "after": ["manage budgets", "plan budgets"],
                }
            ],
        },
        **made_from(),
    }


def of_pairs(artifacts: dict, **counts: int) -> None:
    """Make of artifacts those of a run on pairs with scores."""
    artifacts["metrics"]["scores"] = {"scored_pairs": {"spearman": systems(0.4)}}
    artifacts["metrics"]["scored_pairs"] = 30
    artifacts["metrics"] |= by_seed(artifacts["metrics"]["scores"], [42])
    test = artifacts["data_report"]["parts"]["test"] | {"scored_pairs": 30} | counts
    artifacts["data_report"]["parts"]["test"] = test


def report(seeds=(42,), change=lambda artifacts: None) -> Card:
    card, given = Card(), skill_artifacts(list(seeds))
    change(given)
    skill_similarity_report(card, "AFlow 12", **given)
    return card


@pytest.mark.parametrize("seeds", [[42], [42, 43, 44]])
def test_a_browser_can_read_it(seeds):
    parts = [part.render() for part in report(seeds)]
    json.dumps(parts, allow_nan=False)
    assert "error" not in {part["type"] for part in parts}
    assert ("## Seeds" in report(seeds).text()) == (len(seeds) > 1)


def test_it_begins_with_the_rank_of_the_right_skill_and_the_change():
    text = report().text()
    assert in_brackets("0.810", "0.798", "0.823") in text
    told = "238 other labels of skills that were not in the data of this training"
    assert told in text
    assert "other label (788), sentence (195)" in text
    assert "13 labels belong to several skills, 26 in all" in text
    assert "11 of 30 relations" in text
    assert text.count(ATTRIBUTION) == 1


def test_each_kind_of_query_has_a_table():
    tables = report().tables()
    assert [row[""] for row in tables[0]] == ["mean reciprocal rank", "recall at 1"]
    assert tables[0][0]["change"] == in_brackets("0.300", "0.287", "0.312")
    assert tables[2][1][""] == "R-precision at 5"
    assert "### Advert sentence to skill, House A" in report().text()
    (neighbours,) = [rows for rows in tables if "label" in rows[0]]
    assert neighbours[0]["after"] == "manage budgets; plan budgets"


def test_the_map_shows_before_first_and_colours_known_areas():
    (drawn,) = [chart for chart in report().charts() if "facet" in chart]
    values = drawn["data"]["values"]
    assert {row["area"] for row in values} == {"wood", "metal", "other areas"}
    order = drawn["facet"]["column"]["sort"]
    assert order.index("before training") < order.index("after training")
    colours = drawn["spec"]["encoding"]["color"]["scale"]
    assert len(colours["domain"]) == len(set(colours["range"])) == 3


def test_without_areas_training_or_scores_of_labels_it_still_says_what_it_knows():
    def bare(given):
        for row in given["space"]["map"]:
            row["area"] = None
        given["space"]["neighbours"] = []
        given["training_log"] = pd.DataFrame()
        given["data_report"]["attribution"] = None
        of_pairs(given)

    card = report(change=bare)
    assert "On 30 scores of pairs" in card.text()
    assert "Nothing was trained" in card.text()
    assert "ESCO" not in card.text()
    (drawn,) = [chart for chart in card.charts() if "facet" in chart]
    assert {row["area"] for row in drawn["data"]["values"]} == {"skills"}


def test_it_says_on_how_many_unlike_pairs_the_correlation_rests():
    told = "the scores of 30 pairs, 3 of them of unlike skills"
    assert told in report(change=lambda given: of_pairs(given, unlike_pairs=3)).text()
    assert "of unlike skills" not in report(change=of_pairs).text()  # an earlier run
    assert "of unlike skills" not in report().text()
