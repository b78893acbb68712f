"""``repserve bench sweep``: throughput and latency over concurrency and over settings of the server."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from repserve_bench.environment import describe_environment
from repserve_bench.load import LoadError, run_load
from repserve_bench.load_options import prepare
from repserve_bench.progress import make_display
from repserve_bench.report_file import SCHEMA_VERSION, SWEEP
from repserve_bench.served_model import describe_instances, is_simulated
from repserve_bench.server_process import ServerError, ServerProcess, ServerSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from rich.console import Console

    from repserve_bench.load_options import LoadOptions, Prepared
    from repserve_bench.tally import Tally

DEVICE = "device"


@dataclass(frozen=True)
class Point:
    """One combination; times in seconds."""

    concurrency: int
    server: dict[str, str]
    """Settings of a server that the sweep started, such as max_batch_size; empty for one that ran already."""
    fps: float
    p50_seconds: float | None
    p99_seconds: float | None
    mean_batch_size: float | None
    client_cpu_milliseconds: float
    """For an image, of the load processes."""
    server_cpu_milliseconds: float | None
    """For an image, of a server that the sweep started."""
    stability: str
    """stable, not stable, or too short to tell."""
    client_bound: bool
    failed: int
    devices: list[str]
    simulated: bool

    @property
    def note(self) -> str:
        """What there is to say against the figures; empty when nothing is."""
        notes = (
            ("SIMULATED", self.simulated),
            (self.stability, self.stability != "stable"),
            ("client busy", self.client_bound),
        )
        return ", ".join(note for note, true in notes if true)


@dataclass
class Sweep:
    """The points in the order in which they were measured."""

    prepared: Prepared
    """Images, model and how they are sent, of the first server."""
    seconds: float
    """Length of each measurement."""
    points: list[Point] = field(default_factory=list)
    interrupted: bool = False
    error: str = ""
    """Why the points that are missing could not be measured."""

    @property
    def simulated(self) -> bool:
        """Whether any point is that of a pretended device."""
        return any(point.simulated for point in self.points)

    @property
    def devices(self) -> list[str]:
        """What the points were measured on."""
        return list(dict.fromkeys(device for point in self.points for device in point.devices))

    @property
    def failed(self) -> int:
        """Requests that failed at any point."""
        return sum(point.failed for point in self.points)


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

    def describe(self) -> str:
        return "".join(f"{name} {value}, " for name, value in self.values.items())


def sweep(
    load: LoadOptions,
    servers: OwnServers | None,
    concurrencies: Sequence[int],
    seconds: float,
    console: Console,
) -> Sweep:
    """Measures every combination; after Ctrl-C, or an error, what was measured until then is returned.

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
            found = found or Sweep(condition.prepared, seconds)
            for concurrency in concurrencies:
                console.print(f"{condition.describe()}{concurrency} in flight", highlight=False)
                found.points.append(_measure(condition, concurrency, seconds, console))
    except (LoadError, ServerError, KeyboardInterrupt) as error:
        if found is None or not found.points:
            raise
        found.interrupted = isinstance(error, KeyboardInterrupt)
        found.error = str(error)
    if found is None:
        raise LoadError("there is nothing to sweep: name at least one value of each setting")
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


class _ServerMeter:
    """The CPU time of a server between the first and the last look at a load, so that its warming up does not count."""

    def __init__(self, server: ServerProcess | None) -> None:
        self._server = server
        self._readings: list[tuple[int, float]] = []

    def read(self, tally: Tally) -> None:
        """Notes how many images were answered by now, and for how much CPU time."""
        if self._server is not None:
            self._readings = [*self._readings[:1], (tally.images, self._server.cpu_seconds())]

    @property
    def milliseconds_an_image(self) -> float | None:
        """CPU time for an image; None where the server is not ours, or too little was seen of it."""
        if len(self._readings) < 2:  # noqa: PLR2004 - a difference
            return None
        (images, cpu), (last_images, last_cpu) = self._readings
        return 1000 * (last_cpu - cpu) / (last_images - images) if last_images > images else None


def _measure(condition: _Condition, concurrency: int, seconds: float, console: Console) -> Point:
    prepared, server = condition.prepared, condition.server
    settings = replace(prepared.settings, concurrency=concurrency, seconds=seconds, requests=0)
    meter = _ServerMeter(server)
    with make_display(console, requests=0, seconds=seconds, accuracy=False) as display:

        def progress(tally: Tally, elapsed: float) -> None:
            display(tally, elapsed)
            meter.read(tally)

        result = run_load(prepared.dataset.samples, settings, progress)
    if result.interrupted:
        raise KeyboardInterrupt
    tally = result.tally
    return Point(
        concurrency=concurrency,
        server=condition.values,
        fps=result.fps,
        p50_seconds=tally.percentile(50),
        p99_seconds=tally.percentile(99),
        mean_batch_size=tally.mean_batch_size,
        client_cpu_milliseconds=1000 * result.cpu_seconds / tally.images if tally.images else 0.0,
        server_cpu_milliseconds=meter.milliseconds_an_image,
        stability=result.stability.verdict,
        client_bound=result.client_bound,
        failed=tally.failed,
        devices=describe_instances(prepared.model)["devices"],
        simulated=is_simulated(prepared.model),
    )


def sweep_table(found: Sweep) -> Table:
    """Returns the points as a table for a terminal; simulated devices are marked."""
    title = f"{found.prepared.model.name} at {', '.join(found.devices) or 'a server that does not tell'}"
    if found.simulated:
        title = f"SIMULATED: {title}"
    if found.interrupted:
        title += " (interrupted)"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False)
    varied = found.points[0].server if found.points else {}
    for column in (*(name.replace("_", "\n") for name in varied), *COLUMNS):
        table.add_column(column, justify="right")
    for point in found.points:
        table.add_row(*point.server.values(), *(_cell(value) for value in _cells(point)))
    return table


def sweep_json(found: Sweep) -> dict[str, object]:
    """Returns everything as JSON values; times in seconds."""
    model = found.prepared.model
    return {
        "schema": SWEEP,
        "schema_version": SCHEMA_VERSION,
        "environment": describe_environment(),
        # The number in flight is each point's own.
        "settings": asdict(replace(found.prepared.settings, seconds=found.seconds)) | {"concurrency": None},
        "model": {
            "name": model.name,
            "version": model.version,
            "simulated": found.simulated,
            **describe_instances(model),
            "devices": found.devices,
        },
        "interrupted": found.interrupted,
        "error": found.error,
        "points": [{**asdict(point), "note": point.note} for point in found.points],
    }


COLUMNS = (
    *("in\nflight", "fps", "p50\nms", "p99\nms", "mean\nbatch"),
    *("client\nCPU-ms", "server\nCPU-ms", "failed", "note"),
)


def _cells(point: Point) -> tuple[float | str | None, ...]:
    return (
        point.concurrency,
        round(point.fps, 1),
        _milliseconds(point.p50_seconds),
        _milliseconds(point.p99_seconds),
        point.mean_batch_size,
        point.client_cpu_milliseconds,
        point.server_cpu_milliseconds,
        point.failed,
        point.note,
    )


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds


def _cell(value: float | str | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
