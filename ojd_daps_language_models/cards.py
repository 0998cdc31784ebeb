"""What a run shows: a live curve while it trains, and a report of what came out.

No advert is ever quoted: counts, scores, and sentences written for the purpose.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from metaflow.cards import Markdown, ProgressBar, Table, VegaChart

BLUE, ORANGE, GREY = "#2a6f97", "#e07a1f", "#9aa5b1"
SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
SYSTEMS = {
    "floor": "word frequencies alone",
    "before": "checkpoint before training",
    "after": "after training",
    "change": "change",
}


def live_curves(card) -> Callable[[list[dict], int], None]:
    """Append a progress bar and a loss curve; returns what moves them on.

    The callback takes all rows of the training log so far and the number of steps.
    """
    bar = ProgressBar(max=1, label="Training", unit=" steps")
    chart = VegaChart(loss_curves([]))
    for component in (Markdown("# Training"), bar, chart):
        card.append(component)
    card.refresh()  # a card that was never refreshed is lost when the step crashes

    def show(rows: list[dict], steps: int) -> None:
        bar._max = steps
        bar.update(rows[-1]["step"])
        chart.update(loss_curves(rows))
        card.refresh()

    return show


def loss_curves(rows: list[dict]) -> dict:
    """Training and validation loss by step."""
    names = {"loss": "training", "validation_loss": "validation"}
    values = [
        {"step": row["step"], "loss": row[name], "part": label}
        for row in rows
        for name, label in names.items()
        if name in row and not pd.isna(row[name])
    ]
    return {
        "$schema": SCHEMA,
        "data": {"values": values},
        "height": 260,
        "mark": {"type": "line", "point": {"size": 24}},
        "encoding": {
            "x": {"field": "step", "type": "quantitative", "title": "step"},
            "y": {
                "field": "loss",
                "type": "quantitative",
                "title": "loss (nats per hidden token)",
                "scale": {"zero": False},
            },
            "color": {
                "field": "part",
                "type": "nominal",
                "title": None,
                "scale": {
                    "domain": ["training", "validation"],
                    "range": [BLUE, ORANGE],
                },
            },
        },
    }


def mlm_report(
    card,
    name: str,
    *,
    data_report: dict,
    tokens: dict[str, dict],
    training_log: pd.DataFrame,
    metrics: dict,
    lineage: dict,
    costs: dict,
    config: dict,
) -> None:
    """Append the whole report of a masked language modelling run."""
    for component in (
        Markdown(f"# {name}"),
        Markdown(_summary(metrics, data_report)),
        Markdown("## Scores on the test adverts"),
        _score_table(metrics),
        Markdown(_how_to_read(metrics)),
        VegaChart(score_chart(metrics["scores"])),
        Markdown("## Adverts: what came in, what was kept"),
        VegaChart(funnel_chart(data_report["funnel"])),
        *_data_sections(data_report),
        Markdown("## Training"),
        *_training_section(training_log),
        Markdown("## Tokens"),
        Markdown(
            "Tokens of an advert, and hidden words guessed by how many they have."
        ),
        VegaChart(length_chart(tokens)),
        VegaChart(pieces_chart(metrics["by_pieces"])),
        Markdown("## Fill in the blank"),
        Markdown("Sentences written for this report, with the likeliest words."),
        _fill_mask_table(metrics["fill_mask"]),
        Markdown("## How it was made"),
        _table([{"what": key, "value": value} for key, value in lineage.items()]),
        _table([{"step": step, **cost} for step, cost in costs.items()]),
        Markdown(_config_block(config)),
    ):
        card.append(component)


def _summary(metrics: dict, data_report: dict) -> str:
    perplexity, accuracy = (
        metrics["scores"][name] for name in ("perplexity", "accuracy_at_1")
    )
    return (
        f"Of {metrics['hidden_words']:,} words hidden in {metrics['adverts']:,} "
        "adverts that it never saw, the model guesses "
        f"**{accuracy['after']['value']:.1%}** at first try "
        f"({accuracy['before']['value']:.1%} before training, "
        f"{accuracy['floor']['value']:.1%} from word frequencies alone). "
        f"Its perplexity is **{perplexity['after']['value']:.1f}** "
        f"({perplexity['before']['value']:,.0f} before). "
        f"{data_report['parts']['train']['adverts']:,} adverts of "
        f"{data_report['parts']['train']['employers']:,} employers taught it."
    )


def _score_table(metrics: dict) -> Table:
    rows = []
    for measure, systems in metrics["scores"].items():
        rows.append(
            [
                measure.replace("_", " "),
                *(_interval(systems[name], measure) for name in SYSTEMS),
            ]
        )
    return Table(rows, headers=["", *SYSTEMS.values()])


def _interval(score: dict, measure: str) -> str:
    form = "{:,.1f}" if measure == "perplexity" else "{:.3f}"
    value, low, high = (form.format(score[key]) for key in ("value", "low", "high"))
    return f"{value} ({low}\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}{high})"


def _how_to_read(metrics: dict) -> str:
    return (
        f"All systems read the same {metrics['hidden_tokens']:,} hidden tokens. In "
        "brackets: 95% intervals from a bootstrap over adverts; the change is paired. "
        "A word counts as right at k when each of its tokens is among the model's k "
        "likeliest. Perplexity is per hidden token and compares only models with this "
        f"tokenizer. Head of the checkpoint before training: {metrics['head']}."
    )


def score_chart(scores: dict) -> dict:
    """Accuracy at 1 and 5 of the three systems, with intervals."""
    values = [
        {"measure": f"right at {k}", "system": SYSTEMS[system], **scores[key][system]}
        for k, key in ((1, "accuracy_at_1"), (5, "accuracy_at_5"))
        for system in ("floor", "before", "after")
    ]
    order = [SYSTEMS[name] for name in ("floor", "before", "after")]
    place = {"field": "system", "type": "nominal", "sort": order, "title": None}
    rows = {"field": "measure", "type": "nominal", "title": None}
    axis = {"format": "%", "title": "hidden words guessed", "tickCount": 5}
    return {
        "$schema": SCHEMA,
        "data": {"values": values},
        "height": {"step": 18},
        "encoding": {"y": rows, "yOffset": {"field": "system", "sort": order}},
        "layer": [
            {
                "mark": "bar",
                "encoding": {
                    "x": {"field": "value", "type": "quantitative", "axis": axis},
                    "color": {
                        **place,
                        "scale": {"domain": order, "range": [GREY, ORANGE, BLUE]},
                    },
                },
            },
            {
                "mark": {"type": "rule", "strokeWidth": 2, "color": "#333"},
                "encoding": {
                    "x": {"field": "low", "type": "quantitative"},
                    "x2": {"field": "high"},
                },
            },
        ],
    }


def funnel_chart(funnel: list[dict]) -> dict:
    """How many adverts are left after each stage."""
    values = [{**row, "order": order} for order, row in enumerate(funnel)]
    y = {"field": "stage", "type": "nominal", "sort": None, "title": None}
    x = {
        "field": "adverts",
        "type": "quantitative",
        "axis": {"title": "adverts left", "tickCount": 5},
    }
    return {
        "$schema": SCHEMA,
        "data": {"values": values},
        "height": {"step": 24},
        "encoding": {"y": {**y, "axis": {"labelLimit": 320}}, "x": x},
        "layer": [
            {"mark": {"type": "bar", "color": BLUE}},
            {
                "mark": {"type": "text", "align": "left", "dx": 4},
                "encoding": {"text": {"field": "adverts", "format": ","}},
            },
        ],
    }


def _data_sections(report: dict) -> list:
    return [
        Markdown("### Parts"),
        _table(
            [{"part": part, **numbers} for part, numbers in report["parts"].items()]
        ),
        Markdown("### Kept aside, by reason"),
        _table(report["kept_aside"]),
        Markdown("### Personal data replaced"),
        _table(
            [
                {"kind": kind.replace("_", " "), "replaced": count}
                for kind, count in report["personal_data"].items()
            ]
        ),
        Markdown(
            f"People's names: {report['names']}. Sentences: {report['sentences']}."
        ),
        Markdown("### Overlap of held-out adverts with the training part"),
        _table(
            [{"part": part, **overlap} for part, overlap in report["overlap"].items()]
        ),
    ]


def _training_section(log: pd.DataFrame) -> list:
    if log.empty:
        return [Markdown("Nothing was trained: the checkpoint was only scored.")]
    return [VegaChart(loss_curves(log.to_dict("records")))]


def length_chart(tokens: dict[str, dict]) -> dict:
    """How many tokens an advert has."""
    lengths = np.concatenate([part["lengths"] for part in tokens.values()])
    counts, edges = np.histogram(lengths, bins=40)
    values = [
        {"from": float(low), "to": float(high), "adverts": int(count)}
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
    x = {"bin": {"binned": True}, "type": "quantitative", "title": "tokens per advert"}
    return {
        "$schema": SCHEMA,
        "data": {"values": values},
        "height": 200,
        "mark": {"type": "bar", "color": BLUE},
        "encoding": {
            "x": {"field": "from", **x},
            "x2": {"field": "to"},
            "y": {"field": "adverts", "type": "quantitative", "title": "adverts"},
        },
    }


def pieces_chart(rows: list[dict]) -> dict:
    """Accuracy at 1 of hidden words of one, two, and more tokens."""
    order = [SYSTEMS[name] for name in ("floor", "before", "after")]
    values = [{**row, "system": SYSTEMS[row["system"]]} for row in rows]
    place = {"field": "system", "type": "nominal", "sort": order, "title": None}
    return {
        "$schema": SCHEMA,
        "data": {"values": values},
        "height": {"step": 14},
        "mark": "bar",
        "encoding": {
            "y": {"field": "pieces", "type": "nominal", "title": None},
            "yOffset": {"field": "system", "sort": order},
            "x": {
                "field": "right",
                "type": "quantitative",
                "axis": {
                    "format": "%",
                    "title": "hidden words guessed",
                    "tickCount": 5,
                },
            },
            "color": {
                **place,
                "scale": {"domain": order, "range": [GREY, ORANGE, BLUE]},
            },
        },
    }


def _fill_mask_table(examples: list[dict]) -> Table:
    def words(guesses):
        return ", ".join(f"{word} ({share:.0%})" for word, share in guesses)

    rows = [
        [example["sentence"], words(example["before"]), words(example["after"])]
        for example in examples
    ]
    return Table(rows, headers=["sentence", "before training", "after training"])


def _config_block(config: dict) -> str:
    import yaml

    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    return f"### Configuration\n\n```yaml\n{text}\n```"


def _table(rows: list[dict]) -> Table:
    """A table of plain cells; numbers with thousands separators."""
    headers = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_cell(row.get(header, "")) for header in headers] for row in rows]
    return Table(cells, headers=[header.replace("_", " ") for header in headers])


def _cell(value) -> str:
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
