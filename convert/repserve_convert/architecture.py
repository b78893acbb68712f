"""RepVGG variants as data: depths and widths, the blocks they make, the names and shapes of their weights.

Figures are those of the paper (Ding et al., "RepVGG: Making VGG-style ConvNets Great Again", 2021, table 2);
names are those of its reference implementation, so that its files load.
"""

from __future__ import annotations

from dataclasses import dataclass

from repserve_convert.errors import ConversionError

BASE_WIDTHS = (64, 128, 256, 512)
"""Channels of the four stages at multiplier 1."""
IMAGE_CHANNELS = 3
IMAGE_SIZE = 224
"""Side of the square input in pixels."""

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """One RepVGG block: 3x3, 1x1 and, where shapes allow, identity branches; deployed, one convolution."""

    name: str
    """As in the state dict: ``stage0``, or ``stageN.M``."""
    in_channels: int
    out_channels: int
    stride: int

    @property
    def has_identity(self) -> bool:
        """Whether the block has an identity branch: output and input have the same shape."""
        return self.in_channels == self.out_channels and self.stride == 1

    @property
    def shapes(self) -> dict[str, Shape]:
        """Train-time arrays of the block by full name, in the order of the reference implementation."""
        shapes: dict[str, Shape] = {}
        if self.has_identity:
            shapes |= batch_norm_shapes(f"{self.name}.rbr_identity", self.in_channels)
        for branch, size in (("rbr_dense", 3), ("rbr_1x1", 1)):
            prefix = f"{self.name}.{branch}"
            shapes[f"{prefix}.conv.weight"] = (self.out_channels, self.in_channels, size, size)
            shapes |= batch_norm_shapes(f"{prefix}.bn", self.out_channels)
        return shapes


def batch_norm_shapes(prefix: str, channels: int) -> dict[str, Shape]:
    """Names and shapes of one batch normalisation's arrays.

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
                blocks.append(Block(f"stage{stage}.{index}", channels, width, 2 if index == 0 else 1))
                channels = width
        return tuple(blocks)

    def train_time_shapes(self, classes: int) -> dict[str, Shape]:
        """Name and shape of every train-time array, in network order.

        Args:
            classes: outputs of the linear layer.

        Returns:
            State-dict names of the reference implementation, without its counters (``num_batches_tracked``).
        """
        shapes: dict[str, Shape] = {}
        for block in self.blocks:
            shapes |= block.shapes
        shapes["linear.weight"] = (classes, self.features)
        shapes["linear.bias"] = (classes,)
        return shapes

    def deployed_parameters(self, classes: int) -> int:
        """Number of weights and biases after re-parameterisation (A0 with 1000 classes: 8.31 million)."""
        blocks = sum((9 * block.in_channels + 1) * block.out_channels for block in self.blocks)
        return blocks + (self.features + 1) * classes

    def multiply_accumulates(self, classes: int, size: int = IMAGE_SIZE) -> int:
        """Multiply-accumulates of one image after re-parameterisation (A0 with 1000 classes: 1.36 billion).

        Args:
            classes: outputs of the linear layer.
            size: side of the square input in pixels.
        """
        total = self.features * classes
        for block in self.blocks:
            size = (size + block.stride - 1) // block.stride
            total += 9 * block.in_channels * block.out_channels * size * size
        return total


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("A0", (2, 4, 14, 1), (0.75, 0.75, 0.75, 2.5)),
        Variant("A1", (2, 4, 14, 1), (1, 1, 1, 2.5)),
        Variant("A2", (2, 4, 14, 1), (1.5, 1.5, 1.5, 2.75)),
        Variant("B0", (4, 6, 16, 1), (1, 1, 1, 2.5)),
        Variant("B1", (4, 6, 16, 1), (2, 2, 2, 4)),
        Variant("B2", (4, 6, 16, 1), (2.5, 2.5, 2.5, 5)),
        Variant("B3", (4, 6, 16, 1), (3, 3, 3, 5)),
        # Not of the paper: small enough to train on two CPU cores and to ship.
        Variant("digits", (1, 2, 3, 1), (0.125, 0.125, 0.125, 0.125)),
    )
}
"""The known variants by name."""


def find_variant(name: str) -> Variant:
    """Look a variant up by name, whatever the case.

    Raises:
        ConversionError: there is none of that name; the message lists those there are.
    """
    for known, variant in VARIANTS.items():
        if known.lower() == name.lower():
            return variant
    raise ConversionError(f"unknown RepVGG variant {name!r}: expected one of {', '.join(VARIANTS)}")
