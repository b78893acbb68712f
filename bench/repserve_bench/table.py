"""Measures the guide's table: each device at max batch 1 and 16, through a server of its own."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from repserve_bench.dataset import load_dataset
from repserve_bench.environment import describe_environment
from repserve_bench.errors import LoadError
from repserve_bench.figures import run_json
from repserve_bench.guide_table import SIMULATED_PREFIX, SOURCE, MeasuredRow, guide_tables
from repserve_bench.load_messages import LoadSettings
from repserve_bench.measurement import measure
from repserve_bench.payloads import InputSettings
from repserve_bench.report_file import SCHEMA_VERSION, TABLE
from repserve_bench.served_model import accuracy_missing, choose_model, list_models
from repserve_bench.server_process import ServerProcess, ServerSettings

if TYPE_CHECKING:
    from rich.console import Console

    from repserve_bench.dataset import Dataset

MAX_BATCHES = (1, 16)
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
        """Return the rows and the environment as JSON values."""
        return {
            "schema": TABLE,
            "schema_version": SCHEMA_VERSION,
            "environment": describe_environment(),
            "published_source": SOURCE,
            "failed_requests": self.failed,
            "interrupted": self.interrupted,
            "rows": [asdict(row) for row in self.rows],
        }


def measure_table(settings: TableSettings, console: Console) -> TableResult:
    """Measure and print the table.

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
    try:
        for device, max_batch_size in product(settings.devices, MAX_BATCHES):
            row, failed = _measure(settings, dataset, device, max_batch_size, console)
            result.rows.append(row)
            result.failed += failed
    except KeyboardInterrupt:
        if not result.rows:
            raise
        result.interrupted = True
    console.print()
    for table in guide_tables(result.rows):
        table.print(console)
    return result


def load_settings(address: str, device: str, max_batch_size: int, settings: TableSettings) -> LoadSettings:
    """Choose the load that fills a device: images for two batches in flight, at least 16 in four requests.

    A device that takes half a millisecond an image is not filled by fewer, since a request takes several.

    Simulated devices get as many cropped images per request as a batch has, since a machine that has no such
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


def _measure(
    settings: TableSettings, dataset: Dataset, device: str, max_batch_size: int, console: Console
) -> tuple[MeasuredRow, int]:
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
        accuracy = not accuracy_missing(model, labelled=dataset.labelled)
        load = replace(
            load,
            requests=len(dataset.samples) if accuracy else 0,
            input=replace(load.input, crop=model.crop, resize=model.resize),
        )
        console.print(_announce(device, max_batch_size, load), highlight=False)
        found = measure(dataset, load, model, console)
    if not found.tally.images:
        raise LoadError(f"no image was answered on {device} at max batch size {max_batch_size}: {found.tally.failures}")
    row = MeasuredRow.from_document(run_json(found))
    # What the server was started for: a model of one fixed size may list another.
    return replace(row, max_batch_size=max_batch_size), found.tally.failed


def _announce(device: str, max_batch_size: int, load: LoadSettings) -> str:
    sent = "encoded images"
    if load.input.pixels:
        count = load.input.images_per_request
        sent = f"cropped pixels, {count} image{'s' if count > 1 else ''} per request"
    return f"{device} at max batch size {max_batch_size}: {sent}, {load.concurrency} requests in flight"
