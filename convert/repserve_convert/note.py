"""The note beside a model with random weights, so that nobody takes its scores for predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SERVED_NAME = "model.onnx"
"""The file of a version's folder that the server loads."""
NOTE_NAME = "WEIGHTS.txt"
"""The server and the benchmark look for it in a version's folder."""
NOTE = (
    "RANDOM WEIGHTS (RepVGG-{variant}, {classes} classes, seed {seed}).\n"
    "This model is for speed measurements only: its predictions mean nothing, and it has no accuracy.\n"
    "Real weights: repserve convert pth2onnx WEIGHTS.pth MODEL.onnx --variant {variant}\n"
)


def remove_note(model: Path) -> Path | None:
    """Remove the note on random weights that a model with real ones has replaced.

    Args:
        model: the file that was written. A note speaks of the served one only.

    Returns:
        The note that was removed, if there was one.
    """
    note = model.with_name(NOTE_NAME)
    if model.name != SERVED_NAME or not note.exists():
        return None
    note.unlink()
    return note
