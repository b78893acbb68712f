"""Which image files are accepted, decided by the first bytes and the header before any pixel is decoded."""

from __future__ import annotations

import io

from PIL import Image, UnidentifiedImageError

from repserve_server.errors import ImageError

ACCEPTED = "JPEG, PNG, WebP or BMP"

# The limit on pixels is the caller's (max_pixels). Pillow's own holds for the whole process, and only warns
# up to twice its value.
Image.MAX_IMAGE_PIXELS = None

_ACCEPTED_SIGNATURES = (
    # (offset, signature, name, which is Pillow's for the format but for case)
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (8, b"WEBP", "WebP"),
    (0, b"BM", "BMP"),
)

_REFUSED_SIGNATURES = (
    (0, b"GIF8", "GIF"),
    (0, b"II*\x00", "TIFF"),
    (0, b"MM\x00*", "TIFF"),
    (0, b"II+\x00", "BigTIFF"),
    (0, b"MM\x00+", "BigTIFF"),
    (0, b"%PDF", "PDF"),
    (0, b"<svg", "SVG"),
    (0, b"<?xml", "XML or SVG"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftypavis", "AVIF"),
    (4, b"ftyphei", "HEIC"),
    (4, b"ftyphev", "HEIC"),
    (4, b"ftypmif1", "HEIF"),
    (4, b"ftypmsf1", "HEIF"),
    (0, b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\x00\x00\x01\x00", "ICO"),
    (0, b"8BPS", "Photoshop"),
)


def open_image(data: bytes, max_pixels: int) -> tuple[str, Image.Image]:
    """Open an encoded image without decoding its pixels.

    Args:
        data: the whole encoded file.
        max_pixels: largest width times height that is accepted.

    Returns:
        The format's name, and Pillow's image, its pixels not loaded yet. Of an MPO file (a JPEG with further
        pictures) this is the first picture.

    Raises:
        ImageError: the file is empty, not one of the accepted formats, animated, too large, or its header is
            corrupt.
    """
    name = _recognise(data)
    try:
        image = Image.open(io.BytesIO(data), formats=[name])
    except UnidentifiedImageError as error:
        raise ImageError(
            f"the image starts like a {name} file, but its header cannot be read; send an intact file",
            kind="corrupt",
        ) from error
    except MemoryError:
        raise
    except Exception as error:
        raise corrupt(name, error) from error
    if name in {"PNG", "WebP"} and getattr(image, "is_animated", False):
        raise ImageError(f"animated {name} images are not accepted; send a still picture", kind="animated")
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(
            f"the {name} image has {width} x {height} pixels, more than the {max_pixels} that are accepted; "
            "send a smaller picture",
            kind="too_large",
        )
    return name, image


def corrupt(name: str, error: Exception) -> ImageError:
    """Return the error for a file of an accepted format that Pillow cannot decode."""
    return ImageError(f"the {name} image cannot be decoded: {error}; send an intact file", kind="corrupt")


def _recognise(data: bytes) -> str:
    """Recognise the file's format, or raise an ImageError that says what the file is instead."""
    if not data:
        raise ImageError(f"the image is empty (0 bytes); send a {ACCEPTED} file", kind="empty")
    for offset, signature, name in _ACCEPTED_SIGNATURES:
        if data.startswith(signature, offset):
            return name
    for offset, signature, name in _REFUSED_SIGNATURES:
        if data.startswith(signature, offset):
            raise ImageError(f"{name} images are not accepted; send {ACCEPTED}", kind="unsupported_format")
    raise ImageError(
        f"the data is no known image format (it starts with {data[:8].hex(' ')}); send {ACCEPTED}",
        kind="unknown_format",
    )
