"""Put reports of the bench into one HTML file that needs no network."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repserve_bench.column import PERCENT, list_figures
from repserve_bench.figures import RUN_FIGURES, columns
from repserve_bench.guide_table import GUIDE_BATCHES, MeasuredRow, guide_tables
from repserve_bench.html import plots
from repserve_bench.mlperf.logs import SCENARIO_COLUMNS
from repserve_bench.report_file import MLPERF, RUN, SATURATE, SWEEP, TABLE, write_json
from repserve_bench.saturation import SATURATION_COLUMNS, by_rate
from repserve_bench.sweep import sweep_columns, sweep_title

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

TEMPLATE = "page.html.j2"
THUMBNAIL = 112
"""Side in pixels of the pictures of mistakes."""
SHOWN_CLASSES = 20
"""Classes in the table of accuracies: those with the lowest."""
REST = "network, gRPC, threads"
TILES = columns(
    *("fps", "latency_seconds/p50", "latency_seconds/p99", "accuracy/top1", "accuracy/top5"),
    *("failed_requests", "mean_batch_size", "client/cpu_milliseconds_per_request"),
)


def write_report(document: dict[str, Any], output: Path | None, html: Path | None, console: Console) -> None:
    """Write a report as JSON, as HTML or both, and print where.

    Raises:
        OSError: A file cannot be written.
    """
    if output is not None:
        write_json(output, document)
        console.print(f"Report written to {output}", highlight=False, soft_wrap=True)
    if html is not None:
        write_page(html, [document])
        console.print(f"HTML report written to {html}", highlight=False, soft_wrap=True)


def write_page(file: Path, documents: Sequence[Mapping[str, Any]]) -> None:
    """Write the reports as one page.

    Args:
        file: The HTML file.
        documents: Reports of any kind, as ``repserve bench`` writes them to JSON.

    Raises:
        OSError: The file cannot be written.
    """
    file.write_text(render(documents), encoding="utf-8")


def render(documents: Sequence[Mapping[str, Any]]) -> str:
    """Return the page's HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["percent"] = PERCENT.text
    runs = [_run(document) for document in documents if document["schema"] == RUN]
    return environment.get_template(TEMPLATE).render(
        title=_title(documents),
        simulated=any(_simulated(document) for document in documents),
        runs=runs,
        sweeps=[_sweep(document) for document in documents if document["schema"] == SWEEP],
        saturations=[_saturation(document) for document in documents if document["schema"] == SATURATE],
        mlperf=[_mlperf(document) for document in documents if document["schema"] == MLPERF],
        guide=guide_tables(_measured_rows(documents)),
        environments=_environments(documents),
    )


def _title(documents: Sequence[Mapping[str, Any]]) -> str:
    names = dict.fromkeys(document["model"]["name"] for document in documents if "model" in document)
    return ", ".join(names) or "RepServe bench"


def _simulated(document: Mapping[str, Any]) -> bool:
    if document["schema"] == TABLE:
        return any(row["simulated"] for row in document["rows"])
    return bool(document["model"]["simulated"])


def _run(document: Mapping[str, Any]) -> dict[str, Any]:
    histogram, stability = document["latency_histogram"], document["stability"]
    pictures: dict[str, plots.Picture] = {}
    if histogram["counts"]:
        pictures["latency"] = plots.latency_histogram(
            histogram["edges"], histogram["counts"], document["latency_seconds"]
        )
    if len(stability["windows"]) > 1:
        pictures["windows"] = plots.windows(stability["windows"], stability["window_seconds"])
    if document["batch_sizes"]:
        pictures["batches"] = plots.batch_sizes(document["batch_sizes"])
    stages = {name: document[f"mean_{name}_seconds"] for name in ("decode", "queue", "compute", "other")}
    if None not in stages.values():
        pictures["stages"] = plots.stages({(REST if n == "other" else n): s for n, s in stages.items()})
    accuracy = document["accuracy"]
    classes = sorted(accuracy.get("classes", ()), key=lambda entry: (entry["top1"], entry["index"]))
    return {
        "document": document,
        "figures": list_figures(RUN_FIGURES, document),
        "tiles": [(column.heading, column.text(document)) for column in TILES],
        "pictures": pictures,
        "classes": classes[:SHOWN_CLASSES],
        "all_classes": len(classes),
        "mistakes": [
            {**mistake, "thumbnail": thumbnail(Path(mistake["path"]))} for mistake in accuracy.get("worst_mistakes", ())
        ],
    }


def _sweep(document: Mapping[str, Any]) -> dict[str, Any]:
    series: dict[str, list[Mapping[str, Any]]] = {}
    for point in document["points"]:
        name = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in point["server"].items())
        name = f"{name} SIMULATED".strip() if point["simulated"] else name
        series.setdefault(name, []).append(point)
    return {
        "document": document,
        "title": sweep_title(document),
        "columns": sweep_columns(document),
        "picture": plots.throughput_latency(series),
    }


def _saturation(document: Mapping[str, Any]) -> dict[str, Any]:
    steps = by_rate(document)
    picture = plots.saturation(steps, document["p99_bound_seconds"])
    return {"document": document, "columns": SATURATION_COLUMNS, "steps": steps, "picture": picture}


def _mlperf(document: Mapping[str, Any]) -> dict[str, Any]:
    remarks = any(row["remark"] for row in document["scenarios"])
    shown = [column for column in SCENARIO_COLUMNS if column.heading and (remarks or column.key != "remark")]
    return {"document": document, "columns": shown}


def _measured_rows(documents: Sequence[Mapping[str, Any]]) -> list[MeasuredRow]:
    """Return what belongs into the guide's table: all that 'bench table' measured, and runs on a RepVGG-A0."""
    found = []
    for document in documents:
        if document["schema"] == TABLE:
            found += [MeasuredRow(**row) for row in document["rows"]]
        elif document["schema"] == RUN:
            row = MeasuredRow.from_document(document)
            found += [row] if row.repvgg_a0 and row.max_batch_size in GUIDE_BATCHES else []
    return found


def _environments(documents: Sequence[Mapping[str, Any]]) -> list[tuple[dict[str, str], list[str]]]:
    """Return each environment once, with the dates of what was measured in it."""
    found: list[tuple[dict[str, str], list[str]]] = []
    for document in documents:
        environment = dict(document["environment"])
        date = str(environment.pop("date_utc"))
        packages = environment.pop("packages", {})
        described = {name.replace("_", " "): str(value) for name, value in environment.items()}
        described |= _server(document)
        described["packages"] = ", ".join(f"{name} {version}" for name, version in packages.items())
        for known, dates in found:
            if known == described:
                dates.append(date)
                break
        else:
            found.append((described, [date]))
    return found


def _server(document: Mapping[str, Any]) -> dict[str, str]:
    """Return what answered, as far as it is known; the rest of the environment is the client's."""
    if document["schema"] == TABLE:
        return {}
    model = document["model"]
    runs_on = [", ".join(model[name]) for name in ("devices", "backends", "precisions") if model.get(name)]
    return {"server": document["settings"]["address"], "device": " · ".join(runs_on) or "unknown"}


def thumbnail(path: Path) -> str:
    """Return a small picture of an image file as a ``data:`` URL; empty when the file cannot be shown."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            small = image.convert("RGB")
    except (OSError, ValueError):
        return ""
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    content = io.BytesIO()
    small.save(content, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()
