"""The report of a run that finds entities in adverts."""

from html import escape
from itertools import cycle

import numpy as np
import pandas as pd
from metaflow.cards import Markdown, VegaChart

from ojd_daps_language_models.cards.components import (
    PALETTE,
    SYSTEMS,
    by_part,
    data_section,
    interval,
    length_chart,
    making_section,
    score_chart,
    score_table,
    seeds_section,
    table,
    taught_by,
    training_section,
)
from ojd_daps_language_models.preprocessing.sentences import import_spacy

LOSS = "loss (nats per token)"
MEASURES = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "partial_f1": "partial F1",
    "type_f1": "type F1",
}
AVERAGES = {"micro": "all labels", "macro": "mean over labels"}
TINT = "50"  # what of a colour is left behind black letters, of ff


def ner_report(
    card,
    name: str,
    *,
    data_report: dict,
    lengths: dict[str, np.ndarray],
    training_log: pd.DataFrame,
    metrics: dict,
    examples: list[dict],
    lineage: dict,
    costs: dict,
    config: dict,
) -> None:
    """Append the whole report of a run on named entities.

    Args:
        examples: layer, text and spans (start, end, label) of sentences that were
            written for the report.
    """
    taught = taught_by(data_report, training_log, "text", "advert")
    for component in (
        Markdown(f"# {name}"),
        Markdown(summary(metrics) + taught),
        Markdown("## Scores on the test texts"),
        *_score_tables(metrics),
        Markdown(_how_to_read(metrics)),
        Markdown("### F1 by label"),
        VegaChart(score_chart(_f1_rows(metrics), "F1")),
        *_errors_section(metrics),
        *_examples_section(examples, metrics),
        *seeds_section(metrics, _describe),
        *data_section(data_report, "text", *_spans_section(data_report)),
        *training_section(training_log, LOSS, "validation_f1"),
        *_windows_section(metrics["lost_to_truncation"]),
        VegaChart(length_chart(lengths, "text")),
        *making_section(lineage, costs, config),
    ):
        card.append(component)


def summary(metrics: dict) -> str:
    """What came of a run, in plain words."""
    adverts = f" of {metrics['postings']:,} adverts"
    said = (
        "The model finds entities in job adverts. It was scored on "
        f"{metrics['texts']:,} texts{adverts if whose(metrics) == 'adverts' else ''} "
        "that this training never saw. "
    )
    for layer, scores in metrics["scores"].items():
        f1 = {name: interval(score) for name, score in scores["micro"]["f1"].items()}
        labels = ", ".join(metrics["layers"][layer]["labels"])
        said += (
            f"Its strict F1 for {_named(metrics, layer, labels)} is **{f1['after']}**; "
            f"that of a CRF is {f1['crf']}, of a dictionary of the training spans "
            f"{f1['gazetteer']}, of the checkpoint before training {f1['before']}. "
        )
    return said


def _how_to_read(metrics: dict) -> str:
    return (
        "Precision, recall and F1 are strict: a span counts where its first word, its "
        "last word and its label are right, as in seqeval's strict mode with IOB2. "
        "Partial and type F1 are nervaluate's: a span that shares words with one of "
        "gold counts one half where its limits differ, whatever the labels (partial), "
        "or it counts where the labels are the same (type). All labels: every span "
        "counts the same; mean over labels: every label does. In brackets: 95% "
        f"intervals from a bootstrap over {whose(metrics)}. The change is after minus "
        "before training, the gain after training minus CRF; both are paired. "
        "Undefined: a share of nothing, as the precision of a system that never finds "
        f"a span.{_missed(metrics)} The "
        "dictionary holds the spans of the training texts; the CRF reads words, their "
        "parts and their neighbours. Head of the checkpoint before training: "
        f"{metrics['head']}."
    )


def whose(metrics: dict) -> str:
    """What intervals are over: earlier runs do not say."""
    return metrics.get("resampled", "adverts")


def _missed(metrics: dict) -> str:
    """How many gold spans no system can find, if any."""
    count = sum(layer.get("unaligned", 0) for layer in metrics["layers"].values())
    if not count:
        return ""
    return (
        f" {count:,} annotated spans of the test part begin or end inside a word, or "
        "hold personal data: they count as missed, by every system."
    )


def _named(metrics: dict, layer: str, labels: str) -> str:
    """Labels after the name of their layer, where there are several of other names."""
    alone = len(metrics["layers"]) == 1 or labels == layer
    return labels if alone else f"{layer}: {labels}"


def _labels(metrics: dict, layer: str) -> list[str]:
    return [label for label in metrics["scores"][layer] if label not in AVERAGES]


def _groups(metrics: dict, layer: str) -> dict[str, str]:
    """What is scored, with its name: averages too, where there are several labels."""
    labels = {label: _named(metrics, layer, label) for label in _labels(metrics, layer)}
    if len(labels) == 1:
        return {"micro": labels.popitem()[1]}
    averages = {key: _named(metrics, layer, name) for key, name in AVERAGES.items()}
    return averages | labels


