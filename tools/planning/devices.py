"""The devices that are simulated: what a run of each batch size costs, from published rates."""

from __future__ import annotations

from dataclasses import dataclass

from repserve_server.backends.published import PUBLISHED_DEVICES

LARGEST = 16
SMALLEST_AND_LARGEST = (1, LARGEST)
GEARS = (1, 2, 4, 8, LARGEST)


@dataclass(frozen=True)
class Device:
    """A device with an .om of two sizes and one of gears."""

    chip: str
    source: str
    """Whose rates these are."""
    two_sizes: dict[int, float]
    """Seconds of a run of each size, for a model compiled for 1 and 16."""
    gears: dict[int, float]
    """The same for a model compiled for more sizes."""

    @property
    def title(self) -> str:
        """The chip and whose rates these are."""
        return f"{self.chip}, {self.source}"

    @property
    def largest_rate(self) -> float:
        """Images a second in full batches of the largest size: a load of 1."""
        return LARGEST / self.two_sizes[LARGEST]


def _from_guide(name: str) -> Device:
    """Take what is published for 1 and 16, and a straight line for the gears between."""
    published = PUBLISHED_DEVICES[name]
    return Device(
        published.title,
        "the guide's rates",
        {size: published.batch_seconds(size) for size in SMALLEST_AND_LARGEST},
        {size: published.batch_seconds(size) for size in GEARS},
    )


def _from_model_zoo(chip: str, fps: dict[int, float]) -> Device:
    """Take the published sizes for gears; where these are 1 and 16 only, those of a straight line between."""
    seconds = {size: size / rate for size, rate in fps.items()}
    step = (seconds[LARGEST] - seconds[1]) / (LARGEST - 1)
    line = {size: seconds[1] + step * (size - 1) for size in GEARS}
    two_sizes = {size: seconds[size] for size in SMALLEST_AND_LARGEST}
    return Device(chip, "ModelZoo's rates", two_sizes, seconds if len(seconds) > len(two_sizes) else line)


GUIDE_310P = _from_guide("310p")
GUIDE_DEVICES = (GUIDE_310P, _from_guide("310"), _from_guide("t4"))
MODEL_ZOO_310P = _from_model_zoo("310P", {1: 1938.0, 4: 4694.8, 8: 6739.7, 16: 8933.6})
"""Source: RepVGG-A0 on a 310P3 in Ascend's ModelZoo-PyTorch; sizes up to 16."""
MODEL_ZOO_310 = _from_model_zoo("310", {1: 2199 / 4, 16: 4284 / 4})
"""Source: as above; its figures count a card of four chips. Batches of 16 hardly pay: 1.95 times the rate of single
images."""
DEVICES = (*GUIDE_DEVICES, MODEL_ZOO_310P, MODEL_ZOO_310)
"""All that are compared; the first is shown in full."""
