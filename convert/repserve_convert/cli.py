"""``repserve convert``: model files from trained weights, or from a seed."""

from __future__ import annotations

from pathlib import Path

import click

from repserve_convert.architecture import VARIANTS
from repserve_convert.errors import ConversionError, reported, require
from repserve_convert.onnx2om import onnx2om
from repserve_convert.pth2onnx import VARIANT, pth2onnx
from repserve_convert.random_weights import random_state
from repserve_convert.reparameterise import reparameterise
from repserve_server.files import write_whole
from repserve_server.repository.model_files import ONNX_NAME
from repserve_server.repository.weights_note import WEIGHTS_NOTE, random_weights_note


@click.group()
def convert() -> None:
    """Make model files for the server."""


@convert.command()
@click.option("--variant", type=VARIANT, default="A0", show_default=True, help="Member of the RepVGG family.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Equal seeds give equal weights."
)
@click.option("--classes", type=click.IntRange(min=1), default=1000, show_default=True, help="Number of classes.")
@click.option(
    "--into",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Version folder for model.onnx, such as model_repo/repvgg_a0/1.",
)
@reported
def random(variant: str, seed: int, classes: int, folder: Path) -> None:
    """Make a model with random weights, for speed measurements only."""
    target, note = folder / ONNX_NAME, folder / WEIGHTS_NOTE
    if target.exists() and not note.exists():
        raise ConversionError(
            f"{target} exists and was not made by this command: remove it first, or choose another folder"
        )
    require("onnx")  # before the note, which must not describe a model that could not be made
    from repserve_convert.graph import build_model, save_model

    chosen = VARIANTS[variant]
    text = random_weights_note(chosen.name, classes, seed)
    write_whole(note, text.encode())
    weights = reparameterise(random_state(chosen, classes, seed), chosen)
    save_model(build_model(weights, chosen, description=f"random weights, seed {seed}"), target)
    parameters = sum(array.size for array in weights.values())
    click.echo(
        f"wrote {target}: RepVGG-{chosen.name}, {classes} classes, "
        f"{parameters / 1e6:.2f} M parameters, {target.stat().st_size / 1e6:.2f} MB"
    )
    click.echo(text, nl=False)


convert.add_command(pth2onnx)
convert.add_command(onnx2om)
