"""``repserve convert pth2onnx``: a weights file converted into a verified ONNX model."""

from __future__ import annotations

from pathlib import Path

import click

from repserve_convert.architecture import VARIANTS
from repserve_convert.checkpoint import Checkpoint
from repserve_convert.detection import choose_variant
from repserve_convert.errors import ConversionError, reported, require
from repserve_convert.reparameterise import reparameterise
from repserve_convert.weights import load_pth
from repserve_server.imaging.preprocessing import Preprocessing
from repserve_server.repository.model_files import ONNX_NAME
from repserve_server.repository.weights_note import WEIGHTS_NOTE

VARIANT = click.Choice(list(VARIANTS), case_sensitive=False)


@click.command()
@click.argument("source", metavar="IN.pth", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("target", metavar="OUT.onnx", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--variant", "name", type=VARIANT, help="Member of the RepVGG family.  [default: by the shapes]")
@click.option("--opset", type=int, default=11, show_default=True, help="ONNX opset; the guide uses 11.")
@click.option("--keep-branches", is_flag=True, help="Keep the training branches, as the guide's script does.")
@click.option(
    "--uint8", is_flag=True, help="Make a model of RGB pixels [batch, 224, 224, 3] that normalises them itself."
)
@reported
def pth2onnx(source: Path, target: Path, name: str | None, opset: int, *, keep_branches: bool, uint8: bool) -> None:
    """Convert RepVGG weights into a verified ONNX model.

    IN.pth is a state dict of the reference implementation or of timm, as trained or re-parameterised. The model has
    one convolution per block, and is compared with the original network on random images.
    """
    require("onnx")
    require("onnxruntime")
    from repserve_convert.graph import build_model, check_opset, save_model

    check_opset(opset)
    checkpoint = Checkpoint.recognise(load_pth(source))
    variant = choose_variant(checkpoint, name)
    if keep_branches and checkpoint.deployed:
        raise ConversionError(
            f"{source} is in the deployed form and has no branches to keep: omit --keep-branches, or use the "
            "train-time file"
        )
    pixels = Preprocessing() if uint8 else None
    model = build_model(
        dict(checkpoint.state) if keep_branches else reparameterise(checkpoint.state, variant),
        variant,
        opset=opset,
        pixels=pixels,
        description=f"converted from {source.name}",
    )

    def verify(written: Path) -> None:
        from repserve_convert.verification import CELLS, largest_difference

        difference = largest_difference(checkpoint, variant, written, pixels)
        compared = _compared(checkpoint, keep_branches=keep_branches)
        click.echo(f"{compared} agree: max abs error {difference:.1e} over {len(CELLS)} images")

    save_model(model, target, verify)
    branches = " with its branches" if keep_branches else ""
    image = "uint8 pixels" if uint8 else "float32 images"
    click.echo(
        f"wrote {target}: RepVGG-{variant.name}{branches}, {checkpoint.classes} classes, opset {opset}, takes "
        f"{image}, {target.stat().st_size / 1e6:.2f} MB"
    )
    note = target.with_name(WEIGHTS_NOTE)
    if target.name == ONNX_NAME and note.exists():
        note.unlink()
        click.echo(f"removed {note}: it described the random weights that were here")


def _compared(checkpoint: Checkpoint, *, keep_branches: bool) -> str:
    """Describe what was compared."""
    if checkpoint.deployed:
        return "outputs of the file's deployed convolutions (it has no train form) and of the written model"
    if keep_branches:
        return "train form and multi-branch model outputs"
    return "train form and deployed outputs"
