"""The offline commands that run a model: ``infer``, with the arguments of the guide's benchmark tool, and ``all``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from repserve_bench.command import gathered
from repserve_bench.dataset import load_dataset
from repserve_bench.offline.command import FILE, FOLDER, NEW_FOLDER, end_with, reported
from repserve_bench.offline.errors import OfflineError
from repserve_bench.offline.evaluation import Evaluation, check_labels, labels_by_stem
from repserve_bench.offline.files import TENSOR_SUFFIX, check_stems, stem_of
from repserve_bench.offline.inference import dump_folder, perf_file, run_inference
from repserve_bench.offline.info import parse_info
from repserve_bench.offline.model import NPU_PREFIX, ModelSettings, OfflineModel, loaded_model
from repserve_bench.offline.perf_file import guide_line, read_throughput
from repserve_server.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from repserve_bench.offline.model_run import RunOutcome

VISION = "vision"
MODEL_TYPES = (VISION, "nmt", "widedeep", "nlp", "yolocaffe", "bert", "deepfm")
"""Those of the guide's benchmark tool."""
RESULT_NAME = "result.json"


def _model_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that the benchmark tool lacks; the command gets those of the model as ``settings``."""
    decorated = gathered("settings", ModelSettings)(command)
    for option in (
        click.option(
            "--output", type=NEW_FOLDER, default=Path("result"), show_default=True, help="Folder for the results."
        ),
        click.option("--runtime", default="auto", show_default=True, help="Runtime on a CPU: openvino or onnxruntime."),
        click.option(
            "--precision",
            type=click.Choice(["auto", "f32", "bf16"]),
            help="Precision (default: f32 on a CPU, as compiled on an NPU).",
        ),
        click.option("--device", help="cpu, npu:0 or sim:310p (default: the NPU for an .om, the CPU for an .onnx)."),
    ):
        decorated = option(decorated)
    return decorated


@click.command()
@click.option("-om_path", "--om-path", "file", type=FILE, required=True, help="Model file, .om or .onnx.")
@click.option(
    "-input_text_path", "--input-text-path", "info", type=FILE, required=True, help="Info file, as written by 'info'."
)
@click.option("-batch_size", "--batch-size", type=click.IntRange(1, 2048), default=1, show_default=True)
@click.option("-device_id", "--device-id", type=click.IntRange(0), help="Number of the NPU (default 0).")
@click.option("-model_type", "--model-type", type=click.Choice(MODEL_TYPES), default=VISION, show_default=True)
@click.option("-input_width", "--input-width", "width", type=click.IntRange(1), help="Input width of the model.")
@click.option("-input_height", "--input-height", "height", type=click.IntRange(1), help="Input height of the model.")
@click.option(
    *("-output_binary", "--output-binary", "binary"),
    type=click.BOOL,
    default=False,
    show_default=True,
    help="True writes .bin dumps, False .txt.",
)
@click.option(
    *("-useDvpp", "--use-dvpp", "dvpp"),
    type=click.BOOL,
    default=False,
    show_default=True,
    help="Only False is supported.",
)
@_model_options
@reported
def infer(
    *,
    settings: ModelSettings,
    info: Path,
    model_type: str,
    width: int | None,
    height: int | None,
    binary: bool,
    dvpp: bool,
    output: Path,
) -> None:
    """Run a model over the files of an info file, as the guide's benchmark tool does.

    Takes that tool's options as they are (-om_path=RepVGG_bs16.om) and with two dashes (--om-path). Writes a file of
    scores for each image to dumpOutput_deviceD, replacing its earlier content, and the throughput to
    perf_vision_batchsize_N_device_D.txt. Exits with 1 when an image cannot be used.
    """
    if model_type != VISION:
        raise OfflineError(f"model_type={model_type}: only {VISION} models are supported")
    if dvpp:
        raise OfflineError(
            "useDvpp=True, decoding on the NPU, is not supported: use useDvpp=False; images of an info file of type "
            "jpg are decoded by the CPU"
        )
    entries = parse_info(info.read_bytes(), str(info))
    files = [Path(entry.path) for entry in entries]
    with loaded_model(settings) as model:
        _check_size(model, width, height)
        for entry in entries:
            if entry.path.endswith(TENSOR_SUFFIX):
                _check_size(model, entry.width, entry.height, f"{info}, {entry.path}: ")
        _introduce(model)
        outcome = run_inference(model, files, output, Console(), dumps="binary" if binary else "text")
    _print_run(model, outcome, output)
    click.echo(f"scores: {dump_folder(model, output)}")
    end_with(outcome.problems)


@click.command("all")
@click.option("--model", "file", type=FILE, required=True, help="Model file, .om or .onnx.")
@click.option("--images", type=FOLDER, required=True, help="Folder of images.")
@click.option("--labels", type=FILE, required=True, help="val_label.txt: a line 'NAME CLASS' for each image.")
@click.option("--batch-size", type=click.IntRange(1, 2048), default=1, show_default=True)
@click.option("--device-id", type=click.IntRange(0), help="Number of the NPU (default 0).")
@click.option("--exact", is_flag=True, help="Preprocess exactly as the guide's script does (slower).")
@click.option("--dumps", is_flag=True, help="Also write the scores of each image, as 'infer' does.")
@click.option(
    "--chip",
    type=click.Choice(["310P", "310"]),
    help="Name of the chip in the throughput line; a 310 counts four times, as a card.",
)
@_model_options
@reported
def run_all(
    *,
    settings: ModelSettings,
    images: Path,
    labels: Path,
    exact: bool,
    dumps: bool,
    chip: str | None,
    output: Path,
) -> None:
    """Run the whole chain from images to accuracy and throughput, without a tensor file for each image.

    Images are decoded by threads and go straight to the model. Accuracy, throughput and scores are those of the single
    steps. Exits with 1 when an image cannot be used; the accuracy is that of the others.
    """
    files = [sample.path for sample in load_dataset(images).samples]
    check_stems(files)
    classes = labels_by_stem(labels)
    check_labels([stem_of(path.name) for path in files], classes, labels)
    evaluation = Evaluation()

    def count(path: Path, scores: NDArray[np.float32]) -> None:
        evaluation.add(path, classes[stem_of(path.name)], scores)

    with loaded_model(settings) as model:
        if chip is not None and not model.device.startswith(NPU_PREFIX):
            raise OfflineError(f"--chip {chip} names an NPU, and the device is {model.device}: leave it out")
        _introduce(model)
        outcome = run_inference(
            *(model, files, output, Console()),
            dumps="text" if dumps else None,
            exact=exact,
            sink=None if model.simulated else count,
        )
    _print_run(model, outcome, output)
    label = chip or model.device + (" SIMULATED" if model.simulated else "")
    click.echo(guide_line(label, read_throughput(perf_file(model, output))))
    if dumps:
        click.echo(f"scores: {dump_folder(model, output)}")
    result = output / RESULT_NAME
    if model.simulated:
        result.unlink(missing_ok=True)
        click.echo("accuracy: not measured, the scores of a simulated device are made up")
    else:
        write_whole(result, evaluation.to_json().encode())
        click.echo(f"{evaluation.summary()}: {result}")
    end_with(outcome.problems)


def _check_size(model: OfflineModel, width: int | None, height: int | None, where: str = "") -> None:
    crop = model.preprocessing.crop
    for name, given in (("width", width), ("height", height)):
        if given not in (None, crop):
            raise OfflineError(
                f"{where}input_{name}={given}, and the model takes {crop} by {crop} pixels, according to "
                f"{model.preprocessing_source}; set crop in a model.toml beside its version folder if that is wrong"
            )


def _introduce(model: OfflineModel) -> None:
    click.echo(f"{model.describe()}; preprocessing of {model.preprocessing_source}")
    if model.caution:
        click.echo(f"caution: {model.caution}", err=True)


def _print_run(model: OfflineModel, outcome: RunOutcome, output: Path) -> None:
    throughput = outcome.throughput
    click.echo(
        f"{outcome.images} images in {throughput.latency / 1000:.2f} s, {throughput.end_to_end:.1f} a second; "
        f"{throughput.interface:.1f} a second inside the model" + (" (SIMULATED)" if model.simulated else "")
    )
    click.echo(f"throughput: {perf_file(model, output)}")
