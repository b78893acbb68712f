"""What the dashboards share: panels, variables and PromQL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from grafana_foundation_sdk.builders import common, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DatasourceVariable,
    QueryVariable,
    Row,
    ThresholdsConfig,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

if TYPE_CHECKING:
    from collections.abc import Sequence

AnyPanel: TypeAlias = Builder[models.Panel]
PanelT = TypeVar("PanelT", timeseries.Panel, stat.Panel, heatmap.Panel, table.Panel)
Queries: TypeAlias = Mapping[str, str]
"""PromQL expressions by the legend of their series."""
WINDOW = "$__rate_interval"
DEVICE = "model, device"
DEVICE_LEGEND = "{{model}} on {{device}}"
SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")


def assemble(board: Dashboard, variables: Sequence[QueryVariable], rows: Mapping[str, Sequence[AnyPanel]]) -> Dashboard:
    """Add the variables and the rows of panels, by their titles, to a dashboard.

    The panels of a row stand side by side, 24 columns a line; each line must be full.
    """
    board.tags(["repserve"]).editable().tooltip(models.DashboardCursorSync.CROSSHAIR).timezone("browser")
    board.with_variable(DatasourceVariable("datasource").label("Data source").type("prometheus"))
    for variable in variables:
        board.with_variable(variable)
    for title, panels in rows.items():
        board.with_row(Row(title))
        for panel in panels:
            board.with_panel(panel)
    return board


def variable(name: str, label: str, query: str) -> QueryVariable:
    """Build a variable with one value."""
    made = QueryVariable(name).label(label).query(query).datasource(SOURCE)
    return made.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(models.VariableSort.ALPHABETICAL_ASC)


def variables(name: str, label: str, query: str) -> QueryVariable:
    """Build a variable with several values, all of them by default."""
    everything = models.VariableOption(text="All", value="$__all")
    return variable(name, label, query).multi(True).include_all(True).all_value(".*").current(everything)


def graph(
    title: str, queries: Queries, unit: str = "short", *, stacked: bool = False, width: int = 8, text: str = ""
) -> timeseries.Panel:
    """Build a panel of lines over time, or of stacked areas."""
    stacking = common.StackingConfig().group("A").mode(StackingMode.NORMAL if stacked else StackingMode.NONE)
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
    panel = timeseries.Panel().line_width(1).fill_opacity(30 if stacked else 5).show_points(VisibilityMode.NEVER)
    panel.stacking(stacking).legend(legend.show_legend(True))
    panel.tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    return _describe(panel, title, queries, unit, width, 8, text)


def number(
    title: str,
    expression: str,
    unit: str = "short",
    *,
    text: str = "",
    thresholds: Mapping[str, float | None] | None = None,
) -> stat.Panel:
    """Build a panel of one value; ``thresholds`` are colours with the values from which they hold, None at first."""
    panel = stat.Panel().color_mode(BigValueColorMode.VALUE).graph_mode(BigValueGraphMode.AREA)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    if thresholds:
        steps = [models.Threshold(value, colour) for colour, value in thresholds.items()]
        panel.thresholds(ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps))
    return _describe(panel, title, {"": expression}, unit, 4, 4, text)


def distribution(title: str, metric: str, labels: str, unit: str = "short") -> heatmap.Panel:
    """Build a panel of a histogram over time."""
    colours = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Blues").steps(32)
    panel = heatmap.Panel().calculate(False).color(colours).cell_gap(1).show_tooltip()
    panel.y_axis(heatmap.YAxisConfig().unit(unit))
    queries = {"{{le}}": increase(f"{metric}_bucket", labels, "le")}
    return _describe(panel, title, queries, unit, 12, 8, "", PromQueryFormat.HEATMAP)


def listing(title: str, expression: str, *, text: str = "") -> table.Panel:
    """Build a table of the current series."""
    panel = table.Panel().show_header(True)
    without_time = models.DataTransformerConfig(id_val="organize", options={"excludeByName": {"Time": True}})
    panel.with_transformation(without_time)
    return _describe(panel, title, {"": expression}, "short", 12, 8, text, PromQueryFormat.TABLE)


def _describe(  # noqa: PLR0917 - what all kinds of panels have
    panel: PanelT,
    title: str,
    queries: Queries,
    unit: str,
    width: int,
    height: int,
    text: str,
    shape: PromQueryFormat = PromQueryFormat.TIME_SERIES,
) -> PanelT:
    panel.title(title).description(text).datasource(SOURCE).unit(unit).min(0).span(width).height(height)
    for index, (legend, expression) in enumerate(queries.items()):
        query = prometheus.Dataquery().ref_id(chr(ord("A") + index)).expr(expression).format(shape)
        query.legend_format(legend or "__auto")
        panel.with_target(query.instant() if shape is PromQueryFormat.TABLE else query.range())
    return panel


def quantiles(metric: str, labels: str) -> dict[str, str]:
    """Query the p50, p90 and p99 of a histogram, by legend."""
    return {f"p{share:.0f}": quantile(share / 100, metric, labels) for share in (50, 90, 99)}


def quantile(share: float, metric: str, labels: str) -> str:
    """Query a quantile of a histogram's observations."""
    return f"histogram_quantile({share:g}, {rate(f'{metric}_bucket', labels, 'le')})"


def mean(metric: str, labels: str, by: str = "") -> str:
    """Query the mean of a histogram's observations; no value if there were none."""
    return f"{rate(f'{metric}_sum', labels, by)} / ({rate(f'{metric}_count', labels, by)} > 0)"


def increase(metric: str, labels: str, by: str) -> str:
    """Query how much a counter grew within the panel's step."""
    return f"sum by ({by}) (increase({metric}{{{labels}}}[{WINDOW}]))"


def rate(metric: str, labels: str, by: str = "") -> str:
    """Query a counter's rate per second."""
    split = f" by ({by})" if by else ""
    return f"sum{split} (rate({metric}{{{labels}}}[{WINDOW}]))"


def utilization(labels: str) -> str:
    """Query the share of time that each device is busy."""
    busy = rate("repserve_device_busy_seconds_total", labels, DEVICE)
    return f"{busy} / sum by ({DEVICE}) (repserve_instance_info{{{labels}}})"
