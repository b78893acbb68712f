"""Recording of golden images: how a model classifies them now, for the golden check.

It runs in a process of its own, like a worker, since it loads the model: ``python -m
repserve_server.worker.golden_record`` with a ``RecordGolden`` message on standard input.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from repserve_server.backends.base import preprocessing_of
from repserve_server.backends.factory import create_backend
from repserve_server.channel.worker_messages import LoadWorker, RecordGolden
from repserve_server.errors import RepServeError
from repserve_server.repository.golden import GoldenImage, write_golden
from repserve_server.worker.golden import score_images
from repserve_server.worker.options import read_options


def record(load: LoadWorker, files: Sequence[Path], target: Path) -> list[str]:
    """Write the golden.toml at ``target`` and copy the images to it; returns a line about each image.

    Raises:
        RepServeError: the model cannot be loaded, or an image not be decoded.
    """
    options = read_options(load)
    backend = create_backend(options)
    rows = score_images(files, backend, preprocessing_of(options, backend.input), load.output)
    backend.close()
    target.parent.mkdir(parents=True, exist_ok=True)
    lines, images = [], []
    for file, row in zip(files, rows, strict=True):
        copy = target.with_name(file.name)
        if copy.resolve() != file.resolve():
            shutil.copyfile(file, copy)
        best = int(row.argmax())
        images.append(GoldenImage(file=file.name, index=best, score=float(row[best])))
        lines.append(f"{file.name}: class {best} with {row[best]:.4f}")
    write_golden(target, images)
    return lines


def main() -> int:
    """Run the command."""
    message = RecordGolden.model_validate_json(sys.stdin.read())
    # What a runtime prints from C must not mix with the output.
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        lines = record(message.load, message.files, message.target)
    except (RepServeError, OSError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command
        return 1
    with output:
        output.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
