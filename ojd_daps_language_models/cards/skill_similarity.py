"""The report of a run on the similarity of skills."""

from collections import Counter

import numpy as np
import pandas as pd
from metaflow.cards import Markdown, VegaChart

from ojd_daps_language_models.cards.components import (
    UNTRAINED,
    by_part,
    capitalise,
    funnel_chart,
    interval,
    length_chart,
    making_section,
    map_chart,
    score_chart,
    score_table,
    seeds_section,
    seen_before,
    table,
    training_section,
)

LOSS = "loss (nats per pair)"
MEASURES = {
    "mrr": "mean reciprocal rank",
    "recall_at_1": "recall at 1",
    "recall_at_5": "recall at 5",
    "recall_at_10": "recall at 10",
    "rp_at_5": "R-precision at 5",
    "rp_at_10": "R-precision at 10",
    "spearman": "rank correlation",
}
GROUPS = {
    "alternative_labels": "other label to skill",
    "related_skills": "skill to related skills",
    "scored_pairs": "scores of pairs",
}
MOST_AREAS = 8  # on the map; colours beyond cannot be told apart


def skill_similarity_report(
    card,
    name: str,
    *,
    data_report: dict,
    lengths: np.ndarray,
    training_log: pd.DataFrame,
    metrics: dict,
    space: dict,
    lineage: dict,
    costs: dict,
    config: dict,
) -> None:
    """Append the whole report of a run on the similarity of skills."""
    score = next((c for c in training_log if c.startswith("validation_")), None)
    for component in (
        Markdown(f"# {name}"),
        Markdown(summary(metrics) + _taught_by(data_report, training_log)),
        *_attribution(data_report),
        Markdown("## Scores on unseen skills"),
        VegaChart(score_chart(_chart_rows(metrics), "score")),
        *_score_tables(metrics),
        Markdown(_how_to_read(metrics, data_report)),
        *seeds_section(
            metrics,
            lambda group, measure: f"{MEASURES[measure]}, {_group(group)}",
        ),
        *_space_section(space),
        *_data_section(data_report),
        *training_section(training_log, LOSS, score),
        Markdown("## Tokens"),
        VegaChart(length_chart({"all": lengths}, "text")),
        *making_section(lineage, costs, config),
    ):
        card.append(component)


def summary(metrics: dict) -> str:
    """What came of a run, in plain words."""
    group = next(name for name in GROUPS if name in metrics["scores"])
    measure, systems = next(iter(metrics["scores"][group].items()))
    if group == "alternative_labels":
        found = (
            f"It ranks all {metrics['skills']:,} skills by name for each of "
            f"{metrics[group]:,} other labels of skills that were not in the data of "
            "this training: the mean reciprocal rank of the right one is "
            f"**{interval(systems['after'])}**"
        )
    else:
        found = (
            f"On {metrics[group]:,} {GROUPS[group]} that were not in the data of this "
            f"training, its {MEASURES[measure]} is **{interval(systems['after'])}**"
        )
    return (
        "Given two labels of skills, or a sentence and a label, the model says how "
        f"alike they are. {found}, {interval(systems['before'])} before training and "
        f"{interval(systems['tfidf'])} by TF-IDF of characters. The change is "
        f"**{interval(systems['change'])}**. "
    )


def _taught_by(report: dict, log: pd.DataFrame) -> str:
    seen = seen_before(report, "labels")
    if log.empty:
        return UNTRAINED + seen
    kinds = ", ".join(
        f"{kind} ({count:,})" for kind, count in report["positives"].items()
    )
    skills = report["parts"]["train"]["skills"]
    return f"It was trained on {skills:,} skills, by pairs of: {kinds}.{seen}"


def _attribution(report: dict) -> list:
    return [Markdown(report["attribution"])] if report["attribution"] else []


def _group(group: str) -> str:
    _, _, file = group.partition(", ")
    if file:
        return f"advert sentence to skill, {file.replace('_', ' ')}"
    return GROUPS[group]


