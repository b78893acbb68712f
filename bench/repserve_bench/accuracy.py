"""Top-1 and top-5 accuracy, counted so that processes can add theirs up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

TOP = 5


@dataclass
class Accuracy:
    """Counts over the labelled images that were answered."""

    images: int = 0
    top1_hits: int = 0
    top5_hits: int = 0

    def add(self, label: int, ranked: Sequence[int]) -> None:
        """Count one image.

        Args:
            label: The index of its class.
            ranked: Class indices of the answer, most probable first; those after the fifth do not count.
        """
        self.images += 1
        if ranked and ranked[0] == label:
            self.top1_hits += 1
            self.top5_hits += 1
        elif label in ranked[:TOP]:
            self.top5_hits += 1

    def merge(self, other: Accuracy) -> None:
        """Add another process's counts to these."""
        self.images += other.images
        self.top1_hits += other.top1_hits
        self.top5_hits += other.top5_hits

    @property
    def top1(self) -> float | None:
        """Share of images, 0 to 1, whose best class is the label; None before the first image."""
        return self.top1_hits / self.images if self.images else None

    @property
    def top5(self) -> float | None:
        """Share of images, 0 to 1, whose label is among the best five; None before the first image."""
        return self.top5_hits / self.images if self.images else None
