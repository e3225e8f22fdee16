"""Panels of this project: each has a unit, a description, and a threshold if one makes sense."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.builders import heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from grafana.source import SOURCE
from grafana.thresholds import Limits

Panel = Builder[dashboard.Panel]
Unit = Literal["short", "s", "percentunit", "currencyUSD", "cpm", "none", "bytes", "decibel"]
"""Grafana's names of units: number, seconds, share of one, dollars, counts per minute, plain number,
bytes, decibels."""

COLUMNS: Final = 24
_HEIGHT: Final = 8
_STAT_HEIGHT: Final = 4
_THIRD: Final = 8
_NAMES: Final = "ABCDEFGH"
"""Names of the queries of a panel."""

_LEGEND_CALCULATIONS: Final = ["mean", "max", "lastNotNull"]


@dataclass(frozen=True, slots=True)
class Query:
    """A panel's query, and the name of its series."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of figures in a table.

    Attributes:
        title: heading of the column.
        expr: query with one value for each row of the table.
        unit: unit of the figures.
        limits: limits that colour the figures.
    """

    title: str
    expr: str
    unit: Unit
    limits: Limits | None = None


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
    negative: bool = False,
    span: int = _THIRD,
) -> Panel:
    """Return a panel with figures over time, and with their limits as dashed lines.

    Args:
        title: heading of the panel.
        description: what the figures mean, for somebody who sees them for the first time.
        unit: unit of the figures.
        queries: queries of the figures.
        limits: limits of the figures.
        stacked: whether the figures add up.
        negative: whether figures below 0 make sense.
        span: width, of COLUMNS.
    """
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .span(span)
        .height(_HEIGHT)
        .line_width(1)
        .fill_opacity(40 if stacked else 8)
        # A site with a few calls a day has single points, and a line needs two.
        .show_points(common.VisibilityMode.AUTO)
        .point_size(4)
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
    if not negative:
        panel.min(0)
    if unit == "percentunit":
        panel.axis_soft_max(1)
    if stacked:
        panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
    if limits is not None:
        panel.thresholds_style(
            common_builders.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        )
    for query, name in zip(queries, _NAMES, strict=False):
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


def listing(
    title: str, description: str, label: str, *columns: Column, heading: str, span: int = COLUMNS
) -> Panel:
    """Return a table with a row for each value of a label, the greatest first column on top.

    Args:
        title: heading of the panel.
        description: what the table shows.
        label: label that all queries have alone.
        columns: figures of each row.
        heading: heading of the label's column.
        span: width, of COLUMNS.
    """
    names = [f"Value #{name}" for name in _NAMES[: len(columns)]]
    if len(columns) == 1:
        names = ["Value"]  # Grafana tells values apart only where there are several
    renamed = {label: heading} | dict(zip(names, (column.title for column in columns), strict=True))
    panel = (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(columns[0].unit)
        .span(span)
        .height(_HEIGHT)
        .thresholds(_thresholds(None))
        .with_transformation(dashboard.DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            dashboard.DataTransformerConfig(
                id_val="organize", options={"excludeByName": {"Time": True}, "renameByName": renamed}
            )
        )
        .sort_by([common_builders.TableSortByFieldState().display_name(columns[0].title).desc(True)])
    )
    for column, name in zip(columns, _NAMES, strict=False):
        panel.with_target(_target(Query(column.expr), name).instant().format(PromQueryFormat.TABLE))
        properties = [dashboard.DynamicConfigValue("unit", column.unit)]
        if column.limits is not None:
            properties += [
                dashboard.DynamicConfigValue("thresholds", _thresholds(column.limits).build()),
                dashboard.DynamicConfigValue("custom.cellOptions", {"type": "color-text"}),
            ]
        panel.override_by_name(column.title, properties)
    return panel


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
