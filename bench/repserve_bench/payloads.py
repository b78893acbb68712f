"""Requests as the bytes that go on the wire, made before the clock starts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from repserve_bench.errors import BenchError
from repserve_protos.v1 import classification_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from repserve_bench.dataset import Sample

MEMORY_LIMIT = 2 << 30
"""Bytes of requests that one load process keeps; a larger replay makes each request when it is sent."""

READERS = 4


@dataclass(frozen=True)
class InputTensor:
    """An input of a KServe v2 model."""

    name: str
    datatype: str
    """BYTES takes files, UINT8 and FP32 take pixels."""
    channels_first: bool = False
    batched: bool = True
    """Whether its first dimension counts images."""
    dimensions: int = 1
    """Of BYTES: [images], or more, each of the others 1."""


@dataclass(frozen=True)
class InputSettings:
    """What a request carries."""

    model: str = ""
    version: str = ""
    pixels: bool = False
    """Send resized and cropped uint8 pixels instead of the encoded file."""
    images_per_request: int = 1
    """More than one only with ``pixels``."""
    crop: int = 224
    resize: int = 256
    top_k: int = 5
    tensor: InputTensor | None = None
    """The tensor of a KServe v2 model that takes the images; None for ``repserve.v1``."""


@dataclass(frozen=True)
class Content:
    """The images of one request."""

    count: int
    encoded: bytes = b""
    """The file of the one image, unless pixels are sent."""
    pixels: bytes = b""
    """uint8 RGB [count, crop, crop, 3], row-major."""


class PayloadError(BenchError):
    """An image could not be read or preprocessed on the client; the message names the file."""


def group(samples: Sequence[Sample], size: int) -> list[tuple[Sample, ...]]:
    """Cut the samples into requests of ``size`` images; the last may be smaller."""
    return [tuple(samples[start : start + size]) for start in range(0, len(samples), size)]


class Payloads:
    """The requests of one load process, one for each group of samples.

    Args:
        groups: The samples of each request.
        settings: What a request carries.
        make: Serialises the request with this index for the images of its group.
    """

    def __init__(
        self,
        groups: Sequence[tuple[Sample, ...]],
        settings: InputSettings,
        make: Callable[[int, Content], bytes],
    ) -> None:
        self.groups = groups
        self._make = make
        self.kept = False
        """Whether every request was made in advance; if not, making them is part of the measured time."""
        self._settings = settings
        self._payloads: list[bytes] = []

    def prepare(self) -> None:
        """Read and serialise every request, unless they would need more than MEMORY_LIMIT.

        Raises:
            PayloadError: An image could not be read or preprocessed.
        """
        if self._bytes_needed() > MEMORY_LIMIT:
            return
        with ThreadPoolExecutor(READERS) as pool:
            self._payloads = list(pool.map(self._read, range(len(self.groups))))
        self.kept = True

    def __getitem__(self, index: int) -> bytes:
        return self._payloads[index] if self.kept else self._read(index)

    def _bytes_needed(self) -> int:
        if self._settings.pixels:
            return sum(len(samples) for samples in self.groups) * self._settings.crop**2 * 3
        try:
            return sum(sample.path.stat().st_size for samples in self.groups for sample in samples)
        except OSError as error:
            raise PayloadError(f"cannot read an image: {error}") from error

    def _read(self, index: int) -> bytes:
        samples = self.groups[index]
        settings = self._settings
        try:
            if settings.pixels:
                pixels = crop_pixels(samples, crop=settings.crop, resize=settings.resize)
                content = Content(len(samples), pixels=pixels)
            else:
                content = Content(1, encoded=samples[0].path.read_bytes())
        except OSError as error:
            raise PayloadError(f"cannot read an image: {error}") from error
        return self._make(index, content)


def classify_request(content: Content, settings: InputSettings) -> pb.ClassifyRequest:
    """Return the ClassifyRequest of ``repserve.v1`` for one request's images."""
    request = pb.ClassifyRequest(model=settings.model, version=settings.version, top_k=settings.top_k)
    if settings.pixels:
        request.pixels.count = content.count
        request.pixels.data = content.pixels
    else:
        request.encoded_image = content.encoded
    return request


def crop_pixels(samples: Sequence[Sample], *, crop: int, resize: int) -> bytes:
    """Preprocess images on the client exactly as the server would.

    Returns:
        uint8 RGB pixels, row-major [len(samples), crop, crop, 3].

    Raises:
        PayloadError: An image could not be decoded, or the server's imaging packages are not installed.
    """
    try:
        import numpy as np

        from repserve_server.errors import ImageError
        from repserve_server.imaging.decode import preprocess_into
        from repserve_server.imaging.preprocessing import Preprocessing
    except ModuleNotFoundError as error:
        raise PayloadError(
            f"--input pixels decodes on the client and needs {error.name}: pip install 'repserve[bench]'"
        ) from error
    preprocessing = Preprocessing(resize=resize, crop=crop)
    pixels = np.empty((len(samples), *preprocessing.shape), np.uint8)
    for sample, out in zip(samples, pixels, strict=True):
        try:
            preprocess_into(sample.path.read_bytes(), preprocessing, out)
        except ImageError as error:
            raise PayloadError(f"{sample.path}: {error.message}") from error
    return pixels.tobytes()
