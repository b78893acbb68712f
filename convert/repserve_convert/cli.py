"""``repserve convert``: model files from trained weights, or from a seed."""

from __future__ import annotations

from pathlib import Path

import click

from repserve_convert.architecture import VARIANTS, find_variant
from repserve_convert.errors import ConversionError, reported, require
from repserve_convert.onnx2om import onnx2om
from repserve_convert.pth2onnx import ModelForm, convert_file
from repserve_convert.random_weights import random_state
from repserve_convert.reparameterise import reparameterise
from repserve_server.files import write_whole
from repserve_server.repository.model_files import ONNX_NAME
from repserve_server.repository.weights_note import WEIGHTS_NOTE, random_weights_note

VARIANT = click.Choice(list(VARIANTS), case_sensitive=False)


@click.group()
def convert() -> None:
    """Make model files for the server."""


@convert.command()
@click.argument("source", metavar="IN.pth", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("target", metavar="OUT.onnx", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--variant", type=VARIANT, help="Member of the RepVGG family.  [default: by the shapes]")
@click.option("--opset", type=int, default=11, show_default=True, help="ONNX opset; the guide uses 11.")
@click.option("--keep-branches", is_flag=True, help="Keep the training branches, as the guide's script does.")
@click.option(
    "--uint8", is_flag=True, help="Make a model of RGB pixels [batch, 224, 224, 3] that normalises them itself."
)
@reported
def pth2onnx(source: Path, target: Path, variant: str | None, opset: int, *, keep_branches: bool, uint8: bool) -> None:
    """Convert RepVGG weights into a verified ONNX model.

    IN.pth is a state dict of the reference implementation or of timm, as trained or re-parameterised. The model has
    one convolution per block, and is compared with the original network on random images.
    """
    convert_file(source, target, variant, ModelForm(opset, keep_branches, uint8), click.echo)


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

    chosen = find_variant(variant)
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


convert.add_command(onnx2om)
