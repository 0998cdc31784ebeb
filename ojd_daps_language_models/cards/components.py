"""Charts, tables and sections that all reports share."""

from collections.abc import Callable, Iterable
from math import isnan

import numpy as np
import pandas as pd
import yaml
from metaflow.cards import Markdown, ProgressBar, Table, VegaChart

from ojd_daps_language_models.cards.alive import unfailing_card

BLUE, ORANGE, GREY, PALE = "#2a6f97", "#e07a1f", "#9aa5b1", "#d3d9df"
SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
SYSTEMS = {  # in the order of columns and bars
    "floor": "word frequencies alone",
    "majority": "always the same answer",
    "overlap": "word overlap",
    "tfidf": "TF-IDF",
    "gazetteer": "dictionary",
    "crf": "CRF",
    "before": "before training",
    "after": "after training",
    "change": "change",
    "gain": "gain",
}
COLOURS = {
    "floor": GREY,
    "majority": PALE,
    "overlap": GREY,
    "tfidf": GREY,
    "gazetteer": PALE,
    "crf": GREY,
    "before": ORANGE,
    "after": BLUE,
}
PALETTE = (  # of areas on a map
    *("#2a6f97", "#e07a1f", "#4f9d4f", "#b8405e"),
    *("#7b5ea7", "#c9a227", "#3aa6a0", "#8c5a3c"),
)
UNTRAINED = "Nothing was trained: the checkpoint was only scored."
PERCENT = {"format": "%", "tickCount": 5}
PROBABILITY = {"scale": {"domain": [0, 1]}, "axis": PERCENT}


def live_curves(card, loss: str) -> Callable[[list[dict], int], None]:
    """Append a progress bar and a loss curve; returns what moves them on.

    The callback takes all rows of the training log so far and the number of steps;
    where one seed is trained after the other, the steps of the current one.

    Args:
        loss: title of the axis, with the unit.
    """
    bar = ProgressBar(max=1, label="Training", unit=" steps")
    chart = VegaChart(loss_curves([], loss))
    with unfailing_card():
        for component in (Markdown("# Training"), bar, chart):
            card.append(component)
        card.refresh()  # a card that was never refreshed is lost when the step crashes

    def show(rows: list[dict], steps: int) -> None:
        last = rows[-1]
        seed = f"seed {last['seed']}" if "seed" in last else None
        with unfailing_card():
            bar._max = steps
            bar.update(last["step"], seed)
            chart.update(loss_curves(rows, loss))
            card.refresh()

    return show


def loss_curves(rows: list[dict], loss: str) -> dict:
    """Training and validation loss by step, a line for each seed."""
    names = {"loss": "training", "validation_loss": "validation"}
    values = [
        {
            "step": row["step"],
            "loss": row[name],
            "part": label,
            "seed": row.get("seed"),
        }
        for row in rows
        for name, label in names.items()
        if name in row and not pd.isna(row[name])
    ]
    return _chart(
        values,
        height=260,
        mark={"type": "line", "point": {"size": 24}},
        encoding={
            "x": _quantity("step", "step"),
            "y": _quantity("loss", loss, scale={"zero": False}),
            "color": _colour("part", {"training": BLUE, "validation": ORANGE}),
            "detail": {"field": "seed", "type": "nominal"},
        },
    )


def taught_by(
    report: dict,
    log: pd.DataFrame,
    unit: str,
    group: str = "employer",
    called: str | None = None,
) -> str:
    """Say how much a model has learnt from, where it was trained, and its checkpoint.

    Args:
        unit: as the report counts it, without the s.
        group: likewise.
        called: what several groups are, where not that.
    """
    seen = seen_before(report, f"{unit}s")
    if log.empty:
        return UNTRAINED + seen
    units, groups = (report["parts"]["train"][f"{name}s"] for name in (unit, group))
    origin = f" from {groups:,} {called or f'{group}s'}" if groups else ""
    return f"It was trained on {units:,} {unit}s{origin}.{seen}"


def seen_before(report: dict, units: str) -> str:
    """Say how much of the test part the checkpoint was trained on, where that is known.

    Args:
        units: as the report counts them.
    """
    seen = (report.get("seen_by_checkpoint") or {}).get("test", {})
    if seen.get("seen_in_another_order"):
        share = f"{seen['seen_in_another_order']:,} of its {seen['labels']:,} labels"
    elif seen.get("verbatim") or seen.get("near"):
        share = (
            f"{seen['verbatim']:.1%} of its sentences word for word, {seen['near']:.1%}"
            f" of its {units} as near-duplicates"
        )
    else:
        return ""
    return (
        " Some of the test part stands in what the checkpoint was trained on before: "
        f"{share}."
    )


