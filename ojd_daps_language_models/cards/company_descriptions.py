"""The report of a run that tells which sentences describe a company."""

import numpy as np
import pandas as pd
from metaflow.cards import Markdown, VegaChart

from ojd_daps_language_models.cards.components import (
    confusion_chart,
    data_section,
    interval,
    length_chart,
    making_section,
    reliability_section,
    score_chart,
    score_table,
    seeds_section,
    table,
    taught_by,
    training_section,
)

LOSS = "loss (nats per sentence)"
GROUPS = {
    "company_description": "company descriptions",
    "not_company_description": "other sentences",
    "both": "both classes",
}


def company_descriptions_report(
    card,
    name: str,
    *,
    data_report: dict,
    lengths: dict[str, np.ndarray],
    training_log: pd.DataFrame,
    metrics: dict,
    lineage: dict,
    costs: dict,
    config: dict,
) -> None:
    """Append the whole report of a run on company descriptions."""
    rows = {group: _rows(metrics, group) for group in GROUPS}
    confusion = {"test sentences": metrics["confusion"]}
    called = whose(metrics)
    taught = taught_by(data_report, training_log, "sentence", called=called)
    for component in (
        Markdown(f"# {name}"),
        Markdown(summary(metrics) + taught),
        Markdown("## Scores on the test sentences"),
        *_score_tables(rows),
        Markdown(_how_to_read(metrics)),
        Markdown("### Scores for company descriptions"),
        VegaChart(score_chart(rows["company_description"], "score")),
        Markdown("### What was said of which sentences"),
        VegaChart(confusion_chart(confusion, "company", "other")),
        *reliability_section(metrics["reliability"], "company descriptions", called),
        *seeds_section(
            metrics,
            lambda group, measure: f"{_measure(metrics, measure)}, {GROUPS[group]}",
        ),
        *data_section(data_report, "sentence", *_labels_section(metrics, data_report)),
        *training_section(training_log, LOSS, "validation_average_precision"),
        Markdown("## Tokens"),
        VegaChart(length_chart(lengths, "sentence")),
        *making_section(lineage, costs, config),
    ):
        card.append(component)


def summary(metrics: dict) -> str:
    """What came of a run, in plain words."""
    scores = metrics["scores"]["company_description"]
    return (
        "Given a sentence of a job advert, the model says whether it describes the "
        f"company. On {metrics['sentences']:,} held-out sentences of "
        f"{metrics['employers']:,} {whose(metrics)}, its F1 for company descriptions "
        f"is **{interval(scores['f1']['after'])}**; that of TF-IDF and logistic "
        f"regression is {interval(scores['f1']['tfidf'])}, of the checkpoint before "
        f"training {interval(scores['f1']['before'])}. It finds "
        f"**{interval(scores['recall']['after'], '{:.1%}')}** of the company "
        "descriptions. Where these are "
        f"{metrics['prevalence']['assumed']:.1%} of all sentences, as is assumed in "
        "use, "
        f"**{interval(scores['precision_at_prevalence']['after'], '{:.1%}')}** of "
        "the sentences it labels as company descriptions are labelled correctly. "
    )


def whose(metrics: dict) -> str:
    """What keeps sentences together: earlier runs do not say."""
    return metrics.get("grouped_by", "employers")


def _how_to_read(metrics: dict) -> str:
    return (
        f"In brackets: 95% intervals from a bootstrap over {whose(metrics)}. The "
        "change is after minus before training, the gain after training minus TF-IDF; "
        "both are paired. Undefined: a share of nothing, as the precision of a system "
        "that never says yes. Average precision needs no threshold; chance has the "
        f"share of company descriptions, {metrics['prevalence']['test']:.1%} of the "
        "test sentences. Precision at a share of "
        f"{metrics['prevalence']['assumed']:.1%}: where company descriptions are as "
        "rare as is assumed in use. Brier score: mean squared error of the "
        f"probabilities; lower is better. {metrics['decision']} TF-IDF goes with "
        "logistic regression, which says yes from a "
        f"probability of {metrics['threshold']['tfidf']:.3f} on, chosen on validation "
        "and moved to one half likewise. "
        f"{metrics['truncated']:,} test sentences are longer than what the model reads "
        f"and were cut. Architecture: {metrics['architecture']}. Head of the "
        f"checkpoint before training: {metrics['head']}."
    )


def _score_tables(rows: dict[str, dict]) -> list:
    return [
        component
        for group, label in GROUPS.items()
        for component in (
            Markdown(f"### {label.capitalize()}"),
            score_table(rows[group]),
        )
    ]


def _rows(metrics: dict, group: str) -> dict[str, dict]:
    return {
        _measure(metrics, measure): systems
        for measure, systems in metrics["scores"][group].items()
    }


def _measure(metrics: dict, measure: str) -> str:
    labels = {
        "f1": "F1",
        "brier": "Brier score",
        "precision_at_prevalence": (
            f"precision at a share of {metrics['prevalence']['assumed']:.1%}"
        ),
    }
    return labels.get(measure, measure.replace("_", " "))


def _labels_section(metrics: dict, report: dict) -> list:
    """Labels: their shares, those that contradict each other, and what was cut."""
    conflicts = report["conflicts"]
    return [
        Markdown(
            f"{report['balance']} {conflicts['sentences']:,} sentences came with both "
            f"labels: {conflicts['settled']:,} were settled by the majority of their "
            f"rows, {conflicts['kept_aside']:,} kept aside where there was none."
        ),
        table(
            [
                {
                    "part": part,
                    "share of company descriptions": f"{share:.1%}",
                    "longer than what the model reads": report["truncated"].get(
                        part, ""
                    ),
                }
                for part, share in metrics["prevalence"].items()
            ]
        ),
    ]
