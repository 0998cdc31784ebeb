"""The report of a next-sentence prediction run."""

import numpy as np
import pandas as pd
from metaflow.cards import Markdown, VegaChart

from ojd_daps_language_models.cards.components import (
    by_part,
    confusion_chart,
    data_section,
    interval,
    length_chart,
    making_section,
    score_chart,
    score_table,
    seeds_section,
    taught_by,
    training_section,
)

LOSS = "loss (nats per pair)"
KINDS = {  # of negatives, by where the wrong second sentence comes from
    "all": "all kinds",
    "another_advert": "another advert",
    "same_employer": "same employer",
    "same_advert": "same advert",
}
MEASURES = {"accuracy": "accuracy", "roc_auc": "ROC AUC"}


def nsp_report(
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
    """Append the whole report of a next-sentence prediction run."""
    accuracy = _rows(metrics, "accuracy")
    confusion = {KINDS[kind]: row for kind, row in metrics["confusion"].items()}
    for component in (
        Markdown(f"# {name}"),
        Markdown(summary(metrics) + taught_by(data_report, training_log, "advert")),
        Markdown("## Scores on the test pairs"),
        Markdown("### Accuracy, by where the wrong second sentence comes from"),
        score_table(accuracy),
        VegaChart(score_chart(accuracy, "pairs judged right", chance=0.5)),
        Markdown("### ROC AUC"),
        score_table(_rows(metrics, "roc_auc")),
        Markdown(_how_to_read(metrics)),
        Markdown("### What was said of which pairs"),
        VegaChart(confusion_chart(confusion, "follows", "does not")),
        *seeds_section(metrics, _describe),
        *data_section(
            data_report, "advert", Markdown("### Pairs"), *_pairs_section(data_report)
        ),
        *training_section(training_log, LOSS),
        Markdown("## Tokens"),
        VegaChart(length_chart(lengths, "pair")),
        *making_section(lineage, costs, config),
    ):
        card.append(component)


def summary(metrics: dict) -> str:
    """What came of a run, in plain words."""
    scores = metrics["scores"]["all"]["accuracy"]
    return (
        "Given two sentences of job adverts, the model says whether the second follows "
        f"the first. Of {metrics['pairs']:,} pairs from {metrics['adverts']:,} adverts "
        "that this training never saw, half of them true neighbours, it judges "
        f"**{interval(scores['after'], '{:.1%}')}** correctly; word overlap alone "
        f"{interval(scores['overlap'], '{:.1%}')}, the checkpoint before training "
        f"{interval(scores['before'], '{:.1%}')}, always the same answer "
        f"{interval(scores['majority'], '{:.1%}')}. "
    )


def _how_to_read(metrics: dict) -> str:
    return (
        "Each row takes the negatives of one kind and the true successors of the same "
        "first sentences, so half of its pairs are positive. A sentence of another "
        "advert may give itself away by its topic, one of the same advert only by its "
        "place. In brackets: 95% intervals from a bootstrap over adverts. The change "
        "is after minus before training, the gain after training minus word overlap; "
        "both are paired. ROC AUC is the chance that a true successor is ranked above "
        "a wrong one. Word overlap says that a pair belongs together from an overlap "
        f"of {metrics['overlap_threshold']:.3g} on, chosen on validation. "
        f"{metrics['truncated']:,} test pairs are longer than what the model reads and "
        f"were cut. Architecture: {metrics['architecture']}. Head of the checkpoint "
        f"before training: {metrics['head']}."
    )


def _rows(metrics: dict, measure: str) -> dict[str, dict]:
    """The scores of each kind of negative that there is."""
    pairs = {"all": metrics["pairs"], **metrics["pairs_by_kind"]}
    return {
        f"{KINDS[kind]} ({pairs[kind]:,}\N{NO-BREAK SPACE}pairs)": scores[measure]
        for kind, scores in metrics["scores"].items()
    }


def _describe(kind: str, measure: str) -> str:
    return f"{MEASURES[measure]}, {KINDS[kind]}"


def _pairs_section(report: dict) -> list:
    rows = {
        part: {
            **pairs,
            "truncated": report["truncated"][part],
            "adverts_with_too_few_sentences": report["too_few_sentences"][part],
        }
        for part, pairs in report["pairs"].items()
    }
    return [
        by_part(rows),
        Markdown(
            "Each first sentence gives a true pair and a wrong one. Moved: wrong pairs "
            "for which no sentence of the kind drawn was available, so that one of "
            "another kind was taken. Truncated: pairs longer than what the model reads."
        ),
    ]
