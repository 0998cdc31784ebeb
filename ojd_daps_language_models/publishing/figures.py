"""The charts of the report as images, for a model card."""

from collections.abc import Mapping, Sequence

import pandas as pd
import vl_convert

from ojd_daps_language_models.cards.components import (
    epoch_curve,
    loss_curves,
    score_chart,
)
from ojd_daps_language_models.publishing.scores import (
    Measure,
    name_group,
    name_measure,
)

WIDTH = 560  # of a chart without its labels, in pixels
SHARPER = 2  # times as many pixels, for dense screens


def draw_scores(
    measures: Sequence[Measure],
    group_names: Mapping[str, str],
    measure_names: Mapping[str, str],
    title: str,
    chance: float | None,
) -> bytes:
    """Bars of all systems by each of some measures, as PNG.

    Args:
        measures: to draw.
        group_names: groups in words.
        measure_names: measures in words, left out where there is one.
        title: of the axis.
        chance: score of chance, where a line should be.
    """
    several = len({measure.name for measure in measures}) > 1
    rows = {}
    for measure in measures:
        name = name_measure(measure.name, measure_names)
        group = name_group(measure.group, group_names)
        label = f"{group}: {name}" if group and several else group or name
        rows[label] = measure.systems
    return _draw(score_chart(rows, title, chance))


def draw_losses(log: pd.DataFrame, title: str) -> bytes:
    """Training and validation loss by step, as PNG."""
    return _draw(loss_curves(log.to_dict("records"), title))


def draw_epochs(log: pd.DataFrame, score: str) -> bytes:
    """The score that chose the epoch, by epoch, as PNG."""
    return _draw(epoch_curve(log, score))


def _draw(chart: dict) -> bytes:
    return vl_convert.vegalite_to_png(
        {**chart, "width": WIDTH},
        vl_version="5.21",  # as in the schema of the charts
        scale=SHARPER,
        config={"legend": {"orient": "top"}},
        allowed_base_urls=[],  # nothing of a chart is fetched
    )