def training_section(log: pd.DataFrame, loss: str, score: str | None = None) -> list:
    """Loss curves, and by epoch the score that chooses among them.

    Args:
        log: columns step, epoch, loss, validation_loss, and maybe seed.
        loss: title of the axis, with the unit.
        score: another column of the log, where not the loss chooses.
    """
    title = Markdown("## Training")
    if log.empty:
        return [title, Markdown(UNTRAINED)]
    section = [title, VegaChart(loss_curves(log.to_dict("records"), loss))]
    if score:
        chosen_by = f"The epoch is chosen by {_readable(score)}."
        section += [Markdown(chosen_by), VegaChart(epoch_curve(log, score))]
    return section


def epoch_curve(log: pd.DataFrame, score: str) -> dict:
    """A score by epoch, a line for each seed."""
    columns = [name for name in ("epoch", "seed", score) if name in log]
    rows = log.dropna(subset=score)[columns]
    epochs = rows["epoch"].unique().tolist()
    return _chart(
        rows.to_dict("records"),
        height=140,
        mark={"type": "line", "color": ORANGE, "point": {"size": 40, "color": ORANGE}},
        encoding={
            "x": _quantity("epoch", "epoch", axis={"values": epochs, "format": "d"}),
            "y": _quantity(score, _readable(score), scale={"zero": False}),
            "detail": {"field": "seed", "type": "nominal"},
        },
    )


def capitalise(text: str) -> str:
    """A heading, with names in it as they are."""
    return text[:1].upper() + text[1:]


def interval(score: dict, form: str = "{:.3f}") -> str:
    """A score with its 95% interval, or the word undefined."""
    if isnan(score["value"]):
        return "undefined"
    value, low, high = (form.format(score[key]) for key in ("value", "low", "high"))
    return f"{value} ({low}\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}{high})"


def score_table(rows: dict[str, dict[str, dict]]) -> Table:
    """Scores with their intervals, a column for each system.

    Args:
        rows: label -> system -> value, low, high.
    """
    systems = [name for name in SYSTEMS if any(name in row for row in rows.values())]
    cells = []
    for label, row in rows.items():
        form = "{:,.1f}" if label == "perplexity" else "{:.3f}"
        scores = [interval(row[name], form) if name in row else "" for name in systems]
        cells.append([label, *scores])
    return Table(cells, headers=["", *(SYSTEMS[name] for name in systems)])


def score_chart(
    rows: dict[str, dict[str, dict]], title: str, chance: float | None = None
) -> dict:
    """Bars of all systems, with their intervals and a line at the score of chance.

    Args:
        rows: label -> system -> value, and maybe low and high.
        title: of the axis of scores.
    """
    values = [
        {"row": label, "system": SYSTEMS[name], **row[name]}
        for label, row in rows.items()
        for name in COLOURS
        if name in row
    ]
    colour = _system({name for row in rows.values() for name in row})
    x = _quantity("value", title, axis=PERCENT)
    layers = [
        {"mark": "bar", "encoding": {"x": x, "color": colour}},
        {
            "mark": {"type": "rule", "strokeWidth": 2, "color": "#333"},
            "encoding": {
                "x": {"field": "low", "type": "quantitative"},
                "x2": {"field": "high"},
            },
        },
    ]
    if chance is not None:
        mark = {"type": "rule", "strokeDash": [4, 4], "color": "#333"}
        # Over the whole height: without the rows of the other layers.
        encoding = {"x": {"datum": chance}, "y": None, "yOffset": None}
        layers.append({"mark": mark, "encoding": encoding})
    return _chart(
        values,
        height={"step": 18},
        encoding={
            "y": _category("row"),
            "yOffset": {"field": "system", "sort": colour["scale"]["domain"]},
        },
        layer=layers,
    )


