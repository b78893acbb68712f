"""Draw the dashboards of a real run into docs/: ``make previews``.

Starts a server and Prometheus, lets the bench load the server, closed loop and open, and draws each panel from the
answers to its own queries.
"""

from __future__ import annotations

import io
import itertools
import json
import math
import re
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from PIL import Image

from repserve_protos.v1 import classification_pb2 as pb
from support.harness import DIGITS, ROOT, RunningServer, repserve
from support.monitoring import DASHBOARDS, NO_PROMETHEUS, PROMETHEUS, RunningPrometheus, dashboard_queries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from support.monitoring import Query

    Answer = tuple[Query, list[dict[str, Any]]]

VALIDATION = DIGITS / "validation"
RATES = (300, 900, 500)
"""Requests a second that the bench offers, one after the other."""
SECONDS = 25
STEP = 1.0
UNIT_INCHES = (0.62, 0.29)
"""Width and height of a cell of Grafana's grid."""
COLUMNS = 24
COLOURS = ("#3274d9", "#56a64b", "#e0b400", "#e02f44", "#8f3bb8", "#ff780a", "#37872d", "#19730e")
UNITS = {"s": (1000.0, "ms"), "percentunit": (100.0, "%"), "bytes": (1 / 2**20, "MiB"), "cps": (1.0, "/s")}
UNITS["reqps"] = UNITS["cps"]
PALETTE = 256


def load(server: RunningServer, port: int, folder: Path) -> None:
    """Send a closed loop, then rates, with some requests that are refused."""
    options = [
        *(repserve(), "bench", "run", "--server", server.address, "--metrics-port", str(port)),
        *("--images", str(VALIDATION / "images"), "--labels", str(VALIDATION / "val_label.txt")),
        *("--seconds", str(SECONDS), "--output", str(folder / "report.json")),
    ]
    for more in ([], *(["--rate", str(rate)] for rate in RATES)):
        bench = subprocess.Popen([*options, *more], stdout=subprocess.DEVNULL)
        with suppress(grpc.RpcError):
            server.stub().Classify(pb.ClassifyRequest(encoded_image=b"not an image"), timeout=10)
        with suppress(grpc.RpcError):
            server.stub().Classify(pb.ClassifyRequest(model="unknown"), timeout=10)
        bench.wait(SECONDS + 30)


def main() -> None:
    """Run the command."""
    if PROMETHEUS is None:
        raise SystemExit(NO_PROMETHEUS)
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder, RunningServer("--model", "repvgg_digits") as server:
        targets = {"repserve": server.metrics_url.removeprefix("http://"), "repserve_bench": f"127.0.0.1:{port}"}
        with RunningPrometheus(targets) as prometheus:
            start = time.time()
            load(server, port, Path(folder))
            end = time.time()
            for file in DASHBOARDS:
                target = ROOT / "docs" / f"{file.stem.replace('repserve', 'dashboard')}.png"
                draw_dashboard(file, prometheus, start, end).save(target, optimize=True)
                print(f"{target.relative_to(ROOT)} drawn")


def draw_dashboard(file: Path, prometheus: RunningPrometheus, start: float, end: float) -> Image.Image:
    """Lay out a dashboard's panels as Grafana does."""
    content = json.loads(file.read_text(encoding="utf-8"))
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in content["panels"])
    figure = Figure(figsize=(COLUMNS * UNIT_INCHES[0], rows * UNIT_INCHES[1]), dpi=80, facecolor="#f4f5f5")
    expressions = iter(dashboard_queries(file))
    for panel in content["panels"]:
        place = panel["gridPos"]
        left, top = place["x"] / COLUMNS, 1 - place["y"] / rows
        width, height = place["w"] / COLUMNS, place["h"] / rows
        if panel["type"] == "row":
            figure.text(left + 0.006, top - height * 0.75, panel["title"], fontsize=11, fontweight="bold")
            continue
        frame = figure.add_axes((left + 0.003, top - height + 0.0015, width - 0.006, height - 0.003))
        frame.set(xticks=[], yticks=[], facecolor="white")
        frame.spines[:].set_color("#d8d9da")
        figure.text(left + 0.008, top - 0.95 / rows, panel["title"], fontsize=9, fontweight="bold")
        inset = (left + 0.04, top - height + 1.9 / rows, width - 0.055, height - 3.4 / rows)
        if panel["type"] in ("stat", "table"):
            inset = (left + 0.012, top - height + 0.3 / rows, width - 0.02, height - 1.5 / rows)
        axes = figure.add_axes(inset)
        axes.tick_params(labelsize=6)
        axes.spines[["top", "right"]].set_visible(False)
        queries = [next(expressions) for _ in panel["targets"]]
        draw_panel(axes, panel, [(query, _answers(prometheus, query, start, end)) for query in queries], start)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    return Image.open(drawn).convert("RGB").quantize(PALETTE)


