"""``repserve bench sweep``: throughput and latency over concurrency and over settings of the server."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING, Any

from repserve_bench.column import Column, rich_table
from repserve_bench.errors import LoadError
from repserve_bench.figures import SERIES_FIGURES, columns, point_json, report_head
from repserve_bench.load_options import prepare
from repserve_bench.measurement import measure
from repserve_bench.report_file import SWEEP
from repserve_bench.server_process import ServerError, ServerProcess, ServerSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from rich.console import Console
    from rich.table import Table

    from repserve_bench.load_options import LoadOptions, Prepared

DEVICE = "device"


@dataclass
class Sweep:
    """The points in the order in which they were measured."""

    prepared: Prepared
    """Images, model and how they are sent, of the first server."""
    seconds: float
    """Length of each measurement."""
    points: list[dict[str, Any]] = field(default_factory=list)
    """Figures, with the settings of a server that the sweep started under ``server``."""
    interrupted: bool = False
    error: str = ""
    """Why the points that are missing could not be measured."""

    @property
    def failed(self) -> int:
        """Requests that failed at any point."""
        return sum(point["failed_requests"] for point in self.points)

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values; times in seconds."""
        # The number in flight is each point's own.
        settings = replace(self.prepared.settings, seconds=self.seconds, concurrency=0)
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


@dataclass(frozen=True)
class _Condition:
    """A server to measure."""

    prepared: Prepared
    server: ServerProcess | None = None
    values: dict[str, str] = field(default_factory=dict)


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
    found: Sweep | None = None
    try:
        for condition in _conditions(load, servers):
            prepared = condition.prepared
            found = found or Sweep(prepared, seconds)
            for concurrency in concurrencies:
                varied = "".join(f"{name} {value}, " for name, value in condition.values.items())
                console.print(f"{varied}{concurrency} in flight", highlight=False)
                settings = replace(prepared.settings, concurrency=concurrency, seconds=seconds, requests=0)
                point = measure(prepared.dataset, settings, prepared.model, console, condition.server)
                found.points.append({**point_json(point), "server": condition.values})
    except (LoadError, ServerError, KeyboardInterrupt) as error:
        if found is None or not found.points:
            raise
        found.interrupted = isinstance(error, KeyboardInterrupt)
        found.error = str(error)
    if found is None:
        raise LoadError("there is nothing to sweep: give at least one value for each setting")
    return found


def _conditions(load: LoadOptions, servers: OwnServers | None) -> Iterator[_Condition]:
    if servers is None:
        yield _Condition(prepare(load))
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
            yield _Condition(prepare(replace(load, server=server.address)), server, values)


def sweep_columns(document: Mapping[str, Any]) -> tuple[Column, ...]:
    """Return the columns of a sweep's table: what was varied, and the figures."""
    varied = document["points"][0]["server"] if document["points"] else {}
    settings = (Column(f"server/{name}", name.replace("_", " ")) for name in varied)
    return (*settings, *columns("concurrency"), *SERIES_FIGURES)


def sweep_table(document: Mapping[str, Any]) -> Table:
    """Return the points as a table for a terminal; simulated devices are marked."""
    model = document["model"]
    title = f"{model['name']} on {', '.join(model['devices']) or 'an unknown device'}"
    title = (
        ("SIMULATED: " if model["simulated"] else "") + title + (" (interrupted)" if document["interrupted"] else "")
    )
    return rich_table(sweep_columns(document), document["points"], title)
