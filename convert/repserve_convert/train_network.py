"""RepVGG as a torch module, with the parameter names of the reference implementation.

It is trained, and converted models are compared with it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from repserve_convert.architecture import Block, Variant
from repserve_convert.reparameterise import EPSILON

# mypy sees torch's types only where torch is installed: hence "unused-ignore" beside each ignored code.


class Branch(nn.Module):  # type: ignore[misc, unused-ignore]
    """A bias-free convolution and a batch normalisation."""

    def __init__(self, block: Block, size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            block.in_channels,
            block.out_channels,
            size,
            stride=block.stride,
            padding=size // 2,
            groups=block.groups,
            bias=False,
        )
        self.bn = nn.BatchNorm2d(block.out_channels, eps=EPSILON)

    def forward(self, images: Tensor) -> Tensor:
        """Convolve and normalise."""
        normalised: Tensor = self.bn(self.conv(images))
        return normalised


class TrainBlock(nn.Module):  # type: ignore[misc, unused-ignore]
    """A block with its branches apart: ReLU(3x3 + 1x1 + identity)."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.rbr_identity = nn.BatchNorm2d(block.in_channels, eps=EPSILON) if block.has_identity else None
        self.rbr_dense = Branch(block, 3)
        self.rbr_1x1 = Branch(block, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Add the branches up and rectify."""
        total = self.rbr_dense(images) + self.rbr_1x1(images)
        if self.rbr_identity is not None:
            total = total + self.rbr_identity(images)
        return functional.relu(total)


class DeployedBlock(nn.Module):  # type: ignore[misc, unused-ignore]
    """A block as files of the deployed form have it: ReLU(3x3)."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.rbr_reparam = nn.Conv2d(
            block.in_channels, block.out_channels, 3, stride=block.stride, padding=1, groups=block.groups
        )

    def forward(self, images: Tensor) -> Tensor:
        """Convolve and rectify."""
        return functional.relu(self.rbr_reparam(images))


class RepVGG(nn.Module):  # type: ignore[misc, unused-ignore]
    """The whole network, multi-branch unless ``deployed``."""

    def __init__(self, variant: Variant, classes: int, *, deployed: bool = False) -> None:
        super().__init__()
        make = DeployedBlock if deployed else TrainBlock
        stem, *blocks = variant.blocks
        self.stage0 = make(stem)
        self.stage1, self.stage2, self.stage3, self.stage4 = (
            nn.Sequential(*(make(block) for block in blocks if block.name.startswith(f"stage{stage}.")))
            for stage in (1, 2, 3, 4)
        )
        self.linear = nn.Linear(variant.features, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Classify.

        Args:
            images: float32 [n, 3, height, width], normalised.

        Returns:
            Logits, float32 [n, classes].
        """
        features = self.stage4(self.stage3(self.stage2(self.stage1(self.stage0(images)))))
        logits: Tensor = self.linear(torch.flatten(functional.adaptive_avg_pool2d(features, 1), 1))
        return logits