def _answers(prometheus: RunningPrometheus, query: Query, start: float, end: float) -> list[dict[str, Any]]:
    if query.kind == "table":
        return prometheus.query(query.expression, end - STEP)
    return prometheus.query_range(query.expression, start, end, STEP)


def draw_panel(axes: Axes, panel: dict[str, Any], answers: Sequence[Answer], start: float) -> None:
    """One panel's answers, roughly as Grafana draws them."""
    unit = panel["fieldConfig"]["defaults"]["unit"]
    factor, suffix = UNITS.get(unit, (1.0, ""))
    match panel["type"]:
        case "stat":
            draw_stat(axes, answers, factor, suffix)
        case "table":
            draw_table(axes, answers)
        case "heatmap":
            draw_heatmap(axes, answers, factor, suffix, start)
        case _:
            stacked = panel["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal"
            draw_lines(axes, answers, factor, suffix, start, stacked=stacked)


def draw_stat(axes: Axes, answers: Sequence[Answer], factor: float, suffix: str) -> None:
    """Draw the last value, large."""
    values = [float(value) for _, found in answers for series in found for _, value in series["values"]]
    known = [value for value in values if not math.isnan(value)]
    text = f"{factor * known[-1]:.3g} {suffix}" if known else "no data"
    axes.axis("off")
    axes.text(0.45, 0.45, text, fontsize=19, color=COLOURS[1], ha="center", va="center", transform=axes.transAxes)


def draw_table(axes: Axes, answers: Sequence[Answer]) -> None:
    """Write the labels and the value of each series, one per line."""
    axes.axis("off")
    rows = [[*series["metric"].values(), series["value"][1]] for _, found in answers for series in found]
    heads = [*next(iter(answers))[1][0]["metric"], "Value"]
    for line, row in enumerate([heads, *rows]):
        for column, cell in enumerate(row):
            weight = "bold" if line == 0 else "normal"
            place = (column / len(heads), 1 - (line + 0.5) * 0.14)
            axes.text(*place, cell, fontsize=8, fontweight=weight, transform=axes.transAxes, va="center")


def draw_heatmap(axes: Axes, answers: Sequence[Answer], factor: float, suffix: str, start: float) -> None:
    """How many fell into each bucket at each moment; the series are cumulative over ``le``."""
    ((_, found),) = answers
    edges = sorted({float(series["metric"]["le"]) for series in found})
    times = sorted({moment for series in found for moment, _ in series["values"]})
    cumulative = np.zeros((len(edges), len(times)))
    for series in found:
        row = edges.index(float(series["metric"]["le"]))
        for moment, value in series["values"]:
            cumulative[row, times.index(moment)] = float(value)
    counts = np.diff(cumulative, axis=0, prepend=0).clip(0)
    axes.imshow(
        counts, aspect="auto", origin="lower", cmap="Blues", extent=(times[0] - start, times[-1] - start, 0, len(edges))
    )
    axes.set_yticks(np.arange(len(edges)) + 0.5, [f"{factor * edge:g} {suffix}".strip() for edge in edges], fontsize=6)


def legend(query: Query, series: dict[str, Any]) -> str:
    """Name a series, with its labels where the legend has them."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: str(series["metric"].get(found[1], "")), query.legend)


def draw_lines(
    axes: Axes, answers: Sequence[Answer], factor: float, suffix: str, start: float, *, stacked: bool
) -> None:
    """Each series over time, on top of one another where the panel stacks."""
    below: dict[float, float] = {}
    drawn = [(query, series) for query, found in answers for series in found]
    for (query, series), colour in zip(drawn, itertools.cycle(COLOURS)):
        points = [(moment, factor * float(value)) for moment, value in series["values"]]
        times = np.array([moment - start for moment, _ in points])
        low = np.array([below.get(moment, 0.0) for moment, _ in points]) if stacked else np.zeros(len(points))
        high = low + np.nan_to_num(np.array([value for _, value in points]), nan=0.0 if stacked else np.nan)
        axes.plot(times, high, color=colour, linewidth=1, label=legend(query, series))
        if stacked:
            axes.fill_between(times, low, high, color=colour, alpha=0.3, linewidth=0)
            below |= dict(zip((moment for moment, _ in points), high.tolist(), strict=True))
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} {suffix}".strip()))
    axes.legend(fontsize=6, frameon=False, ncols=4, loc="upper left", bbox_to_anchor=(-0.05, -0.1), handlelength=1)


if __name__ == "__main__":
    main()
