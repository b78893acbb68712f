"""``make bench``: the figures of docs/performance.md, all from one run on this machine."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from random_model import ConversionError, ensure_random_model
from repserve_bench.column import Column, rich_table
from repserve_bench.command import INTERRUPTED, make_console
from repserve_bench.dataset import DatasetError, load_dataset
from repserve_bench.environment import describe_environment
from repserve_bench.errors import LoadError
from repserve_bench.figures import SERIES_FIGURES, point_json
from repserve_bench.load_messages import LoadSettings
from repserve_bench.load_options import EXISTING_FOLDER, OUTPUT_FILE
from repserve_bench.measurement import measure as measure_load
from repserve_bench.payloads import InputSettings
from repserve_bench.report_file import write_json
from repserve_bench.served_model import choose_model, list_models
from repserve_bench.server_process import ServerError, ServerProcess, ServerSettings
from repserve_bench.table import BUNDLED_IMAGES
from repserve_server.backends.base import BackendOptions, Precision
from repserve_server.backends.factory import create_backend
from repserve_server.errors import RepServeError
from repserve_server.imaging.decode import preprocess_into
from repserve_server.imaging.preprocessing import Preprocessing
from repserve_server.process import available_cpus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console
    from rich.table import Table

    from repserve_bench.dataset import Dataset, Sample

MODEL = "repvgg_a0"
MAX_BATCH = 16
CONCURRENCY = 32
SIMULATED_DEVICE = "sim:310p"
COLUMNS = (Column("devices", "device"), Column("name", "load"), *SERIES_FIGURES)


@dataclass(frozen=True)
class PerformanceSettings:
    """Model, images, precision and length of the measurements."""

    model_repository: Path
    images: Path
    precision: Precision
    seconds: float


@dataclass(frozen=True)
class CpuBound:
    """What the cores could do if serving cost nothing besides engine and preprocessing."""

    engine_cpu_seconds: float
    """Of one image in a batch of 16."""
    preprocessing_cpu_seconds: float
    """Of one image, from encoded bytes to pixels."""
    cores: int

    @property
    def fps(self) -> float:
        """Images a second that keep every core busy."""
        return self.cores / (self.engine_cpu_seconds + self.preprocessing_cpu_seconds)


def engine_cpu_seconds(settings: PerformanceSettings, preprocessing: Preprocessing) -> float:
    """Measure the CPU seconds of one image on the CPU backend in full batches, in this process."""
    backend = create_backend(
        BackendOptions(
            device="cpu",
            path=settings.model_repository / MODEL / "1",
            precision=settings.precision,
            threads=available_cpus(),
            max_batch_size=MAX_BATCH,
            preprocessing=preprocessing,
        )
    )
    noise = np.random.default_rng(0).integers(0, 256, (MAX_BATCH, *backend.input.shape), np.uint8)
    batch = noise.astype(backend.input.dtype)
    backend.run(batch)
    images = 0
    started, cpu_started = time.monotonic(), time.process_time()
    while time.monotonic() - started < settings.seconds:
        backend.run(batch)
        images += MAX_BATCH
    cpu = time.process_time() - cpu_started
    backend.close()
    return cpu / images


def preprocessing_cpu_seconds(samples: Sequence[Sample], preprocessing: Preprocessing, seconds: float) -> float:
    """Measure the CPU seconds of decoding, resizing and cropping one image, in this thread."""
    encoded = [sample.path.read_bytes() for sample in samples]
    out = np.empty(preprocessing.shape, np.uint8)
    preprocess_into(encoded[0], preprocessing, out)
    images = 0
    started, cpu_started = time.monotonic(), time.process_time()
    for data in cycle(encoded):
        preprocess_into(data, preprocessing, out)
        images += 1
        if images >= len(encoded) and time.monotonic() - started > seconds:
            break
    return (time.process_time() - cpu_started) / images


def serve(name: str, server: ServerProcess, dataset: Dataset, load: LoadSettings, console: Console) -> dict[str, Any]:
    """Load a running server, and return the figures of one row."""
    console.print(f"{server.device}: {name} ...", highlight=False)
    model = choose_model(list_models(server.address), MODEL)
    found = measure_load(dataset, load, model, console, server)
    if not found.tally.images:
        raise LoadError(f"no image was answered ({name}): {found.tally.failures}")
    return {"name": name, **point_json(found)}


def measure(settings: PerformanceSettings, console: Console) -> tuple[CpuBound, list[dict[str, Any]]]:
    """Measure everything; about nine times ``settings.seconds`` and two starts."""
    ensure_random_model(settings.model_repository / MODEL / "1", console)
    dataset = load_dataset(settings.images)
    preprocessing = Preprocessing()
    console.print(f"{len(dataset.samples)} images of {settings.images}", highlight=False)
    console.print("engine and preprocessing alone ...")
    bound = CpuBound(
        engine_cpu_seconds=engine_cpu_seconds(settings, preprocessing),
        preprocessing_cpu_seconds=preprocessing_cpu_seconds(dataset.samples, preprocessing, settings.seconds),
        cores=available_cpus(),
    )
    figures = []
    with ServerProcess(_server(settings, "cpu")) as server:
        load = _load(server, settings.seconds)
        figures.append(serve("JPEG, stream", server, dataset, load, console))
    with ServerProcess(_server(settings, SIMULATED_DEVICE)) as server:
        jpeg = _load(server, settings.seconds)
        tensor = replace(jpeg, input=replace(jpeg.input, pixels=True))
        batch = replace(tensor, concurrency=4, input=replace(tensor.input, images_per_request=MAX_BATCH))
        for name, load in (
            ("JPEG, stream", jpeg),
            ("JPEG, unary", replace(jpeg, transport="unary")),
            ("1 tensor per request, stream", tensor),
            ("1 tensor per request, unary", replace(tensor, transport="unary")),
            ("16 tensors per request, stream", batch),
            ("16 tensors per request, unary", replace(batch, transport="unary")),
        ):
            figures.append(serve(name, server, dataset, load, console))
    return bound, figures


def _server(settings: PerformanceSettings, device: str) -> ServerSettings:
    return ServerSettings(
        model_repository=settings.model_repository,
        device=device,
        models=(MODEL,),
        max_batch_size=MAX_BATCH,
        precision=settings.precision if device == "cpu" else None,
    )


def _load(server: ServerProcess, seconds: float) -> LoadSettings:
    return LoadSettings(
        address=server.address, concurrency=CONCURRENCY, seconds=seconds, input=InputSettings(model=MODEL)
    )


def figures_table(figures: Sequence[Mapping[str, Any]]) -> Table:
    """Return the served figures as a table; simulated devices are marked."""
    return rich_table(COLUMNS, figures, f"Served {MODEL}; CPU times are per image")


def print_bound(bound: CpuBound, fps: float, console: Console) -> None:
    """Print what the cores could do and what share of it was served."""
    engine, preprocessing = 1000 * bound.engine_cpu_seconds, 1000 * bound.preprocessing_cpu_seconds
    share = 100 * fps / bound.fps
    lines = (
        f"engine:            {engine:.3f} CPU-ms per image, in batches of {MAX_BATCH}",
        f"preprocessing:     {preprocessing:.3f} CPU-ms per image",
        f"bound:             {bound.fps:.1f} fps = {bound.cores} cores / (engine + preprocessing)",
        f"served, JPEG, {CONCURRENCY}:  {fps:.1f} fps = {share:.1f} % of the bound",
    )
    for line in lines:
        console.print(line, highlight=False)


@click.command()
@click.option("--model-repository", type=EXISTING_FOLDER, default=Path("model_repo"), show_default=True)
@click.option("--images", type=EXISTING_FOLDER, help="Folder of photos (default: the bundled digits, 1 kB each).")
@click.option("--precision", type=click.Choice(["auto", "f32", "bf16"]), default="auto", show_default=True)
@click.option("--seconds", type=click.FloatRange(0, min_open=True), default=8.0, show_default=True)
@click.option("--output", type=OUTPUT_FILE, default=Path("performance.json"), show_default=True)
def main(*, model_repository: Path, images: Path | None, precision: Precision, seconds: float, output: Path) -> None:
    """Measure the figures of docs/performance.md on this machine."""
    console = make_console()
    settings = PerformanceSettings(
        model_repository=model_repository,
        images=images or model_repository / BUNDLED_IMAGES,
        precision=precision,
        seconds=seconds,
    )
    try:
        bound, figures = measure(settings, console)
    except (RepServeError, ConversionError, DatasetError, LoadError, ServerError, OSError) as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    print_bound(bound, figures[0]["fps"], console)
    console.print(figures_table(figures))
    content = {
        "schema": "repserve.bench.performance",
        "schema_version": 1,
        "environment": describe_environment(),
        "settings": asdict(settings),
        "cpu_bound": asdict(bound) | {"fps": bound.fps, "served_share": figures[0]["fps"] / bound.fps},
        "served": figures,
    }
    write_json(output, content)
    console.print(f"Written to {output}", highlight=False)
    sys.exit(1 if any(row["failed_requests"] for row in figures) else 0)


if __name__ == "__main__":
    main()
