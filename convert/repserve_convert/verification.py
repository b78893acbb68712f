"""Verification of a written model: it and the network of the weights' file run on the same random images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from repserve_convert.architecture import IMAGE_CHANNELS, IMAGE_SIZE, WHITE, Variant
from repserve_convert.checkpoint import Checkpoint
from repserve_convert.errors import ConversionError
from repserve_convert.train_network import RepVGG
from repserve_server.imaging.normalise import normalise
from repserve_server.imaging.preprocessing import Preprocessing

CELLS = (1, 4, 14, 56)
"""Side in pixels of the squares of each random image: images of fine noise alone score alike."""
SEED = 0
TOLERANCE = 1e-4
"""Largest accepted difference of a logit, for logits up to 1; for larger ones it grows with the largest.

Sums of float32 depend on their order: on A0 to B1g4 with random weights the difference was about 1e-6 times the largest
logit. A lost branch or a wrong group makes far more than 1e-4 of it.
"""


def largest_difference(checkpoint: Checkpoint, variant: Variant, model: Path, pixels: Preprocessing | None) -> float:
    """Run the network of the file's form in torch, and the model in ONNX Runtime, on the CPU in float32.

    Args:
        checkpoint: the file's arrays, checked for the variant.
        variant: the network.
        model: the written ONNX file.
        pixels: how the model normalises pixels; None if it does not.

    Returns:
        The largest absolute difference of a logit over the images, one for each size in ``CELLS``.

    Raises:
        ConversionError: the model cannot be run, or a logit differs by more than ``TOLERANCE`` times the largest
            absolute logit, or than ``TOLERANCE`` if that is below 1; or logits are not finite.
    """
    images = _random_images()
    normalised = normalise(images, pixels or Preprocessing())
    expected = _torch_logits(checkpoint, variant, normalised)
    if not np.isfinite(expected).all():
        raise ConversionError("the file's network gives scores that are not finite on random images: it is damaged")
    found = _onnx_logits(model, images if pixels else normalised)
    if found.shape != expected.shape:
        raise ConversionError(f"the written model gives scores of shape {found.shape}, expected {expected.shape}")
    difference = float(np.abs(found - expected).max())
    allowed = TOLERANCE * max(1.0, float(np.abs(expected).max()))
    if not difference <= allowed:  # also for NaN
        raise ConversionError(
            f"the written model does not agree with the file's network: a logit differs by {difference:.2g} on "
            f"random images, at most {allowed:.2g} is accepted; nothing was written"
        )
    return difference


def _random_images() -> NDArray[np.uint8]:
    """Uint8 [len(CELLS), side, side, 3]."""
    generator = np.random.default_rng(SEED)
    images = []
    for cell in CELLS:
        side = IMAGE_SIZE // cell
        colours = generator.integers(0, WHITE + 1, (side, side, IMAGE_CHANNELS), np.uint8)
        images.append(colours.repeat(cell, axis=0).repeat(cell, axis=1))
    return np.stack(images)


def _torch_logits(checkpoint: Checkpoint, variant: Variant, images: NDArray[np.float32]) -> NDArray[np.float32]:
    network = RepVGG(variant, checkpoint.classes, deployed=checkpoint.deployed)
    # Not strict: the counters of training steps were left out.
    network.load_state_dict({name: torch.from_numpy(array) for name, array in checkpoint.state.items()}, strict=False)
    network.eval()
    with torch.inference_mode():
        logits: NDArray[np.float32] = network(torch.from_numpy(images)).numpy()
    return logits


def _onnx_logits(model: Path, images: NDArray[np.generic]) -> NDArray[np.float32]:
    try:
        session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        logits: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: images})[0]
    except Exception as error:  # its exception types are not public
        raise ConversionError(
            f"ONNX Runtime {onnxruntime.__version__} cannot run the model, so it could not be verified; try an older "
            f"--opset: {str(error).strip()}"
        ) from error
    return logits
