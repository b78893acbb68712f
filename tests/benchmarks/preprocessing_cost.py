"""CPU time per image of the guide's preprocessing and of the server's.

Run: python tests/benchmarks/preprocessing_cost.py DIRECTORY_OF_JPEGS
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from repserve_server.imaging.decode import preprocess_into
from repserve_server.imaging.preprocessing import Preprocessing

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support.reference_preprocessing import reference_tensor

if TYPE_CHECKING:
    from collections.abc import Callable

PASSES = 3
PREPROCESSING = Preprocessing()


def main() -> None:
    """Measure colour photos, then grey versions of them, and print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("directory", type=Path, help="a folder of JPEG files")
    files = [path.read_bytes() for path in sorted(parser.parse_args().directory.iterdir()) if path.is_file()]
    colour = [data for data in files if Image.open(io.BytesIO(data)).mode == "RGB"]
    if not colour:
        parser.error("no colour images in this folder")
    write("images  count  guide ms  server ms  ratio")
    for name, group in (("colour", colour), ("grey", [grey_jpeg(data) for data in colour])):
        guide, server = cpu_seconds_per_image(group)
        write(f"{name:6}  {len(group):5}  {guide * 1e3:8.3f}  {server * 1e3:9.3f}  {server / guide:5.3f}")


def cpu_seconds_per_image(files: list[bytes]) -> tuple[float, float]:
    """The guide's and the server's best pass, taken in turns, so that a busy machine slows both."""
    out = np.empty(PREPROCESSING.shape, np.uint8)

    def server(data: bytes) -> None:
        preprocess_into(data, PREPROCESSING, out)

    both: tuple[Callable[[bytes], object], ...] = (reference_tensor, server)
    best = [float("inf"), float("inf")]
    for _ in range(PASSES):
        for index, preprocess in enumerate(both):
            best[index] = min(best[index], one_pass(preprocess, files))
    return best[0], best[1]


def one_pass(preprocess: Callable[[bytes], object], files: list[bytes]) -> float:
    start = time.process_time()
    for data in files:
        preprocess(data)
    return (time.process_time() - start) / len(files)


def grey_jpeg(data: bytes) -> bytes:
    """A grey version of the photo, at a usual quality."""
    file = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("L").save(file, "JPEG", quality=90)
    return file.getvalue()


def write(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
