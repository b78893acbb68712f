"""Measures the guide's table: each device at max batch 1 and 16, through a server of its own."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from repserve_bench.dataset import load_dataset
from repserve_bench.environment import describe_environment
from repserve_bench.guide_table import NOTES, SIMULATED_PREFIX, SOURCE, MeasuredRow, rich_table, shortfalls
from repserve_bench.load import LoadError, LoadSettings, run_load
from repserve_bench.payloads import InputSettings
from repserve_bench.progress import make_display
from repserve_bench.served_model import NO_LABELS, choose_model, is_simulated, list_models
from repserve_bench.server_process import ServerProcess, ServerSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from repserve_bench.dataset import Dataset
    from repserve_bench.load import LoadResult
    from repserve_client.results import ModelInfo

MAX_BATCHES = (1, 16)
NOT_MEASURED_RANDOM = "none: random weights"
NOT_MEASURED_SIMULATED = "none: SIMULATED"
LEAST_IMAGES = 16
LEAST_REQUESTS = 4
BUNDLED_IMAGES = Path("repvgg_digits", "validation", "images")


@dataclass(frozen=True)
class TableSettings:
    """What is measured."""

    model_repository: Path
    model: str = "repvgg_a0"
    devices: tuple[str, ...] = ("cpu", "sim:310p")
    images: Path | None = None
    """Folder of images; None takes the bundled ones, which serve for speed only."""
    labels: Path | None = None
    seconds: float = 5.0
    """Length of each measurement at least."""
    precision: str | None = None


@dataclass
class TableResult:
    """The measured rows and whether requests failed."""

    rows: list[MeasuredRow] = field(default_factory=list)
    failed: int = 0
    interrupted: bool = False

    def to_json(self) -> dict[str, object]:
        """Returns the rows and the environment as JSON values."""
        return {
            "schema": "repserve.bench.table",
            "schema_version": 1,
            "environment": describe_environment(),
            "published_source": SOURCE,
            "failed_requests": self.failed,
            "interrupted": self.interrupted,
            "rows": [asdict(row) for row in self.rows],
        }


def measure_table(settings: TableSettings, console: Console) -> TableResult:
    """Measures and prints the table.

    Raises:
        DatasetError: There are no images, or none in common with the labels.
        LoadError: A replay could not be made.
        ServerError: A server did not start.
    """
    images = settings.images or settings.model_repository / BUNDLED_IMAGES
    dataset = load_dataset(images, settings.labels)
    kilobytes = sum(sample.path.stat().st_size for sample in dataset.samples) / len(dataset.samples) / 1000
    console.print(f"Images: {dataset.describe()}, {kilobytes:.0f} kB on average, from {images}", highlight=False)
    result = TableResult()
    for device, max_batch_size in product(settings.devices, MAX_BATCHES):
        row, outcome = _measure(settings, dataset, device, max_batch_size, console)
        result.rows.append(row)
        result.failed += outcome.tally.failed
        result.interrupted = outcome.interrupted
        if result.interrupted:
            break
    console.print()
    print_table(result.rows, console)
    return result


def print_table(rows: Sequence[MeasuredRow], console: Console) -> None:
    """Prints the table with its notes."""
    console.print(rich_table(rows))
    console.print()
    for note in (*NOTES, *shortfalls(rows)):
        console.print(note, highlight=False)


def load_settings(address: str, device: str, max_batch_size: int, settings: TableSettings) -> LoadSettings:
    """Chooses the load that fills a device: images for two batches in flight, at least 16 in four requests.

    A device that takes half a millisecond an image is not filled by fewer, since a request takes several.

    Simulated devices get as many cropped images a request as a batch has, since a machine that has no such
    device cannot decode for one either.
    """
    pixels = device.startswith(SIMULATED_PREFIX)
    per_request = max_batch_size if pixels else 1
    return LoadSettings(
        address=address,
        concurrency=max(LEAST_REQUESTS, max(LEAST_IMAGES, 2 * max_batch_size) // per_request),
        seconds=settings.seconds,
        input=InputSettings(model=settings.model, pixels=pixels, images_per_request=per_request),
    )


def missing_accuracy(model: ModelInfo, dataset: Dataset) -> str:
    """Says why no accuracy can be measured; empty when it can."""
    if is_simulated(model):
        return NOT_MEASURED_SIMULATED
    if model.caution:
        return NOT_MEASURED_RANDOM
    return "" if dataset.labelled else NO_LABELS


def _measure(
    settings: TableSettings,
    dataset: Dataset,
    device: str,
    max_batch_size: int,
    console: Console,
) -> tuple[MeasuredRow, LoadResult]:
    server_settings = ServerSettings(
        model_repository=settings.model_repository,
        device=device,
        models=(settings.model,),
        max_batch_size=max_batch_size,
        precision=settings.precision,
    )
    with ServerProcess(server_settings) as server:
        model = choose_model(list_models(server.address), settings.model)
        if model.max_batch_size and model.max_batch_size < max_batch_size:
            raise LoadError(
                f"{model.name} takes batches of at most {model.max_batch_size}; the table needs {max_batch_size}: "
                "set max_batch_size in its model.toml"
            )
        load = load_settings(server.address, device, max_batch_size, settings)
        missing = missing_accuracy(model, dataset)
        requests = 0 if missing else len(dataset.samples)
        load = replace(load, requests=requests, input=replace(load.input, crop=model.crop, resize=model.resize))
        console.print(_announce(device, max_batch_size, load), highlight=False)
        with make_display(console, requests=requests, seconds=settings.seconds, accuracy=not missing) as display:
            outcome = run_load(dataset.samples, load, display)
    if not outcome.tally.images:
        raise LoadError(f"no image was answered on {device} at max batch {max_batch_size}: {outcome.tally.failures}")
    return _row(device, max_batch_size, model, outcome, missing), outcome


def _announce(device: str, max_batch_size: int, load: LoadSettings) -> str:
    sent = "encoded images"
    if load.input.pixels:
        count = load.input.images_per_request
        sent = f"cropped pixels, {count} image{'s' if count > 1 else ''} a request"
    return f"{device} at max batch {max_batch_size}: {sent}, {load.concurrency} requests in flight"


def _row(device: str, max_batch_size: int, model: ModelInfo, outcome: LoadResult, missing: str) -> MeasuredRow:
    instance = model.instances[0]
    return MeasuredRow(
        device=device,
        backend=instance.backend,
        precision=instance.precision,
        model=model.name,
        max_batch_size=max_batch_size,
        fps=outcome.fps,
        simulated=is_simulated(model),
        top1=None if missing else outcome.tally.accuracy.top1,
        top1_missing=missing,
    )
