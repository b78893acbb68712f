"""golden/golden.toml: stored images, and the classes that a version must give them before it is served.

A model's folder, or a version's, may hold the folder ``golden``; the version's comes first:

    tolerance = 0.05            # largest difference of a probability
    accuracy = 0.8              # optional: lowest top-1 accuracy of the labelled images
    labels = "val_label.txt"    # their classes: a line each, "file index"

    [[image]]
    file = "photo.jpg"          # beside golden.toml, or elsewhere in the model's folder
    class = 281                 # the index that must rank first
    score = 0.93                # optional: its probability
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from repserve_server.errors import RepositoryError
from repserve_server.files import write_whole
from repserve_server.repository.document import read_document

GOLDEN_FOLDER = "golden"
_FILE = "golden.toml"
_MAX_IMAGES = 64
_MAX_LABELLED = 2_000


class GoldenImage(BaseModel):
    """An image, its class, and the probability of that class where it matters."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    file: str
    index: int = Field(validation_alias="class", ge=0)
    score: float | None = Field(default=None, ge=0, le=1)


class Golden(BaseModel):
    """The content of a golden.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tolerance: float = Field(default=0.05, gt=0, le=1)
    accuracy: float | None = Field(default=None, ge=0, le=1)
    labels: str | None = None
    image: tuple[GoldenImage, ...] = Field(default=(), max_length=_MAX_IMAGES)


def golden_file(folder: Path) -> Path:
    """Return the path of golden.toml in a model's or a version's folder, whether it exists or not."""
    return folder / GOLDEN_FOLDER / _FILE


def find_golden(version: Path) -> Path | None:
    """Find the golden.toml of a version: its own, or else its model's; None without one."""
    return next((path for path in map(golden_file, (version, version.parent)) if path.is_file()), None)


def read_golden(path: Path) -> Golden:
    """Read a golden.toml.

    Raises:
        RepositoryError: it cannot be read, or a key is unknown or has a wrong value.
    """
    return read_document(path, Golden)


def write_golden(path: Path, images: Iterable[GoldenImage]) -> None:
    """Write a golden.toml with these images and the default tolerance."""
    tables = [f"tolerance = {Golden().tolerance}\n"]
    for image in images:
        score = "" if image.score is None else f"score = {image.score:.4f}\n"
        tables.append(f"[[image]]\nfile = {json.dumps(image.file)}\nclass = {image.index}\n{score}")
    write_whole(path, "\n".join(tables).encode())


def find_image(file: str, golden: Path) -> Path:
    """Find an image that a golden.toml names.

    Raises:
        RepositoryError: it is outside of the model's folder.
    """
    # golden/ is in the model's folder or in a version's; either way the images are the model's own.
    found, model = (golden.parent / file).resolve(), golden.parent.parent.resolve()
    if not found.is_relative_to(model):
        raise RepositoryError(f"{golden}: file {file!r} is outside of {model}; golden images are part of the model")
    return found


def read_labelled(path: Path) -> list[tuple[str, int]]:
    """Read the labelled images: the file name and class index of each, a line each, as in the guide's val_label.txt.

    Raises:
        RepositoryError: the file cannot be read, or names too many images or none.
    """
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        entries = [(name, int(index)) for name, index in lines]
    except (OSError, ValueError) as error:
        raise RepositoryError(f"{path} is not a list of labels, a file and an index on each line: {error}") from error
    if not 1 <= len(entries) <= _MAX_LABELLED:
        raise RepositoryError(f"{path} has {len(entries)} labelled images, expected 1 to {_MAX_LABELLED}")
    return entries