def _chart_rows(metrics: dict) -> dict:
    """The first measure of each kind of query."""
    return {
        f"{_group(group)}: {MEASURES[measure]}": systems
        for group, measures in metrics["scores"].items()
        for measure, systems in list(measures.items())[:1]
    }


def _score_tables(metrics: dict) -> list:
    return [
        component
        for group, measures in metrics["scores"].items()
        for component in (
            Markdown(f"### {capitalise(_group(group))}"),
            score_table({MEASURES[name]: row for name, row in measures.items()}),
        )
    ]


def _how_to_read(metrics: dict, report: dict) -> str:
    return (
        "In brackets: 95% intervals from a bootstrap over skills, those that share a "
        "label counting as one, and over sentences. The change is after minus before "
        "training, the gain after training minus TF-IDF; both are paired. All "
        f"{metrics['skills']:,} skills are candidates, also those of training. Mean "
        "reciprocal rank: one by the place of the first right skill. Recall at k: the "
        "share of right skills among the first k. R-precision at k: the same, but out "
        f"of k where more than k are right. {_rests_on(metrics, report)}"
        "Of a label of several skills each is right; "
        f"{report['queries']['names_left_out']:,} other labels that are the name of a "
        "skill are left out. TF-IDF is of three to five characters in a row. "
        f"{metrics['truncated']:,} of these texts are longer than what the model reads "
        f"and were cut. Architecture: {metrics['architecture']}. "
        f"After the encoder: {metrics['head']}."
    )


def _rests_on(metrics: dict, report: dict) -> str:
    """How many of the scored pairs are unlike: earlier runs do not say."""
    unlike = report["parts"]["test"].get("unlike_pairs")
    if "scored_pairs" not in metrics["scores"] or unlike is None:
        return ""
    return (
        "Rank correlation: of similarities with the scores of "
        f"{metrics['scored_pairs']:,} pairs, {unlike:,} of them of unlike skills, with "
        "a score below `data.same_from`. "
    )


def _space_section(space: dict) -> list:
    areas = Counter(row["area"] for row in space["map"] if isinstance(row["area"], str))
    known = [area for area, _ in areas.most_common(MOST_AREAS)]
    listed = [
        row | {system: "; ".join(row[system]) for system in ("before", "after")}
        for row in space["neighbours"]
    ]
    return [
        Markdown("## The space of skills"),
        Markdown(
            "Each point is a skill that taught the model nothing, near to those it "
            "takes for alike (t-SNE; directions and distances between clusters mean "
            "nothing). Colours are the largest areas that the data names, if it does."
        ),
        VegaChart(map_chart(space["map"], known)),
        Markdown("### Names nearest to other labels"),
        table(listed),
    ]


def _data_section(report: dict) -> list:
    shared, queries = report["shared_labels"], report["queries"]
    relations = report["relations"]
    across = (
        f"{relations['across parts']:,} of {relations['all']:,} relations are between "
        "skills of different parts; nothing is learnt from them."
    )
    return [
        Markdown("## Pairs: what came in, what was kept"),
        VegaChart(funnel_chart(report["funnel"], "pair")),
        Markdown("### Parts"),
        by_part(report["parts"]),
        Markdown(
            f"**False negatives avoided.** {shared['labels']:,} labels belong to "
            f"several skills, {shared['skills']:,} in all. These stay together, and no "
            "two labels of a skill, or of skills that are learnt to be alike, count as "
            "negatives. " + (across if relations["all"] else "")
        ),
        Markdown("### Kept aside, by reason"),
        table(report["kept_aside"]),
        Markdown("### Sentences of adverts"),
        table([{"file": file, **row} for file, row in queries["files"].items()]),
        Markdown("### Held-out labels that stand in the training part"),
        by_part(report["overlap"]),
        Markdown("### Held-out labels that the checkpoint was trained on"),
        by_part(report["seen_by_checkpoint"])
        if report["seen_by_checkpoint"]
        else Markdown("Not compared: no earlier run is known to have trained it."),
    ]
