"""Panels of this project: each has a unit, a description, and a threshold if one makes sense."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.builders import heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from grafana.thresholds import Limits

Panel = Builder[dashboard.Panel]
Unit = Literal["short", "s", "percentunit", "currencyUSD", "cpm", "none"]
"""Grafana's names of units: number, seconds, share of one, dollars, counts per minute, number without unit."""

COLUMNS: Final = 24
_HEIGHT: Final = 8
_STAT_HEIGHT: Final = 4
_THIRD: Final = 8
_LEGEND_CALCULATIONS: Final = ["mean", "max", "lastNotNull"]

SOURCE: Final = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")


@dataclass(frozen=True, slots=True)
class Query:
    """A panel's query, and the name of its series."""

    expr: str
    legend: str = ""


def number(
    title: str,
    description: str,
    unit: Unit,
    expr: str,
    *,
    limits: Limits | None = None,
    words: dict[str, str] | None = None,
    span: int = 4,
) -> Panel:
    """Return a panel with one figure, coloured by its limits. `words` are shown instead of a value."""
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .span(span)
        .height(_STAT_HEIGHT)
        .with_target(_target(Query(expr), "A").instant())
        .thresholds(_thresholds(limits))
        .color_scheme(dashboards.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS))
        .color_mode(common.BigValueColorMode.VALUE)
        .graph_mode(common.BigValueGraphMode.NONE)
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    if words is not None:
        panel.mappings([dashboard.ValueMap({k: dashboard.ValueMappingResult(text=v) for k, v in words.items()})])
    return panel


def lines(
    title: str,
    description: str,
    unit: Unit,
    *queries: Query,
    limits: Limits | None = None,
    stacked: bool = False,
    span: int = _THIRD,
) -> Panel:
    """Return a panel with figures over time, and with their limits as dashed lines."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .span(span)
        .height(_HEIGHT)
        .line_width(1)
        .fill_opacity(40 if stacked else 8)
        .show_points(common.VisibilityMode.NEVER)
        .thresholds(_thresholds(limits))
        .legend(
            common_builders.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.TABLE)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(_LEGEND_CALCULATIONS)
        )
        .tooltip(
            common_builders.VizTooltipOptions()
            .mode(common.TooltipDisplayMode.MULTI)
            .sort(common.SortOrder.DESCENDING)
        )
    )
    if unit == "percentunit":
        panel.axis_soft_max(1)
    if stacked:
        panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
    if limits is not None:
        panel.thresholds_style(
            common_builders.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        )
    for query, name in zip(queries, "ABCDEFGH", strict=False):
        panel.with_target(_target(query, name).range())
    return panel


def heat(title: str, description: str, unit: Unit, expr: str, *, span: int = _THIRD) -> Panel:
    """Return a panel with a histogram over time: the number of observations in each bucket."""
    buckets = _target(Query(expr, "{{le}}"), "A").range().format(PromQueryFormat.HEATMAP)
    return (
        heatmap.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .span(span)
        .height(_HEIGHT)
        .with_target(buckets)
        .calculate(False)
        .color(
            heatmap.HeatmapColorOptions()
            .mode(heatmap_models.HeatmapColorMode.SCHEME)
            .scheme("Oranges")
            .fill("dark-orange")
            .scale(heatmap_models.HeatmapColorScale.EXPONENTIAL)
            .exponent(0.5)
            .steps(64)
        )
        .filter_values(heatmap.FilterValueRange().le(1e-9))
        .y_axis(heatmap.YAxisConfig().unit(unit).axis_placement(common.AxisPlacement.LEFT))
        .cell_values(heatmap.CellValues().unit("short"))
        .show_legend()
    )


def _target(query: Query, name: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().datasource(SOURCE).expr(query.expr).legend_format(query.legend).ref_id(name)


def _thresholds(limits: Limits | None) -> dashboards.ThresholdsConfig:
    steps: list[tuple[float | None, str]]
    if limits is None:
        steps = [(None, "text")]
    elif limits.low_is_bad:
        steps = [(None, "red"), (limits.red, "yellow"), (limits.yellow, "green")]
    else:
        steps = [(None, "green"), (limits.yellow, "yellow"), (limits.red, "red")]
    return (
        dashboards.ThresholdsConfig()
        .mode(dashboard.ThresholdsMode.ABSOLUTE)
        .steps([dashboard.Threshold(value, colour) for value, colour in steps])
    )
