"""WEIGHTS.txt: a note in a version's folder that its weights are random, so that nobody trusts its predictions."""

from __future__ import annotations

from pathlib import Path

WEIGHTS_NOTE = "WEIGHTS.txt"


def read_caution(version: Path) -> str:
    """Read the first line of a version's note, such as that its weights are random; empty without a note."""
    note = version / WEIGHTS_NOTE
    if not note.is_file():
        return ""
    return note.read_text(encoding="utf-8", errors="replace").partition("\n")[0].strip()


def random_weights_note(variant: str, classes: int, seed: int) -> str:
    """Write the text of the note beside a model that was made from a seed."""
    return (
        f"RANDOM WEIGHTS (RepVGG-{variant}, {classes} classes, seed {seed}).\n"
        "This model is for speed measurements only: its predictions mean nothing, and it has no accuracy.\n"
        f"Real weights: repserve convert pth2onnx WEIGHTS.pth MODEL.onnx --variant {variant}\n"
    )
