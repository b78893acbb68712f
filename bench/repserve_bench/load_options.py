"""The options of the commands that load a server: which images, which server, how they are sent."""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from repserve_bench.command import gathered
from repserve_bench.dataset import load_dataset
from repserve_bench.errors import LoadError
from repserve_bench.load_messages import LoadSettings
from repserve_bench.payloads import InputSettings
from repserve_bench.served_model import choose_model, list_models
from repserve_bench.transport.metadata import describe_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from repserve_bench.dataset import Dataset
    from repserve_bench.payloads import InputTensor
    from repserve_bench.transport.base import TransportName
    from repserve_client.results import ModelInfo

EXISTING_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


class OutputFile(click.Path):
    """A file to write after a measurement; its folder is checked before."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401
        """Check the folder too; see click.Path."""
        folder = Path(value).parent
        if not folder.is_dir():
            self.fail(f"there is no folder {folder}", param, ctx)
        return super().convert(value, param, ctx)


class HtmlFile(OutputFile):
    """A report to write as HTML; the packages that draw it are an extra of their own."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401
        """Check that they are installed, before anything is measured; see click.Path."""
        missing = [package for package in ("jinja2", "matplotlib") if importlib.util.find_spec(package) is None]
        if missing:
            self.fail(f"HTML reports need {' and '.join(missing)}: pip install 'repserve[bench,report]'", param, ctx)
        return super().convert(value, param, ctx)


HTML_FILE = HtmlFile(dir_okay=False, writable=True, path_type=Path)
OUTPUT_FILE = OutputFile(dir_okay=False, writable=True, path_type=Path)
SECONDS = click.FloatRange(0, min_open=True)


@dataclass(frozen=True)
class LoadOptions:
    """The options as the user gave them."""

    images: Path
    labels: Path | None
    limit: int | None
    server: str
    model: str
    model_version: str
    input_kind: str
    images_per_request: int
    transport: TransportName
    processes: int | None
    timeout: float
    warm_up: float
    window: float


def _process_count(_context: click.Context, _parameter: click.Parameter, text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise click.BadParameter(f"expected auto or a number from 1, not {text!r}")
    return int(text)


_OPTIONS = (
    click.option("--images", type=EXISTING_FOLDER, required=True, help="Folder of images."),
    click.option("--labels", type=EXISTING_FILE, help="val_label.txt: a line 'NAME CLASS' for each image."),
    click.option("--limit", type=click.IntRange(1), help="Use only the first N images."),
    click.option("--server", default="127.0.0.1:8001", show_default=True, help="host:port of the server's gRPC port."),
    click.option("--model", default="", help="Name of the model; required when several are ready."),
    click.option("--model-version", default="", help="Version of the model (default: the newest that is served)."),
    click.option(
        "--input",
        "input_kind",
        type=click.Choice(["encoded", "pixels"]),
        default="encoded",
        show_default=True,
        help="Send encoded files, or uint8 pixels that are cropped before the clock starts.",
    ),
    click.option(
        "--images-per-request", type=click.IntRange(1), default=1, show_default=True, help="With --input pixels."
    ),
    click.option(
        "--transport",
        type=click.Choice(["stream", "unary", "v2"]),
        default="stream",
        show_default=True,
        help="Streams cost client and server less than unary calls; v2 is ModelInfer of KServe v2.",
    ),
    click.option(
        "--processes",
        default="auto",
        show_default=True,
        callback=_process_count,
        help="Number of load processes, or auto.",
    ),
    click.option(
        "--timeout",
        type=SECONDS,
        default=30.0,
        show_default=True,
        help="Seconds before a request fails, retries included.",
    ),
    click.option(
        "--warm-up",
        type=click.FloatRange(0),
        default=0.0,
        show_default=True,
        help="Seconds of load before the measurement starts.",
    ),
    click.option(
        "--window",
        type=SECONDS,
        default=1.0,
        show_default=True,
        help="Length in seconds of the windows that show whether the figures are stable.",
    ),
)


def load_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command, which gets them as ``load``, a LoadOptions."""

    @gathered("load", LoadOptions)
    @functools.wraps(command)
    def check(*, load: LoadOptions, **arguments: Any) -> None:  # noqa: ANN401 - click passes what it parsed
        if load.images_per_request > 1 and load.input_kind == "encoded":
            raise click.UsageError("--images-per-request needs --input pixels: an encoded request carries one image")
        command(load=load, **arguments)

    decorated = check
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


def report_options(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options for the reports of a series: ``output`` with a default name, and ``html``."""
    output = click.option("--output", type=OUTPUT_FILE, default=Path(name), show_default=True, help="JSON report.")
    html = click.option("--html", type=HTML_FILE, help="Also write an HTML report.")
    return lambda command: output(html(command))


@dataclass(frozen=True)
class Prepared:
    """What a load needs besides when to send."""

    dataset: Dataset
    model: ModelInfo
    settings: LoadSettings
    passes: int
    """Requests that send each image once."""


def prepare(load: LoadOptions) -> Prepared:
    """List the images and find the model.

    Raises:
        DatasetError: There are no images, or none in common with the labels.
        LoadError: The server does not answer or does not serve the model.
    """
    dataset = load_dataset(load.images, load.labels, limit=load.limit)
    model, tensor = find_model(load)
    if tensor is not None and not tensor.batched and load.images_per_request > 1:
        raise LoadError(f"the input {tensor.name} takes one image at a time: leave --images-per-request out")
    defaults = InputSettings()
    crop = model.crop or defaults.crop
    settings = LoadSettings(
        address=load.server,
        transport=load.transport,
        processes=load.processes,
        timeout=load.timeout,
        warm_up_seconds=load.warm_up,
        window_seconds=load.window,
        input=InputSettings(
            model=model.name,
            version=load.model_version,
            pixels=load.input_kind == "pixels",
            images_per_request=load.images_per_request,
            crop=crop,
            # Without a size to resize to, crop as much of an image as the guide does.
            resize=model.resize or round(crop * defaults.resize / defaults.crop),
            tensor=tensor,
        ),
    )
    return Prepared(dataset, model, settings, -(-len(dataset.samples) // load.images_per_request))


def find_model(load: LoadOptions) -> tuple[ModelInfo, InputTensor | None]:
    """Return the model to load, and for KServe v2 its input.

    A RepServe server's own list is read too: only that shows what is simulated.

    Raises:
        LoadError: The server does not answer or does not serve the model.
    """
    pixels = load.input_kind == "pixels"
    try:
        model = choose_model(list_models(load.server), load.model, load.model_version)
    except LoadError:
        if load.transport != "v2" or not load.model:
            raise
        return describe_model(load.server, load.model, load.model_version, pixels=pixels)
    if load.transport != "v2":
        return model, None
    return model, describe_model(load.server, model.name, load.model_version, pixels=pixels)[1]
