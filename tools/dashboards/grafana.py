"""A dashboard as the JSON that Grafana imports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dashboards.panel import Dashboard, Panel, Variable

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24
"""Columns of Grafana's grid."""


def to_json(dashboard: Dashboard) -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.text,
        "tags": ["repserve"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": dashboard.refresh,
        "time": {"from": dashboard.span, "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_source_variable(), *(_variable(entry) for entry in dashboard.variables)]},
        "annotations": {"list": []},
        "links": [],
        "panels": _place(dashboard.panels),
    }


def _source_variable() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1}


def _variable(variable: Variable) -> dict[str, Any]:
    everything = {"allValue": ".*", "current": {"text": "All", "value": "$__all"}} if variable.several else {}
    return {
        "name": variable.name,
        "label": variable.label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": variable.query, "refId": variable.name},
        "definition": variable.query,
        "refresh": 2,
        "multi": variable.several,
        "includeAll": variable.several,
        **everything,
        "sort": 1,
    }


def _place(panels: tuple[Panel, ...]) -> list[dict[str, Any]]:
    """Puts the panels side by side until a line of the grid is full."""
    placed, left, top, line = [], 0, 0, 0
    for number, panel in enumerate(panels, start=1):
        width, height = (WIDTH, 1) if panel.kind == "row" else (panel.width, panel.height)
        if left + width > WIDTH:
            left, top, line = 0, top + line, 0
        placed.append(_panel(number, panel) | {"gridPos": {"x": left, "y": top, "w": width, "h": height}})
        left, line = left + width, max(line, height)
    return placed


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    if panel.kind == "row":
        return {"id": number, "type": "row", "title": panel.title, "collapsed": False, "panels": []}
    table = panel.kind == "table"
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": SOURCE,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": SOURCE,
                "expr": expression,
                "legendFormat": legend or "__auto",
                "instant": table,
                "range": not table,
                "format": {"table": "table", "heatmap": "heatmap"}.get(panel.kind, "time_series"),
            }
            for index, (expression, legend) in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _options(panel),
        **({"transformations": _TABLE_ONLY_LABELS} if table else {}),
    }


_TABLE_ONLY_LABELS = [{"id": "organize", "options": {"excludeByName": {"Time": True}}}]


def _defaults(panel: Panel) -> dict[str, Any]:
    found: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.most is not None:
        found["max"] = panel.most
    if panel.kind == "timeseries":
        found["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 30 if panel.stacked else 5,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        }
    if panel.thresholds:
        steps = [{"color": colour, "value": value} for colour, value in panel.thresholds]
        found |= {"thresholds": {"mode": "absolute", "steps": steps}, "color": {"mode": "thresholds"}}
    return found


def _options(panel: Panel) -> dict[str, Any]:
    match panel.kind:
        case "stat":
            calculation = {"calcs": ["lastNotNull"], "fields": "", "values": False}
            return {"reduceOptions": calculation, "colorMode": "value", "graphMode": "area", "textMode": "auto"}
        case "heatmap":
            return {
                "calculate": False,
                "yAxis": {"unit": panel.unit},
                "color": {"mode": "scheme", "scheme": "Blues", "steps": 32},
                "cellGap": 1,
                "tooltip": {"mode": "single"},
            }
        case "table":
            return {"showHeader": True, "cellHeight": "sm"}
        case _:
            return {
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }
