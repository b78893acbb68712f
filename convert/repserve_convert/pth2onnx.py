"""The whole conversion of a weights file into a verified ONNX model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from repserve_convert.checkpoint import Checkpoint
from repserve_convert.detection import choose_variant
from repserve_convert.errors import ConversionError, require
from repserve_convert.reparameterise import reparameterise
from repserve_convert.weights import load_pth
from repserve_server.repository.model_files import ONNX_NAME
from repserve_server.repository.weights_note import WEIGHTS_NOTE


@dataclass(frozen=True, slots=True)
class ModelForm:
    """The form of the model to write."""

    opset: int
    keep_branches: bool = False
    """Whether blocks keep their training branches; else each is one convolution."""
    uint8: bool = False
    """Whether the model takes uint8 pixels [batch, 224, 224, 3] in RGB order, and normalises them as the guide does."""


def convert_file(
    source: Path, target: Path, variant_name: str | None, form: ModelForm, report: Callable[[str], None]
) -> None:
    """Convert a weights file, and verify the written model before it takes its place.

    Args:
        source: a .pth file of either form, with the names of the reference implementation or of timm.
        target: the ONNX file; one that is there is replaced, or stays as it is if the conversion fails.
        variant_name: of the network; None to detect it by the shapes.
        form: what to write.
        report: called with each line for the user.

    Raises:
        ConversionError: a package is missing, the file does not hold weights of the variant, or of any, it has no
            branches to keep, or the written model does not agree with the network.
    """
    require("onnx")
    require("onnxruntime")
    from repserve_convert.graph import build_model, check_opset, save_model
    from repserve_server.imaging.preprocessing import Preprocessing

    check_opset(form.opset)
    checkpoint = Checkpoint.recognise(load_pth(source))
    variant = choose_variant(checkpoint, variant_name)
    if form.keep_branches and checkpoint.deployed:
        raise ConversionError(
            f"{source} is in the deployed form and has no branches to keep: omit --keep-branches, or use the "
            "train-time file"
        )
    pixels = Preprocessing() if form.uint8 else None
    model = build_model(
        dict(checkpoint.state) if form.keep_branches else reparameterise(checkpoint.state, variant),
        variant,
        opset=form.opset,
        pixels=pixels,
        description=f"converted from {source.name}",
    )

    def verify(written: Path) -> None:
        from repserve_convert.verification import CELLS, largest_difference

        difference = largest_difference(checkpoint, variant, written, pixels)
        report(f"{_compared(checkpoint, form)} agree: max abs error {difference:.1e} over {len(CELLS)} images")

    save_model(model, target, verify)
    branches = " with its branches" if form.keep_branches else ""
    image = "uint8 pixels" if form.uint8 else "float32 images"
    report(
        f"wrote {target}: RepVGG-{variant.name}{branches}, {checkpoint.classes} classes, opset {form.opset}, takes "
        f"{image}, {target.stat().st_size / 1e6:.2f} MB"
    )
    note = target.with_name(WEIGHTS_NOTE)
    if target.name == ONNX_NAME and note.exists():
        note.unlink()
        report(f"removed {note}: it described the random weights that were here")


def _compared(checkpoint: Checkpoint, form: ModelForm) -> str:
    """Describe what was compared."""
    if checkpoint.deployed:
        return "outputs of the file's deployed convolutions (it has no train form) and of the written model"
    if form.keep_branches:
        return "train form and multi-branch model outputs"
    return "train form and deployed outputs"
