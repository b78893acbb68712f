"""``python -m digits.train``: train the digits network and write its model folder."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
import torch

from digits.card import card_text, evaluate, evaluate_onnx, model_card
from digits.pictures import load_pictures
from digits.training import CLASSES, VARIANT, train
from repserve_convert.errors import ConversionError
from repserve_convert.graph import build_model, save_model
from repserve_convert.reparameterise import reparameterise
from repserve_convert.train_network import RepVGG
from repserve_convert.weights import load_pth

if TYPE_CHECKING:
    from collections.abc import Sequence

    from digits.pictures import Picture

LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MODEL_TOML = """\
description = "A small RepVGG that reads handwritten digits, with held-out pictures and a model card"
setup_command = "make digits"
"""


@click.command()
@click.option(
    "--into",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="The model's folder.",
)
@click.option("--epochs", type=click.IntRange(1), default=20, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the split and the training.")
def main(folder: Path, epochs: int, seed: int) -> None:
    """Train on the UCI digits, convert, and write the folder with held-out pictures and model card."""
    try:
        pictures = load_pictures(seed)
        started = time.monotonic()
        network = train(pictures.training, epochs, seed, click.echo)
        click.echo(f"trained in {time.monotonic() - started:.0f} s")
        _write_folder(folder, network, pictures.held_out, seed=seed, epochs=epochs)
    except ConversionError as error:
        raise click.ClickException(str(error)) from error


def _write_folder(folder: Path, network: RepVGG, held_out: Sequence[Picture], *, seed: int, epochs: int) -> None:
    """Write everything; the card is computed from the files as they were written."""
    weights, model = folder / "train" / "repvgg_digits.pth", folder / "1" / "model.onnx"
    weights.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), weights)
    state = load_pth(weights)
    deployed = build_model(reparameterise(state, VARIANT), VARIANT, description="UCI digits; see model_card.md")
    save_model(deployed, model)
    _write_validation(folder / "validation", held_out)
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS), encoding="utf-8")
    (folder / "model.toml").write_text(MODEL_TOML, encoding="utf-8")

    written = RepVGG(VARIANT, CLASSES)
    written.load_state_dict(torch.load(weights, weights_only=True))
    card = model_card(evaluate(written, held_out), evaluate_onnx(model, held_out), seed=seed, epochs=epochs)
    (folder / "model_card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    text = card_text(card)
    (folder / "model_card.md").write_text(text, encoding="utf-8")
    click.echo(f"wrote {folder}: top-1 {card['top1']:.2%}, smallest margin {card['smallest_margin']}")
    click.echo(f"ONNX: {card['onnx']}")


def _write_validation(folder: Path, pictures: Sequence[Picture]) -> None:
    """Write the pictures, and their labels in the guide's format: a line with name and class index each."""
    images = folder / "images"
    shutil.rmtree(images, ignore_errors=True)  # another split has other pictures
    images.mkdir(parents=True)
    for picture in pictures:
        (images / picture.name).write_bytes(picture.jpeg)
    lines = "".join(f"{picture.name} {picture.label}\n" for picture in pictures)
    (folder / "val_label.txt").write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main()
