"""How images are prepared for a model: data, read from model.toml."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

CHANNELS = 3


class Preprocessing(BaseModel):
    """Resize, centre crop and normalisation; the defaults are those of the RepVGG offline guide.

    The shorter side is scaled to ``resize`` pixels (Pillow's antialiased bilinear filter), the centre
    ``crop`` by ``crop`` pixels are taken, and the model's input is (pixel / 255 - mean) / std, channels in
    RGB order.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    resize: int = Field(default=256, ge=1, le=4096)
    crop: int = Field(default=224, ge=1, le=4096)
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    @model_validator(mode="after")
    def _check(self) -> Preprocessing:
        if self.crop > self.resize:
            raise ValueError(f"crop = {self.crop} does not fit into the shorter side, resize = {self.resize}")
        if min(self.std) <= 0:
            raise ValueError(f"std = {list(self.std)} must be positive")
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one preprocessed image: (crop, crop, 3), uint8."""
        return (self.crop, self.crop, CHANNELS)

    @property
    def image_bytes(self) -> int:
        """Bytes of one preprocessed image (150,528 for the guide's crop of 224)."""
        return self.crop * self.crop * CHANNELS