def _score_tables(metrics: dict) -> list:
    return [
        component
        for layer, scores in metrics["scores"].items()
        for group, name in _groups(metrics, layer).items()
        for component in (
            Markdown(f"### {name[0].upper()}{name[1:]}"),
            score_table(
                {MEASURES[measure]: row for measure, row in scores[group].items()}
            ),
        )
    ]


def _f1_rows(metrics: dict) -> dict[str, dict]:
    return {
        name: scores[group]["f1"]
        for layer, scores in metrics["scores"].items()
        for group, name in _groups(metrics, layer).items()
    }


def _describe(group: str, measure: str) -> str:
    """The name of a score; before a comma the group may have a layer."""
    *layer, label = group.split(", ")
    return ", ".join([MEASURES[measure], *layer, AVERAGES.get(label, label)])


# -------------------------------------------------------------------------- errors


def _errors_section(metrics: dict) -> list:
    confused = _confusion_rows(metrics)
    section = [
        Markdown("## Errors on the test texts"),
        Markdown(
            "A span of gold is found right, or with a wrong boundary, a wrong label or "
            "both, or it is missed. All other spans of a system are invented. A span "
            "has one partner at most: the one with which it shares most words."
        ),
        table(_error_rows(metrics)),
    ]
    if confused:
        section += [Markdown("### Labels that the model confuses"), table(confused)]
    return section


def _error_rows(metrics: dict) -> list[dict]:
    rows = []
    for layer, entry in metrics["layers"].items():
        several = len(_labels(metrics, layer)) > 1
        for label in (*(["all labels"] if several else []), *_labels(metrics, layer)):
            for system in ("after", "crf"):
                errors = entry["errors"][system]
                counts = errors["labels"].get(label, dict.fromkeys(errors["total"], 0))
                if label == "all labels":
                    counts = errors["total"]
                rows.append(
                    {
                        "label": _named(metrics, layer, label),
                        "system": SYSTEMS[system],
                        "gold_spans": sum(counts.values()) - counts["invented"],
                        **counts,
                    }
                )
    return rows


def _confusion_rows(metrics: dict) -> list[dict]:
    return [
        {"gold": _named(metrics, layer, label), "model": other, "spans": count}
        for layer, entry in metrics["layers"].items()
        for label, row in entry["errors"]["after"]["confusion"].items()
        for other, count in row.items()
    ]


# ------------------------------------------------------------------------ examples


def _examples_section(examples: list[dict], metrics: dict) -> list:
    if not examples:
        return []
    labels = dict.fromkeys(
        label for layer in metrics["layers"].values() for label in layer["labels"]
    )
    colours = dict(zip(labels, cycle(PALETTE), strict=False))
    section = [
        Markdown("## What it finds"),
        Markdown("Sentences written for this report, with what the model finds."),
    ]
    for layer in metrics["layers"]:
        own = [example for example in examples if example["layer"] == layer]
        if len(metrics["layers"]) > 1:
            section.append(Markdown(f"### {layer}"))
        section.append(Markdown(_mark(own, colours)))
    return section


def _mark(examples: list[dict], colours: dict[str, str]) -> str:
    """Sentences with their entities, as HTML of displaCy (spaCy).

    Metaflow's Markdown leaves HTML as it is, as far as the first empty line: there is
    none in what was minified.

    Args:
        colours: of each label.
    """
    import_spacy(with_torch=False)
    from spacy import displacy

    documents = [
        {
            "text": example["text"],
            "ents": [
                {**span, "label": escape(span["label"])} for span in example["spans"]
            ],
        }
        for example in examples
    ]
    tints = {escape(label): colour + TINT for label, colour in colours.items()}
    return displacy.render(
        documents,
        style="ent",
        manual=True,
        jupyter=False,
        minify=True,
        options={"colors": tints},
    )


# -------------------------------------------------------------------- spans, windows


def _spans_section(report: dict) -> list:
    """Spans that were read and kept aside; of texts the ids only."""
    spans = report["spans"]
    columns = ("id", "reason", "label", "start", "end")
    first = [
        {column: str(row[column]) for column in columns}
        for row in report["examples_aside"]
    ]
    return [
        Markdown("### Spans"),
        Markdown(
            f"{spans['read']:,} spans were read, {spans['kept']:,} of them are used; "
            f"{spans['repaired']:,} had tags that were mended. Words: "
            f"{report['words']}."
        ),
        Markdown("### Spans kept aside, by reason"),
        table(report["spans_kept_aside"]),
        *([Markdown("The first of them:"), table(first)] if first else []),
    ]


def _windows_section(parts: dict[str, dict]) -> list:
    """What plain truncation would have cost."""
    spans, lost = (sum(row[key] for row in parts.values()) for key in ("spans", "lost"))
    return [
        Markdown("## Tokens"),
        Markdown(
            f"{lost:,} of {spans:,} gold spans ({lost / spans:.1%}) would have been "
            "lost had texts been cut at the model's length; they were read in windows."
        ),
        by_part(parts),
    ]
