"""A folder of images and, in the RepVGG guide's val_label.txt format, the class of each."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from repserve_bench.errors import BenchError

if TYPE_CHECKING:
    from pathlib import Path

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp"})
"""Suffixes, in lower case, of the image formats that the server decodes."""


class DatasetError(BenchError):
    """The images or their labels cannot be used; the message names the file and what was expected."""


@dataclass(frozen=True)
class Sample:
    """One image and, where it is known, the index of its class."""

    path: Path
    label: int | None = None

    @property
    def name(self) -> str:
        """Name of the file, as it stands in val_label.txt."""
        return self.path.name


@dataclass(frozen=True)
class Dataset:
    """The images to replay, in the order of their names, and what had to be left out."""

    samples: tuple[Sample, ...]
    images_without_label: int = 0
    """Images of the folder that are not replayed because the labels file does not name them."""
    labels_without_image: int = 0
    """Lines of the labels file whose image is not in the folder."""

    @property
    def labelled(self) -> bool:
        """Whether an accuracy can be measured."""
        return bool(self.samples) and self.samples[0].label is not None

    def describe(self) -> str:
        """Return one line for people: how many images, and what was left out."""
        line = f"{len(self.samples)} images" + (" with labels" if self.labelled else ", no labels")
        if self.images_without_label:
            line += f"; {self.images_without_label} images without a label left out"
        if self.labels_without_image:
            line += f"; {self.labels_without_image} labels without an image"
        return line


def read_labels(file: Path) -> dict[str, int]:
    """Read ``NAME LABEL`` lines; blank lines are skipped.

    Raises:
        DatasetError: The file cannot be read, or a line is not a name and a class index, or a name comes
            twice with different labels; the message names the file and the line.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"cannot read the labels file {file}: {error}") from error
    labels: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, label = line.rsplit(maxsplit=1) if len(line.split()) > 1 else ("", "")
        name = name.strip()
        if not name or not (label.isascii() and label.isdigit()):
            raise DatasetError(
                f"{file}, line {number}: expected 'NAME LABEL' with a class index from 0, found {line!r}"
            )
        if labels.setdefault(name, int(label)) != int(label):
            raise DatasetError(f"{file}, line {number}: {name} already has the label {labels[name]}")
    return labels


def load_dataset(folder: Path, labels_file: Path | None = None, *, limit: int | None = None) -> Dataset:
    """List the images directly in ``folder``, sorted by name, and join them with their labels.

    With a labels file only the images that it names are replayed; both kinds of leftovers are counted.

    Args:
        folder: Folder of images; other files in it are ignored.
        labels_file: val_label.txt, or None to replay without measuring an accuracy.
        limit: Take only the first ``limit`` images that are left.

    Raises:
        DatasetError: There is no image, or none in common with the labels file.
    """
    try:
        with os.scandir(folder) as entries:
            names = {entry.name for entry in entries if entry.is_file()}
    except OSError as error:
        raise DatasetError(f"cannot list the images folder {folder}: {error}") from error
    images = [folder / name for name in sorted(names)]
    images = [path for path in images if path.suffix.lower() in IMAGE_SUFFIXES]
    if not images:
        raise DatasetError(f"no images in {folder}: expected files ending in {', '.join(sorted(IMAGE_SUFFIXES))}")
    if labels_file is None:
        return Dataset(tuple(Sample(path) for path in images[:limit]))
    labels = read_labels(labels_file)
    samples = [Sample(path, labels[path.name]) for path in images if path.name in labels]
    if not samples:
        raise DatasetError(
            f"none of the {len(images)} images in {folder} is named by the {len(labels)} lines of "
            f"{labels_file}: expected names such as {images[0].name}"
        )
    return Dataset(
        samples=tuple(samples[:limit]),
        images_without_label=len(images) - len(samples),
        labels_without_image=len(labels) - len(samples),
    )
