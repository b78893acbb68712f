"""Training of the digits network on the CPU."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from digits.preprocessing import GUIDE, crop_picture
from repserve_convert.architecture import VARIANTS
from repserve_convert.train_network import RepVGG

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from digits.pictures import Picture

VARIANT = VARIANTS["digits"]
CLASSES = 10
BATCH_SIZE = 64
LEARNING_RATE = 4e-3
WEIGHT_DECAY = 0.05
LABEL_SMOOTHING = 0.05
THREADS = 2
# Augmentation: the largest turn in degrees, change of scale, and shift as a part of the picture's side.
TURN, SCALE, SHIFT = 12.0, 0.1, 0.06
NOISE = 4 / 255
"""Standard deviation of the noise on each pixel: a grey level more or less in resizing must not matter."""


def train(pictures: Sequence[Picture], epochs: int, seed: int, report: Callable[[str], None]) -> RepVGG:
    """Train a network from nothing for a fixed number of epochs.

    Args:
        pictures: the training part; the held-out part has no say in training.
        epochs: rounds through the pictures.
        seed: of weights, order and augmentation.
        report: takes a line of text now and then.

    Returns:
        The train-time network, in evaluation mode.
    """
    torch.manual_seed(seed)
    torch.set_num_threads(THREADS)
    # Grey pictures have three equal channels: one is kept.
    pixels = torch.from_numpy(np.stack([crop_picture(picture.jpeg)[:, :, 0] for picture in pictures]))
    labels = torch.tensor([picture.label for picture in pictures])
    network = RepVGG(VARIANT, CLASSES)
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = epochs * math.ceil(len(pictures) / BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
    for epoch in range(1, epochs + 1):
        right, total_loss = 0, 0.0
        order = torch.randperm(len(pictures))
        for first in range(0, len(pictures), BATCH_SIZE):
            chosen = order[first : first + BATCH_SIZE]
            logits = network(_augment(pixels[chosen]))
            loss = functional.cross_entropy(logits, labels[chosen], label_smoothing=LABEL_SMOOTHING)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
            right += int((logits.argmax(1) == labels[chosen]).sum())
            total_loss += loss.item() * len(chosen)
        report(
            f"epoch {epoch}/{epochs}: training loss {total_loss / len(pictures):.3f}, top-1 {right / len(pictures):.2%}"
        )
    network.eval()
    return network


def _augment(grey: Tensor) -> Tensor:
    """Turn, scale, shift and roughen each picture a little, and normalise as the guide does.

    Args:
        grey: uint8 [n, side, side].

    Returns:
        float32 [n, 3, side, side].
    """
    count, side = grey.shape[0], grey.shape[-1]
    angle = _uniform(count) * math.radians(TURN)
    scale = 1 + _uniform(count) * SCALE
    affine = torch.stack(
        [
            torch.stack([scale * angle.cos(), -scale * angle.sin(), _uniform(count) * 2 * SHIFT], 1),
            torch.stack([scale * angle.sin(), scale * angle.cos(), _uniform(count) * 2 * SHIFT], 1),
        ],
        1,
    )
    grid = functional.affine_grid(affine, [count, 1, side, side], align_corners=False)
    moved = functional.grid_sample(grey[:, None] / 255, grid, padding_mode="border", align_corners=False)
    noisy = moved + NOISE * torch.randn_like(moved)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (GUIDE.mean, GUIDE.std))
    return (noisy - mean) / std


def _uniform(count: int) -> Tensor:
    """Return numbers between -1 and 1."""
    return torch.rand(count) * 2 - 1
