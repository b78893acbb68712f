"""A RepVGG file's arrays under the reference implementation's names, and whether they are a variant's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from repserve_convert.architecture import DEPLOYED_PART, LINEAR_WEIGHT, Shape, Variant
from repserve_convert.errors import ConversionError
from repserve_convert.names import PARALLEL_PREFIX, from_timm, to_timm

COUNTER = "num_batches_tracked"
"""Last part of the keys that count training steps; not used for inference."""
VARIANCE = "running_var"
"""Last part of the keys of variances."""
ADVICE = "the file is incomplete, damaged, or of another variant"
MATRIX = 2
"""Dimensions of a linear layer's weight."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The arrays of a file, in either form: as trained, or deployed with one convolution per block."""

    state: Mapping[str, NDArray[np.floating]]
    """Array by the reference implementation's name, without counters; unknown arrays keep their own names."""
    timm: bool
    """Whether the file has timm's names, which messages use then."""

    @classmethod
    def recognise(cls, state: Mapping[str, NDArray[np.floating]]) -> Checkpoint:
        """Make it from a state dict as it is in a file.

        Args:
            state: arrays by the names of the reference implementation or of timm. A leading ``module.`` is
                dropped, and counters of training steps are left out.
        """
        own = {name.removeprefix(PARALLEL_PREFIX): array for name, array in state.items() if not name.endswith(COUNTER)}
        return cls(
            {from_timm(name): array for name, array in own.items()}, any(from_timm(name) != name for name in own)
        )

    @property
    def deployed(self) -> bool:
        """Whether the blocks are already re-parameterised."""
        return any(f".{DEPLOYED_PART}." in name for name in self.state)

    @property
    def classes(self) -> int:
        """Outputs of the linear layer, which the file decides; 0 without a usable weight."""
        weight = self.state.get(LINEAR_WEIGHT)
        return weight.shape[0] if weight is not None and weight.ndim == MATRIX else 0

    def expected(self, variant: Variant) -> dict[str, Shape]:
        """Return name and shape of every array that the variant has in this form, in network order."""
        return (variant.deployed_shapes if self.deployed else variant.train_time_shapes)(self.classes)

    def key(self, name: str) -> str:
        """Return the file's name of an array."""
        return to_timm(name) if self.timm else name

    def check(self, variant: Variant) -> None:
        """Check that the file holds the variant's arrays, all of them and no others.

        Raises:
            ConversionError: the first key, in network order, that is missing, has another shape than the
                variant's or values that no network has; else a key that the variant does not have.
        """
        expected = self.expected(variant)
        for name, shape in expected.items():
            if name not in self.state:
                raise ConversionError(f"key {self.key(name)!r} is missing, but RepVGG-{variant.name} has it: {ADVICE}")
            found = self.state[name].shape
            if found != shape or 0 in shape:
                wanted = f"(classes, {shape[1]})" if name == LINEAR_WEIGHT else shape
                raise ConversionError(
                    f"key {self.key(name)!r} has shape {found}, RepVGG-{variant.name} has {wanted}: {ADVICE}"
                )
            if not np.isfinite(self.state[name]).all():
                raise ConversionError(f"key {self.key(name)!r} holds NaN or infinity: the file is damaged")
            if name.endswith(VARIANCE) and (self.state[name] < 0).any():
                raise ConversionError(f"key {self.key(name)!r} holds a negative variance: the file is damaged")
        for name in self.state:
            if name not in expected:
                raise ConversionError(f"key {self.key(name)!r} is not part of RepVGG-{variant.name}: {ADVICE}")
