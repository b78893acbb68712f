"""Puts reports of the bench into one HTML file that needs no network."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repserve_bench.guide_table import COLUMNS, NOTES, MeasuredRow, shortfalls, table_cells
from repserve_bench.html import plots
from repserve_bench.report_file import MLPERF, RUN, SATURATE, SWEEP, TABLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

TEMPLATE = "page.html.j2"
THUMBNAIL = 112
"""Side in pixels of the pictures of mistakes."""
SHOWN_CLASSES = 20
"""Classes in the table of accuracies: those with the lowest."""
REST = "reply, gRPC, waiting for a thread"
GUIDE_BATCHES = (1, 16)
GUIDE_CROP = 224
GUIDE_CLASSES = 1000


def write_page(file: Path, documents: Sequence[Mapping[str, Any]]) -> None:
    """Writes the reports as one page.

    Args:
        file: The HTML file.
        documents: Reports of any kind, as ``repserve bench`` writes them to JSON.

    Raises:
        OSError: The file cannot be written.
    """
    file.write_text(render(documents), encoding="utf-8")


def render(documents: Sequence[Mapping[str, Any]]) -> str:
    """Returns the page's HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"ms": _milliseconds, "percent": _percent, "number": _number}
    runs = [_run(document) for document in documents if document["schema"] == RUN]
    return environment.get_template(TEMPLATE).render(
        title=_title(documents),
        simulated=any(_simulated(document) for document in documents),
        runs=runs,
        sweeps=[_sweep(document) for document in documents if document["schema"] == SWEEP],
        saturations=[_saturation(document) for document in documents if document["schema"] == SATURATE],
        mlperf=[document for document in documents if document["schema"] == MLPERF],
        guide=_guide(documents),
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
    pictures = {}
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
        "series": series,
        "varied": any(series),
        "picture": plots.throughput_latency(series),
    }


def _saturation(document: Mapping[str, Any]) -> dict[str, Any]:
    steps = sorted(document["steps"], key=lambda step: float(step["rate"]))
    picture = plots.saturation(steps, document["p99_bound_seconds"])
    return {"document": document, "steps": steps, "picture": picture}


def _guide(documents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    rows = list(_measured_rows(documents))
    return {"columns": COLUMNS, "rows": table_cells(rows), "notes": [*NOTES, *shortfalls(rows)]}


def _measured_rows(documents: Sequence[Mapping[str, Any]]) -> Iterator[MeasuredRow]:
    for document in documents:
        if document["schema"] == TABLE:
            yield from (MeasuredRow(**row) for row in document["rows"])
        elif document["schema"] == RUN and _comparable(document["model"]):
            model, accuracy = document["model"], document["accuracy"]
            yield MeasuredRow(
                device=", ".join(model["devices"]),
                backend=", ".join(model["backends"]),
                precision=", ".join(model["precisions"]),
                model=model["name"],
                max_batch_size=model["max_batch_size"],
                fps=document["fps"],
                simulated=model["simulated"],
                top1=accuracy["top1"],
                top1_missing=accuracy.get("missing", "no labelled image was answered"),
            )


def _comparable(model: Mapping[str, Any]) -> bool:
    """Says whether a run belongs beside the guide's figures, which are those of an ImageNet model at 224 by 224."""
    return (
        model["max_batch_size"] in GUIDE_BATCHES and model["crop"] == GUIDE_CROP and model["classes"] == GUIDE_CLASSES
    )


def _environments(documents: Sequence[Mapping[str, Any]]) -> list[tuple[dict[str, str], list[str]]]:
    """Returns each environment once, with the dates of what was measured in it."""
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
    """Returns what answered, as far as it tells; the rest of the environment is the client's."""
    if document["schema"] == TABLE:
        return {}
    model = document["model"]
    runs_on = [", ".join(model[name]) for name in ("devices", "backends", "precisions") if model.get(name)]
    return {"server": document["settings"]["address"], "device": " · ".join(runs_on) or "the server does not tell"}


def thumbnail(path: Path) -> str:
    """Returns a small picture of an image file as a ``data:`` URL; empty when the file cannot be shown."""
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


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:.2f} ms"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