def confusion_chart(
    confusion: dict[str, dict[str, dict]], positive: str, negative: str
) -> dict:
    """Heat maps of what is so by what was said: counts, and shares of a row.

    Args:
        confusion: label -> system -> counts `tp`, `fp`, `fn`, `tn`.
        positive: what a positive is called.
        negative: what a negative is called.
    """
    values = [
        {
            "of": label,
            "system": SYSTEMS[name],
            "truth": truth,
            "answer": answer,
            "count": count,
            "share": count / total if total else 0.0,
        }
        for label, systems in confusion.items()
        for name, counts in systems.items()
        for truth, of_truth in (
            (positive, {positive: counts["tp"], negative: counts["fn"]}),
            (negative, {positive: counts["fp"], negative: counts["tn"]}),
        )
        for total in [sum(of_truth.values())]
        for answer, count in of_truth.items()
    ]
    for value in values:
        value["text"] = f"{value['count']:,} ({value['share']:.0%})"
    share = {"domain": [0, 1], "range": ["white", BLUE], "interpolate": "rgb"}
    white = {"test": "datum.share > 0.6", "value": "white"}
    classes = [positive, negative]
    systems = {name for row in confusion.values() for name in row}
    columns = [SYSTEMS[name] for name in SYSTEMS if name in systems]
    bold = {"labelFontWeight": "bold", "labelLimit": 320}
    upright = {**bold, "labelAngle": 0, "labelAlign": "left"}
    return _chart(
        values,
        facet={
            "row": _category("of", sort=list(confusion), header=upright),
            "column": _category("system", sort=columns, header=bold),
        },
        spec={
            "width": 150,
            "height": 60,
            "encoding": {
                "x": _category(
                    "answer", "answer", sort=classes, axis={"labelAngle": 0}
                ),
                "y": _category("truth", "truth", sort=classes),
            },
            "layer": [
                {
                    "mark": "rect",
                    "encoding": {
                        "color": _quantity("share", None, scale=share, legend=None)
                    },
                },
                {
                    "mark": "text",
                    "encoding": {
                        "text": {"field": "text"},
                        "color": {"condition": white, "value": "#333"},
                    },
                },
            ],
        },
    )


def reliability_section(
    reliability: dict[str, list[dict]], positives: str, resampled: str
) -> list:
    """Whether the probabilities of a classifier can be believed.

    Args:
        reliability: system -> bins: from, to, sentences, predicted, observed, low,
            high.
        positives: what the probabilities are of.
        resampled: what the bootstrap draws.
    """
    return [
        Markdown("### Can its probabilities be believed?"),
        Markdown(
            "On the dashed line, three in ten of those with a probability of 30% are "
            f"{positives}. In each range of probabilities: the share that are, with "
            f"its 95% interval from a bootstrap over {resampled}. Below: how many "
            "sentences there are in each range."
        ),
        VegaChart(reliability_chart(reliability)),
        VegaChart(bin_chart(reliability)),
    ]


def reliability_chart(reliability: dict[str, list[dict]]) -> dict:
    """Observed share by predicted probability, beside the diagonal."""
    ends = [{"predicted": end, "observed": end} for end in (0, 1)]
    x = _quantity("predicted", "predicted probability", **PROBABILITY)
    y = _quantity("observed", "observed share", **PROBABILITY)
    return _chart(
        _bins(reliability),
        height=320,
        encoding={"x": x, "color": _system(reliability)},
        layer=[
            {
                "data": {"values": ends},
                "mark": {"type": "line", "strokeDash": [4, 4]},
                "encoding": {"y": y, "color": {"value": "#333"}},
            },
            {
                "mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.6},
                "encoding": {"y": _quantity("low", None), "y2": {"field": "high"}},
            },
            {"mark": {"type": "line", "point": {"size": 50}}, "encoding": {"y": y}},
        ],
    )


def bin_chart(reliability: dict[str, list[dict]]) -> dict:
    """How many sentences have which predicted probability."""
    return _chart(
        _bins(reliability),
        height=120,
        mark={"type": "bar", "opacity": 0.7},
        encoding={
            "x": _quantity(
                "from", "predicted probability", bin={"binned": True}, **PROBABILITY
            ),
            "x2": {"field": "to"},
            "y": _quantity("sentences", "sentences", stack=None),
            "color": _system(reliability),
        },
    )


def _bins(reliability: dict[str, list[dict]]) -> list[dict]:
    return [
        {"system": SYSTEMS[name], **row}
        for name, rows in reliability.items()
        for row in rows
    ]


