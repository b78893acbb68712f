"""``repserve convert``: make a model file from trained weights, or from a seed."""

from __future__ import annotations

from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec

import click

from repserve_convert.architecture import VARIANTS, find_variant
from repserve_convert.errors import ConversionError, require
from repserve_convert.random_weights import random_state
from repserve_convert.reparameterise import reparameterise
from repserve_convert.weights import load_pth

if TYPE_CHECKING:
    from collections.abc import Callable

    from repserve_convert.architecture import Variant
    from repserve_convert.reparameterise import State

Arguments = ParamSpec("Arguments")

SERVED_NAME = "model.onnx"
"""The file of a version's folder that the server loads."""
NOTE_NAME = "WEIGHTS.txt"
"""Lies beside a model with random weights and says so."""
NOTE = (
    "RANDOM WEIGHTS (RepVGG-{variant}, {classes} classes, seed {seed}).\n"
    "This model is for speed measurements only: its predictions mean nothing, and it has no accuracy.\n"
    "Real weights: repserve convert pth2onnx WEIGHTS.pth MODEL.onnx --variant {variant}\n"
)

VARIANT = click.option(
    "--variant",
    type=click.Choice(list(VARIANTS), case_sensitive=False),
    default="A0",
    show_default=True,
    help="Member of the RepVGG family.",
)


def _reported(command: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Let a conversion error end the command with its message and exit status 1."""

    @wraps(command)
    def run(*arguments: Arguments.args, **options: Arguments.kwargs) -> None:
        try:
            command(*arguments, **options)
        except (ConversionError, OSError) as error:
            raise click.ClickException(str(error)) from error

    return run


@click.group()
def convert() -> None:
    """Make model files for the server."""


@convert.command()
@click.argument("source", metavar="IN.pth", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("target", metavar="OUT.onnx", type=click.Path(dir_okay=False, path_type=Path))
@VARIANT
@_reported
def pth2onnx(source: Path, target: Path, variant: str) -> None:
    """Convert a train-time .pth into a re-parameterised ONNX model."""
    state = load_pth(source)
    _write(state, find_variant(variant), target, f"converted from {source.name}")
    note = target.with_name(NOTE_NAME)
    if note.exists() and target.name == SERVED_NAME:
        note.unlink()
        click.echo(f"removed {note}: it spoke of the random weights that were here")


@convert.command()
@VARIANT
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Equal seeds, equal weights.")
@click.option("--classes", type=click.IntRange(min=1), default=1000, show_default=True, help="Outputs of the model.")
@click.option(
    "--into",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Version folder that gets model.onnx, such as model_repo/repvgg_a0/1.",
)
@_reported
def random(variant: str, seed: int, classes: int, folder: Path) -> None:
    """Make a model with random weights, for speed measurements only."""
    target, note = folder / "model.onnx", folder / NOTE_NAME
    if target.exists() and not note.exists():
        raise ConversionError(
            f"{target} is there and was not made by this command: remove it first, or choose another folder"
        )
    chosen = find_variant(variant)
    text = NOTE.format(variant=chosen.name, classes=classes, seed=seed)
    require("onnx")  # before the note: a folder never speaks of a model that could not be made
    folder.mkdir(parents=True, exist_ok=True)
    note.write_text(text, encoding="utf-8")
    _write(random_state(chosen, classes, seed), chosen, target, f"random weights, seed {seed}")
    click.echo(text, nl=False)


def _write(state: State, variant: Variant, target: Path, description: str) -> None:
    """Re-parameterise, write the model and say what was written."""
    require("onnx")
    from repserve_convert.graph import build_model, save_model

    weights = reparameterise(state, variant)
    save_model(build_model(weights, variant, description=description), target)
    click.echo(
        f"wrote {target}: RepVGG-{variant.name}, {weights.classes} classes, "
        f"{weights.parameters / 1e6:.2f} M parameters, {target.stat().st_size / 1e6:.2f} MB"
    )
