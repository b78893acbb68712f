"""Detection of the variant of a file by the shapes of its arrays."""

from __future__ import annotations

import re

from repserve_convert.architecture import DEPLOYED_PART, VARIANTS, Variant
from repserve_convert.checkpoint import Checkpoint
from repserve_convert.errors import ConversionError

SHOWN_KEYS = 3
"""Keys of a file without any RepVGG block that its error message shows."""
_KERNEL = re.compile(rf"stage(\d+)(?:\.(\d+))?\.(?:rbr_dense\.conv|{DEPLOYED_PART})\.weight")


def choose_variant(checkpoint: Checkpoint, name: str | None) -> Variant:
    """Return the variant that the user named, or else the one that the file holds.

    Args:
        checkpoint: the file's arrays.
        name: of one of ``VARIANTS``; None to detect it by the shapes.

    Raises:
        ConversionError: the file does not hold it or, without a name, any. If it is close to one, the message names
            the first key, in network order, that does not fit.
    """
    if name is None:
        variant = _detect(checkpoint)
        try:
            checkpoint.check(variant)
        except ConversionError as error:
            raise ConversionError(f"the nearest RepVGG variant is {variant.name}: {error}") from error
        return variant
    variant = VARIANTS[name]
    try:
        checkpoint.check(variant)
    except ConversionError as error:
        shapes = {name: array.shape for name, array in checkpoint.state.items()}
        for other in VARIANTS.values():
            if other != variant and shapes == checkpoint.expected(other):
                raise ConversionError(f"{error}; its shapes are those of {other.name}") from error
        raise
    return variant


def _detect(checkpoint: Checkpoint) -> Variant:
    """Find the variant with most arrays in common with the file; of several, the one of which it lacks fewest."""

    def likeness(variant: Variant) -> tuple[int, int]:
        return _equal(checkpoint, variant), -len(checkpoint.expected(variant))

    best = max(VARIANTS.values(), key=likeness)
    # Half of the file's arrays: the rest of a damaged file is enough to recognise it, and another network that shares
    # some shapes by chance is not taken for a damaged file.
    if 2 * _equal(checkpoint, best) < len(checkpoint.state):
        raise ConversionError(
            f"the file holds none of the RepVGG variants {', '.join(VARIANTS)}: found {_description(checkpoint)}"
        )
    return best


def _equal(checkpoint: Checkpoint, variant: Variant) -> int:
    """Count the arrays that the file and the variant share, by name and shape."""
    expected = checkpoint.expected(variant)
    return sum(expected.get(name) == array.shape for name, array in checkpoint.state.items())


def _description(checkpoint: Checkpoint) -> str:
    """Describe the network that the file holds, as far as its kernels show."""
    depths: dict[int, int] = {}
    widths: dict[int, int] = {}
    for name, array in checkpoint.state.items():
        if kernel := _KERNEL.fullmatch(name):
            stage = int(kernel[1])
            depths[stage] = depths.get(stage, 0) + 1
            widths[stage] = array.shape[0] if array.ndim else 0
    if not depths:
        keys = ", ".join(repr(checkpoint.key(name)) for name in list(checkpoint.state)[:SHOWN_KEYS])
        return f"no RepVGG block, but keys such as {keys}"
    return ", ".join(f"{depths[stage]} x {widths[stage]} channels in stage {stage}" for stage in sorted(depths))
