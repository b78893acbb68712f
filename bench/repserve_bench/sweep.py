"""``repserve bench sweep``: throughput and latency over concurrency and over settings of the server."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING, Any

from repserve_bench.column import Column, rich_table
from repserve_bench.figures import SERIES_FIGURES, columns, point_json, report_head
from repserve_bench.load_options import prepare
from repserve_bench.measurement import measure
from repserve_bench.report_file import SWEEP
from repserve_bench.series import Series
from repserve_bench.server_process import ServerProcess, ServerSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from rich.console import Console
    from rich.table import Table

    from repserve_bench.load_options import LoadOptions, Prepared

DEVICE = "device"


@dataclass
class Sweep(Series):
    """The points in the order in which they were measured."""

    seconds: float
    """Length of each measurement."""
    prepared: Prepared = field(init=False)
    """Images, model and how they are sent, of the first server."""
    points: list[dict[str, Any]] = field(default_factory=list)
    """Figures, with the settings of a server that the sweep started under ``server``."""

    @property
    def failed(self) -> int:
        """Requests that failed at any point."""
        return sum(point["failed_requests"] for point in self.points)

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values; times in seconds."""
        # The number in flight is each point's own.
        settings = replace(self.prepared.settings, seconds=self.seconds)
        document = report_head(SWEEP, settings, self.prepared.model)
        document["settings"]["concurrency"] = None
        document["model"] |= {
            "simulated": any(point["simulated"] for point in self.points),
            "devices": list(dict.fromkeys(device for point in self.points for device in point["devices"])),
        }
        return {**document, "interrupted": self.interrupted, "error": self.error, "points": self.points}


@dataclass(frozen=True)
class OwnServers:
    """The servers that a sweep starts: one for each combination."""

    model_repository: Path
    device: str
    varied: Mapping[str, Sequence[str]]
    """Values of settings of ``repserve serve``, by name; one server for each combination."""


def sweep(
    load: LoadOptions,
    servers: OwnServers | None,
    concurrencies: Sequence[int],
    seconds: float,
    console: Console,
) -> Sweep:
    """Measure every combination; after Ctrl-C, or an error, what was measured until then is returned.

    Args:
        load: Images, model and how to send.
        servers: Which servers to start; None measures the one that runs at the load's address.
        concurrencies: Requests in flight.
        seconds: Length of each measurement.
        console: Where progress is shown.

    Raises:
        DatasetError: There are no images, or none in common with the labels.
        LoadError: The first load could not be made.
        ServerError: The first server did not start.
    """
    found = Sweep(seconds)
    with found.kept(found.points):
        for prepared, server, values in _conditions(load, servers):
            if not found.points:
                found.prepared = prepared
            for concurrency in concurrencies:
                varied = "".join(f"{name} {value}, " for name, value in values.items())
                console.print(f"{varied}{concurrency} in flight", highlight=False)
                settings = replace(prepared.settings, concurrency=concurrency, seconds=seconds, requests=0)
                point = measure(prepared.dataset, settings, prepared.model, console, server)
                found.points.append({**point_json(point), "server": values})
    return found


def _conditions(
    load: LoadOptions, servers: OwnServers | None
) -> Iterator[tuple[Prepared, ServerProcess | None, dict[str, str]]]:
    """Yield each server to measure, with the settings that it was started with where it is the sweep's own."""
    if servers is None:
        yield prepare(load), None, {}
        return
    for combination in product(*servers.varied.values()):
        values = dict(zip(servers.varied, combination, strict=True))
        flags = [
            part for name, value in values.items() if name != DEVICE for part in (f"--{name.replace('_', '-')}", value)
        ]
        settings = ServerSettings(
            model_repository=servers.model_repository,
            # A second --device would be served beside the first.
            device=values.get(DEVICE, servers.device),
            models=(load.model,) if load.model else (),
            extra=flags,
        )
        with ServerProcess(settings) as server:
            yield prepare(replace(load, server=server.address)), server, values


def sweep_columns(document: Mapping[str, Any]) -> tuple[Column, ...]:
    """Return the columns of a sweep's table: what was varied, and the figures."""
    varied = document["points"][0]["server"] if document["points"] else {}
    settings = (Column(f"server/{name}", name.replace("_", " ")) for name in varied)
    return (*settings, *columns("concurrency"), *SERIES_FIGURES)


def sweep_table(document: Mapping[str, Any]) -> Table:
    """Return the points as a table for a terminal; simulated devices are marked."""
    simulated = "SIMULATED: " if document["model"]["simulated"] else ""
    title = simulated + sweep_title(document) + (" (interrupted)" if document["interrupted"] else "")
    return rich_table(sweep_columns(document), document["points"], title)


def sweep_title(document: Mapping[str, Any]) -> str:
    """Return the model and its devices; servers that speak KServe v2 only do not name theirs."""
    model = document["model"]
    return f"{model['name']} on {', '.join(model['devices']) or 'an unknown device'}"