def seeds_section(metrics: dict, describe: Callable[[str, str], str]) -> list:
    """How far the scores of several seeds lie apart; nothing where there is one.

    Args:
        metrics: `seeds` (a list of seed and scores: group -> measure -> number) and
            `spread` (group -> measure -> mean, standard_deviation, least, greatest).
        describe: gives a group and a measure its label.
    """
    if not metrics["spread"]:
        return []
    published = metrics["seeds"][0]["seed"]
    spread = [
        {
            "score": describe(group, measure),
            **{name: f"{number:.4f}" for name, number in numbers.items()},
        }
        for group, measures in metrics["spread"].items()
        for measure, numbers in measures.items()
    ]
    return [
        Markdown("## Seeds"),
        Markdown(
            f"The same recipe was trained with {len(metrics['seeds'])} seeds, and each "
            "model scored on the test part. The model of this run is the first, of "
            f"seed {published}; the others tell how much of a score is luck."
        ),
        VegaChart(seeds_chart(metrics["seeds"], describe)),
        table(spread),
    ]


def seeds_chart(seeds: list[dict], describe: Callable[[str, str], str]) -> dict:
    """A point for each seed and score; those of the run's own model stand out."""
    published, others = "the model of this run", "other seeds"
    values = [
        {
            "score": describe(group, measure),
            "value": value,
            "seed": entry["seed"],
            "model": others if number else published,
        }
        for number, entry in enumerate(seeds)
        for group, measures in entry["scores"].items()
        for measure, value in measures.items()
    ]
    return _chart(
        values,
        height={"step": 22},
        mark={"type": "point", "filled": True, "size": 70, "opacity": 0.8},
        encoding={
            "y": _category("score"),
            "x": _quantity(
                "value", "score", scale={"zero": False}, axis={"tickCount": 8}
            ),
            "color": _colour("model", {published: BLUE, others: GREY}),
            "tooltip": [{"field": "seed"}, {"field": "value", "format": ".3f"}],
        },
    )


def map_chart(places: list[dict], areas: list[str]) -> dict:
    """Points in a plane for each system, coloured by area.

    Args:
        places: rows of name, area, system, x, y.
        areas: that have a colour of their own.
    """
    others = "other areas" if areas else "skills"
    values = [
        {
            **row,
            "system": SYSTEMS[row["system"]],
            "area": row["area"] if row["area"] in areas else others,
        }
        for row in places
    ]
    colours = dict(zip(areas, PALETTE, strict=False)) | {
        others: PALE if areas else BLUE
    }
    bare = {"axis": None}
    return _chart(
        values,
        facet={
            "column": _category(
                "system",
                sort=list(SYSTEMS.values()),
                header={"labelFontWeight": "bold"},
            )
        },
        resolve={"scale": {"x": "independent", "y": "independent"}},
        spec={
            "width": 380,
            "height": 380,
            "mark": {"type": "circle", "size": 28, "opacity": 0.75},
            "encoding": {
                "x": _quantity("x", **bare),
                "y": _quantity("y", **bare),
                "color": {
                    **_colour("area", colours),
                    "legend": {"labelLimit": 320},
                },
                "tooltip": [{"field": "name"}, {"field": "area"}],
            },
        },
    )


