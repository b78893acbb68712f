"""``make demo``: serves real images, checks the answers with the model card, prints the guide's table."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from random_model import ConversionError, ensure_random_model
from repserve_bench.command import INTERRUPTED, make_console
from repserve_bench.dataset import DatasetError, load_dataset
from repserve_bench.errors import LoadError
from repserve_bench.load_messages import LoadSettings
from repserve_bench.payloads import InputSettings
from repserve_bench.run import replay
from repserve_bench.served_model import choose_model, list_models
from repserve_bench.server_process import ServerError, ServerProcess, ServerSettings
from repserve_bench.table import TableSettings, measure_table
from repserve_client import Client, ClientError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from repserve_bench.predictions import Prediction

REPOSITORY = Path("model_repo")
DIGITS = "repvgg_digits"
A0 = "repvgg_a0"

NEXT_STEPS = """\
  make serve
      serves model_repo: gRPC on port 8001, a page on http://127.0.0.1:8000, metrics and health on port 8002
  .venv/bin/repserve classify --model repvgg_digits PHOTO.jpg
      classifies images on that server; try model_repo/repvgg_digits/validation/images/*.jpg
  .venv/bin/repserve bench run --model repvgg_a0 --images DIR --labels val_label.txt
      replays a labelled set, such as ImageNet's validation set, and reports top-1, top-5, fps and latency
  .venv/bin/pip install -c constraints.txt -e '.[convert]'
  .venv/bin/repserve convert pth2onnx RepVGG-A0-train.pth model_repo/repvgg_a0/1/model.onnx
      replaces the random weights by the authors'; restart the server afterwards"""


class DemoError(Exception):
    """The demo failed; the message says why."""


def compare_predictions(served: Mapping[str, Prediction], card: Mapping[str, int]) -> list[str]:
    """Compare the served class of each image with the model card's.

    Returns:
        A line for each image that differs or is missing on either side; empty when all are equal.
    """
    lines = []
    for name in sorted(served.keys() | card.keys()):
        answer, expected = served.get(name), card.get(name)
        if answer is None or answer.best.index != expected:
            found = "no answer" if answer is None else str(answer.best.index)
            lines.append(f"{name}: served {found}, model card {expected}")
    return lines


def classify_one(address: str, image: Path, console: Console) -> None:
    """Classify one image over gRPC and print its best classes.

    Raises:
        ClientError: The server did not answer it.
    """
    with Client(address) as client:
        answer = client.classify(image, model=DIGITS, top_k=3)
    console.print(f"{image} -> {answer.model} version {answer.version}", highlight=False)
    for ranked in answer.predictions[0].classes:
        console.print(f"  class {ranked.index:3}  {ranked.label:12} {ranked.probability:.4f}", highlight=False)


def replay_digits(address: str, console: Console) -> bool:
    """Replay the labelled digits, and print served against recorded accuracy.

    Returns:
        Whether every request was answered, each with the class of the model card.
    """
    card = json.loads((REPOSITORY / DIGITS / "model_card.json").read_text(encoding="utf-8"))
    validation = REPOSITORY / DIGITS / "validation"
    dataset = load_dataset(validation / "images", validation / "val_label.txt")
    model = choose_model(list_models(address), DIGITS)
    settings = LoadSettings(
        address=address, requests=len(dataset.samples), input=InputSettings(model=DIGITS, crop=model.crop)
    )
    console.print(f"{dataset.describe()}, 32 requests in flight", highlight=False)
    report = replay(dataset, settings, model, console)
    top1 = report.tally.accuracy.top1 or 0.0
    card_top1 = float(card["top1"])
    console.print(f"top-1 of the .pth in torch (model card): {100 * card_top1:.2f} %", highlight=False)
    console.print(f"top-1 served by RepServe at f32:         {100 * top1:.2f} %", highlight=False)
    differences = compare_predictions(report.result.predictions, card["predictions"])
    images = len(card["predictions"])
    style = "bold red" if differences else "bold green"
    console.print(f"{images - len(differences)} of {images} predictions equal", highlight=False, style=style)
    for line in differences:
        console.print(f"  {line}", highlight=False)
    return not differences and not report.tally.failed and not report.result.interrupted


def demonstrate(console: Console, seconds: float) -> int:
    """Run the demo and return its exit status."""
    heading(console, "1. The models")
    console.print(f"{REPOSITORY / DIGITS}: trained on handwritten digits, part of this repository.", highlight=False)
    ensure_random_model(REPOSITORY / A0 / "1", console)
    digits = ServerSettings(model_repository=REPOSITORY, device="cpu", models=(DIGITS,), precision="f32")
    heading(console, "2. Starting the server on the CPU, at precision f32")
    with ServerProcess(digits) as server:
        console.print(f"gRPC at {server.address}, metrics at {server.metrics_url}", highlight=False)
        images = sorted((REPOSITORY / DIGITS / "validation" / "images").glob("*.jpg"))
        if not images:
            raise DemoError(f"{REPOSITORY / DIGITS} holds no validation images")
        heading(console, "3. Classifying one image over gRPC")
        classify_one(server.address, images[0], console)
        heading(console, "4. Replaying the labelled digits")
        equal = replay_digits(server.address, console)
    heading(console, "5. RepVGG-A0 on the CPU and on a simulated 310P")
    table = measure_table(TableSettings(model_repository=REPOSITORY, model=A0, seconds=seconds), console)
    if table.interrupted:
        return INTERRUPTED
    heading(console, "What to do next")
    console.print(NEXT_STEPS, highlight=False, markup=False, soft_wrap=True)
    if not equal or table.failed:
        console.print("\nThe demo found differences or failed requests; see above.", style="bold red")
        return 1
    return 0


def heading(console: Console, text: str) -> None:
    """Print the heading of a step."""
    console.print(f"\n{text}", highlight=False, style="bold")


def main() -> None:
    """Run the demo and exit with its status: 0 when every served prediction equals the model card's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="How long each row of the table is measured.")
    console = make_console()
    try:
        status = demonstrate(console, parser.parse_args().seconds)
    except (DemoError, ConversionError, DatasetError, LoadError, ServerError, ClientError, OSError) as error:
        console.print(f"The demo failed: {error}", style="bold red", markup=False, soft_wrap=True)
        status = 1
    except KeyboardInterrupt:
        status = INTERRUPTED
    sys.exit(status)


if __name__ == "__main__":
    main()
