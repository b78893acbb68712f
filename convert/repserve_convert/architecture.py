"""RepVGG variants as data: depths, widths and groups, the blocks they make, the names and shapes of their weights.

Depths and widths are those of the paper (Ding et al., "RepVGG: Making VGG-style ConvNets Great Again", 2021, table
2); names, and which blocks are grouped, are those of its reference implementation (DingXiaoH/RepVGG, repvgg.py), so
that its files load.
"""

from __future__ import annotations

from dataclasses import dataclass

BASE_WIDTHS = (64, 128, 256, 512)
"""Channels of the four stages at multiplier 1."""
IMAGE_CHANNELS = 3
IMAGE_SIZE = 224
"""Side of the square input in pixels."""
WHITE = 255
"""Value of a full pixel; means and deviations are given for pixels between 0 and 1."""

LINEAR_WEIGHT = "linear.weight"
"""Its first dimension is the number of classes, which the file decides."""
DEPLOYED_PART = "rbr_reparam"
"""Name of a block's one convolution in files of the deployed form."""

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """One RepVGG block: 3x3, 1x1 and, where shapes allow, identity branches; deployed, one convolution."""

    name: str
    """As in the state dict: ``stage0``, or ``stageN.M``."""
    in_channels: int
    out_channels: int
    stride: int
    groups: int = 1
    """Groups of the 3x3 and the 1x1 convolution."""

    @property
    def has_identity(self) -> bool:
        """Whether the block has an identity branch: output and input have the same shape."""
        return self.in_channels == self.out_channels and self.stride == 1

    def kernel_shape(self, size: int) -> Shape:
        """Return the shape of a ``size`` by ``size`` kernel of this block: [out, in of one group, size, size]."""
        return (self.out_channels, self.in_channels // self.groups, size, size)

    @property
    def shapes(self) -> dict[str, Shape]:
        """Train-time arrays of the block by full name, in the order of the reference implementation."""
        shapes: dict[str, Shape] = {}
        if self.has_identity:
            shapes |= batch_norm_shapes(f"{self.name}.rbr_identity", self.in_channels)
        for branch, size in (("rbr_dense", 3), ("rbr_1x1", 1)):
            prefix = f"{self.name}.{branch}"
            shapes[f"{prefix}.conv.weight"] = self.kernel_shape(size)
            shapes |= batch_norm_shapes(f"{prefix}.bn", self.out_channels)
        return shapes

    @property
    def deployed_shapes(self) -> dict[str, Shape]:
        """Arrays of the re-parameterised block by full name: kernel and bias of its one convolution."""
        prefix = f"{self.name}.{DEPLOYED_PART}"
        return {f"{prefix}.weight": self.kernel_shape(3), f"{prefix}.bias": (self.out_channels,)}


def batch_norm_shapes(prefix: str, channels: int) -> dict[str, Shape]:
    """Return names and shapes of one batch normalisation's arrays.

    Args:
        prefix: name of the layer, without a trailing dot.
        channels: channels it normalises.

    Returns:
        weight (gamma), bias (beta), running mean and running variance; each of shape (channels,).
    """
    return {f"{prefix}.{name}": (channels,) for name in ("weight", "bias", "running_mean", "running_var")}


@dataclass(frozen=True, slots=True)
class Variant:
    """A member of the RepVGG family.

    The stem is one block of stride 2; four stages follow, the first block of each with stride 2; then a
    global average pool and a linear layer.
    """

    name: str
    depths: tuple[int, int, int, int]
    """Blocks of each stage."""
    multipliers: tuple[float, float, float, float]
    """Factors on ``BASE_WIDTHS``."""
    groups: int = 1
    """Groups of the convolutions in every second block, counted through the stages; the stem is not counted."""

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each stage."""
        return tuple(int(width * multiplier) for width, multiplier in zip(BASE_WIDTHS, self.multipliers, strict=True))

    @property
    def features(self) -> int:
        """Channels that enter the linear layer."""
        return self.widths[-1]

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All blocks in the order in which they run, the stem first."""
        channels = min(BASE_WIDTHS[0], self.widths[0])
        blocks = [Block("stage0", IMAGE_CHANNELS, channels, 2)]
        for stage, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True), start=1):
            for index in range(depth):
                # len(blocks) is the block's number after the stem, from 1: the even ones are grouped.
                groups = self.groups if len(blocks) % 2 == 0 else 1
                blocks.append(Block(f"stage{stage}.{index}", channels, width, 2 if index == 0 else 1, groups))
                channels = width
        return tuple(blocks)

    def train_time_shapes(self, classes: int) -> dict[str, Shape]:
        """Return name and shape of every train-time array, in network order.

        Args:
            classes: outputs of the linear layer.

        Returns:
            State-dict names of the reference implementation, without its counters (``num_batches_tracked``).
        """
        shapes = {name: shape for block in self.blocks for name, shape in block.shapes.items()}
        return shapes | self._linear_shapes(classes)

    def deployed_shapes(self, classes: int) -> dict[str, Shape]:
        """Return name and shape of every array after re-parameterisation, in network order.

        Args:
            classes: outputs of the linear layer.

        Returns:
            Names as the reference implementation saves them.
        """
        shapes = {name: shape for block in self.blocks for name, shape in block.deployed_shapes.items()}
        return shapes | self._linear_shapes(classes)

    def _linear_shapes(self, classes: int) -> dict[str, Shape]:
        return {LINEAR_WEIGHT: (classes, self.features), "linear.bias": (classes,)}


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("A0", (2, 4, 14, 1), (0.75, 0.75, 0.75, 2.5)),
        Variant("A1", (2, 4, 14, 1), (1, 1, 1, 2.5)),
        Variant("A2", (2, 4, 14, 1), (1.5, 1.5, 1.5, 2.75)),
        Variant("B0", (4, 6, 16, 1), (1, 1, 1, 2.5)),
        Variant("B1", (4, 6, 16, 1), (2, 2, 2, 4)),
        Variant("B1g2", (4, 6, 16, 1), (2, 2, 2, 4), groups=2),
        Variant("B1g4", (4, 6, 16, 1), (2, 2, 2, 4), groups=4),
        Variant("B2", (4, 6, 16, 1), (2.5, 2.5, 2.5, 5)),
        Variant("B2g2", (4, 6, 16, 1), (2.5, 2.5, 2.5, 5), groups=2),
        Variant("B2g4", (4, 6, 16, 1), (2.5, 2.5, 2.5, 5), groups=4),
        Variant("B3", (4, 6, 16, 1), (3, 3, 3, 5)),
        Variant("B3g2", (4, 6, 16, 1), (3, 3, 3, 5), groups=2),
        Variant("B3g4", (4, 6, 16, 1), (3, 3, 3, 5), groups=4),
        # Not of the paper: small enough to train on two CPU cores and to ship.
        Variant("digits", (1, 2, 3, 1), (0.125, 0.125, 0.125, 0.125)),
    )
}
"""The known variants by name."""
