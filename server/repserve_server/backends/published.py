"""The throughput that the RepVGG offline guide publishes, as data.

Source: RepVGG PyTorch offline inference guide, section 8, RepVGG-A0 at 224 by 224. Its 310 column counts a card of
four chips; a device here is one chip.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedDevice:
    """A column of the table: images per second of a card by batch size, and how many devices a card has."""

    title: str
    card_fps: dict[int, int]
    devices_per_card: int = 1

    def batch_seconds(self, size: int) -> float:
        """Seconds that one device takes for a batch, on a straight line between the published sizes."""
        low, high = min(self.card_fps), max(self.card_fps)
        first, last = (self.devices_per_card * n / self.card_fps[n] for n in (low, high))
        return first + (last - first) * (size - low) / (high - low)


OFFICIAL_TOP1 = 72.418
"""Top-1 accuracy in percent of the authors' .pth file."""
PUBLISHED_TOP1 = 72.15
"""Top-1 accuracy in percent of the .om on a 310P."""
PUBLISHED_DEVICES = {
    "t4": PublishedDevice("T4", {1: 1128, 16: 4784}),
    "310": PublishedDevice("310", {1: 1112, 16: 7115}, devices_per_card=4),
    "310p": PublishedDevice("310P", {1: 1919, 16: 8752}),
}