def length_chart(lengths: dict[str, np.ndarray], unit: str) -> dict:
    """A histogram of tokens per `unit`, over all parts."""
    counts, edges = np.histogram(np.concatenate(list(lengths.values())), bins=40)
    values = [
        {"from": float(low), "to": float(high), f"{unit}s": int(count)}
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
    return _chart(
        values,
        height=200,
        mark={"type": "bar", "color": BLUE},
        encoding={
            "x": _quantity("from", f"tokens per {unit}", bin={"binned": True}),
            "x2": {"field": "to"},
            "y": _quantity(f"{unit}s", f"{unit}s"),
        },
    )


def data_section(report: dict, unit: str, *own) -> list:
    """What came in, what was kept, and how far the parts are apart.

    Args:
        report: the artifact `data_report`.
        unit: `advert`, `sentence` or `text`, as counted in the report.
        own: components of the task, which stand after the parts.
    """
    found = f"People's names: {report['names']}."
    if "sentences" in report:
        found += f" Sentences: {report['sentences']}."
    replaced = [
        {"kind": _readable(kind), "replaced": count}
        for kind, count in report["personal_data"].items()
    ]
    return [
        Markdown(f"## {unit.capitalize()}s: what came in, what was kept"),
        VegaChart(funnel_chart(report["funnel"], unit)),
        Markdown("### Parts"),
        by_part(report["parts"]),
        *own,
        Markdown("### Kept aside, by reason"),
        table(report["kept_aside"]),
        Markdown("### Personal data replaced"),
        table(replaced),
        Markdown(found),
        Markdown(f"### Overlap of held-out {unit}s with the training part"),
        by_part(report["overlap"]),
        *_seen_by_checkpoint(report),
    ]


def _seen_by_checkpoint(report: dict) -> list:
    if "seen_by_checkpoint" not in report:
        return []
    return [
        Markdown("### Overlap with what the checkpoint was trained on"),
        by_part(report["seen_by_checkpoint"])
        if report["seen_by_checkpoint"]
        else Markdown("Not compared: no earlier run is known to have trained it."),
    ]


def funnel_chart(funnel: list[dict], unit: str) -> dict:
    """How many adverts or sentences are left after each stage."""
    text = {"text": {"field": f"{unit}s", "format": ","}}
    axis = {"tickCount": 5}
    return _chart(
        funnel,
        height={"step": 24},
        encoding={
            "y": _category("stage"),
            "x": _quantity(f"{unit}s", f"{unit}s left", axis=axis),
        },
        layer=[
            {"mark": {"type": "bar", "color": BLUE}},
            {"mark": {"type": "text", "align": "left", "dx": 4}, "encoding": text},
        ],
    )


def making_section(lineage: dict, costs: dict, config: dict) -> list:
    """What a run was made from, what it cost, and its configuration."""
    own = {key: value for key, value in lineage.items() if key != "origin"}
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    return [
        Markdown("## How it was made"),
        table([{"what": key, "value": value} for key, value in own.items()]),
        *_origin_section(lineage),
        Markdown("### Time and memory"),
        table([{"step": step, **cost} for step, cost in costs.items()]),
        Markdown(f"### Configuration\n\n```yaml\n{text}\n```"),
    ]


def _origin_section(lineage: dict) -> list:
    """The runs that the checkpoint comes from, the latest first."""
    ancestors = []
    while origin := lineage.get("origin"):
        ancestors.append({"run": lineage["checkpoint"], **origin})
        lineage = origin
    if not ancestors:
        return []
    labels = {
        "run": "run",
        "checkpoint": "its checkpoint",
        "data": "its data",
        "data fingerprint": "data fingerprint",
        "revision": "code revision",
    }
    rows = [
        {label: ancestor.get(key) for key, label in labels.items()}
        for ancestor in ancestors
    ]
    return [Markdown("### Where the checkpoint comes from"), table(rows)]


def by_part(parts: dict[str, dict]) -> Table | Markdown:
    """A table with a row of numbers for each part."""
    return table([{"part": part, **numbers} for part, numbers in parts.items()])


def table(rows: list[dict]) -> Table | Markdown:
    """A table of plain cells; numbers with thousands separators."""
    if not rows:
        return Markdown("None.")
    headers = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_cell(row.get(header, "")) for header in headers] for row in rows]
    return Table(cells, headers=[_readable(header) for header in headers])


def _cell(value) -> str:
    if value is None:
        return "none"
    if isinstance(value, float):
        return "undefined" if isnan(value) else f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _readable(name: str) -> str:
    return name.replace("_", " ")


def _chart(values: list[dict], **specification) -> dict:
    numbers = [
        {
            key: None if isinstance(value, float) and isnan(value) else value
            for key, value in row.items()
        }
        for row in values
    ]  # NaN is no JSON; what is null is not drawn
    return {
        "$schema": SCHEMA,
        "config": {"axis": {"labelLimit": 320}},
        "data": {"values": numbers},
        **specification,
    }


def _quantity(field: str, title: str | None = None, **more) -> dict:
    return {"field": field, "type": "quantitative", "title": title, **more}


def _category(field: str, title: str | None = None, **more) -> dict:
    """A place for each value, in the order in which the values come."""
    return {"field": field, "type": "nominal", "title": title, "sort": None, **more}


def _system(names: Iterable[str]) -> dict:
    """The colour of each system, in the order of `SYSTEMS`."""
    names = [name for name in COLOURS if name in names]
    return _colour("system", {SYSTEMS[name]: COLOURS[name] for name in names})


def _colour(field: str, colours: dict[str, str]) -> dict:
    scale = {"domain": list(colours), "range": list(colours.values())}
    return {"field": field, "type": "nominal", "title": None, "scale": scale}
