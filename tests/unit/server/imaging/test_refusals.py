"""What is not accepted is an ImageError with a reason, whatever the bytes are."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from repserve_server.errors import ImageError, Status
from support.examples import scaled
from support.images import encoded, equal_share, photo, preprocessed
from support.reference_preprocessing import reference_pixels

PICTURE = photo(60, 40)
MORE = [photo(60, 40, seed=seed) for seed in (1, 2)]

TWELVE_BITS = encoded(PICTURE, "JPEG").replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc1\x00\x11\x0c")
ANIMATED: dict[str, object] = {"save_all": True, "append_images": MORE}

REFUSED = {
    "nothing": (b"", "empty", "0 bytes"),
    "text": (b"hello, world", "unknown_format", "no known image format"),
    "one byte": (b"\xff", "unknown_format", "no known image format"),
    "gif": (encoded(PICTURE, "GIF"), "unsupported_format", "GIF images are not accepted; send JPEG"),
    "animated gif": (encoded(PICTURE, "GIF", **ANIMATED), "unsupported_format", "GIF"),
    "tiff": (encoded(PICTURE, "TIFF"), "unsupported_format", "TIFF"),
    "pdf": (encoded(PICTURE, "PDF"), "unsupported_format", "PDF"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported_format", "SVG"),
    "heic": (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00", "unsupported_format", "HEIC"),
    "animated png": (encoded(PICTURE, "PNG", **ANIMATED), "animated", "animated PNG"),
    "animated webp": (encoded(PICTURE, "WEBP", **ANIMATED), "animated", "animated WebP"),
    "truncated jpeg": (encoded(PICTURE, "JPEG")[:-200], "corrupt", "truncated"),
    "truncated progressive jpeg": (encoded(PICTURE, "JPEG", progressive=True)[:-200], "corrupt", "truncated"),
    "truncated png": (encoded(PICTURE, "PNG")[:-2000], "corrupt", "PNG image cannot be decoded"),
    "truncated webp": (encoded(PICTURE, "WEBP")[:-200], "corrupt", "WebP"),
    "truncated bmp": (encoded(PICTURE, "BMP")[:-200], "corrupt", "BMP"),
    "jpeg signature only": (b"\xff\xd8\xff", "corrupt", "header cannot be read"),
    "png signature only": (b"\x89PNG\r\n\x1a\n", "corrupt", "PNG"),
    "12-bit jpeg": (TWELVE_BITS, "corrupt", "header cannot be read"),
}  # fmt: skip

FILES = [
    encoded(PICTURE, "JPEG"),
    encoded(PICTURE, "JPEG", progressive=True),
    encoded(PICTURE.convert("L"), "JPEG"),
    encoded(PICTURE.convert("CMYK"), "JPEG"),
    encoded(PICTURE, "PNG"),
    encoded(PICTURE.convert("P"), "PNG"),
    encoded(PICTURE, "WEBP"),
    encoded(PICTURE, "WEBP", lossless=True),
    encoded(PICTURE, "BMP"),
]


@pytest.mark.parametrize("name", REFUSED)
def test_refusal_names_the_reason(name: str) -> None:
    data, kind, reason = REFUSED[name]
    with pytest.raises(ImageError) as raised:
        preprocessed(data)
    assert raised.value.kind == kind
    assert reason in raised.value.message
    assert raised.value.status is Status.INVALID_ARGUMENT


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header announces a size, with no pixels to match."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b"")))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


@pytest.mark.parametrize(("width", "height"), [(10_001, 10_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_a_bomb_is_refused_from_its_header(width: int, height: int) -> None:
    with pytest.raises(ImageError, match=f"{width} x {height} pixels, more than the 100000000") as raised:
        preprocessed(png_of_size(width, height))
    assert raised.value.kind == "too_large"


def test_the_limit_on_pixels_is_inclusive() -> None:
    data = encoded(PICTURE, "JPEG")
    preprocessed(data, max_pixels=60 * 40)
    with pytest.raises(ImageError, match="60 x 40") as raised:
        preprocessed(data, max_pixels=60 * 40 - 1)
    assert raised.value.kind == "too_large"


def test_nothing_is_printed_for_a_damaged_jpeg(capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(encoded(photo(200, 200), "JPEG"))
    data[len(data) // 2 : len(data) // 2 + 40] = b"\xff" * 5 + bytes(35)
    outcome_or_error(bytes(data))
    outcome_or_error(bytes(data[: len(data) // 2]) + b"\xff\xd9")
    assert capfd.readouterr() == ("", "")


def outcome_or_error(data: bytes) -> None:
    """Within one grey level of the reference, or an ImageError; nothing else."""
    try:
        # A damaged header may announce a picture too large for a test.
        pixels = preprocessed(data, max_pixels=100_000)
    except ImageError:
        return
    equal_share(pixels, data)


@settings(max_examples=scaled(150))
@given(data=st.binary(max_size=200), signature=st.sampled_from([b"", *(file[:12] for file in FILES)]))
def test_random_bytes(data: bytes, signature: bytes) -> None:
    outcome_or_error(signature + data)


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=scaled(300))
@given(
    file=st.sampled_from(FILES),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1, max_size=4),
    in_header=st.booleans(),
)
def test_flipped_bits(file: bytes, flips: list[tuple[float, int]], in_header: bool) -> None:
    damaged = bytearray(file)
    reach = min(len(damaged), 700) if in_header else len(damaged)
    for position, bit in flips:
        damaged[int(position * reach)] ^= 1 << bit
    outcome_or_error(bytes(damaged))


@settings(max_examples=scaled(100))
@given(file=st.sampled_from(FILES), share=st.floats(0, 1, exclude_max=True))
def test_truncated_files_fail_where_the_reference_fails(file: bytes, share: float) -> None:
    truncated = file[: int(share * len(file))]
    try:
        reference_pixels(truncated)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError):
        with pytest.raises(ImageError):
            preprocessed(truncated)
    else:
        equal_share(preprocessed(truncated), truncated)
