"""The info file: the tensors or images of a run, in the format of the guide's gen_dataset_info.py."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from repserve_bench.offline.errors import BadImageError, OfflineError
from repserve_bench.offline.image_reader import MAX_PIXELS, read_image
from repserve_server.errors import ImageError
from repserve_server.imaging.image_format import open_image

if TYPE_CHECKING:
    from collections.abc import Sequence

SUFFIXES = {"bin": frozenset({".bin"}), "jpg": frozenset({".jpg", ".jpeg"})}
"""For each type that the guide's script knows, the suffixes in lower case of the files it lists."""


@dataclass(frozen=True)
class InfoEntry:
    """One line: a file, and the width and height of its image in pixels."""

    path: str
    width: int
    height: int


def list_files(kind: str, folder: str) -> list[str]:
    """List a folder's files of one type as ``folder/name``, sorted by name.

    The guide's script takes them in the order of Python's glob, which is that of the folder on the disk; sorted, equal
    folders give equal files.

    Args:
        kind: ``bin`` or ``jpg``.
        folder: The folder as the user wrote it, and as it is written to the file: a leading ``./`` stays.

    Raises:
        OfflineError: There is none, or a name holds a line break.
    """
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_file() and _suffix(entry.name) in SUFFIXES[kind])
    except OSError as error:
        raise OfflineError(f"cannot list the folder {folder}: {error.strerror}") from error
    if not names:
        raise OfflineError(f"no files in {folder} end in {' or '.join(sorted(SUFFIXES[kind]))}: expected at least one")
    for name in names:
        if "\n" in name or "\r" in name:
            raise OfflineError(f"{folder} holds {name!r}: a line of an info file cannot hold a line break; rename it")
    prefix = folder if folder.endswith("/") else f"{folder}/"
    return [prefix + name for name in names]


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()


def image_entry(path: str) -> InfoEntry:
    """Return the entry of an image with its own size, read from its header.

    Raises:
        BadImageError: The file cannot be read or is not an image.
    """
    try:
        _, image = open_image(read_image(Path(path)), MAX_PIXELS)
    except ImageError as error:
        raise BadImageError(f"{path}: {error.message}") from error
    return InfoEntry(path, *image.size)


def format_info(entries: Sequence[InfoEntry]) -> bytes:
    """Return the file's content: a line ``INDEX PATH WIDTH HEIGHT`` for each entry, counted from 0."""
    lines = [f"{index} {entry.path} {entry.width} {entry.height}\n" for index, entry in enumerate(entries)]
    return os.fsencode("".join(lines))


def parse_info(content: bytes, name: str) -> list[InfoEntry]:
    """Read an info file's content. A path may hold blanks; empty lines are skipped.

    Args:
        content: The whole file.
        name: The file's name, for errors.

    Raises:
        OfflineError: A line is not ``INDEX PATH WIDTH HEIGHT``, or there is none.
    """
    entries = []
    for number, line in enumerate(os.fsdecode(content).replace("\r\n", "\n").split("\n"), start=1):
        if line.strip():
            entries.append(_parse_line(line, f"{name}, line {number}"))
    if not entries:
        raise OfflineError(f"{name} is empty; expected lines 'INDEX PATH WIDTH HEIGHT'")
    return entries


def _parse_line(line: str, where: str) -> InfoEntry:
    index, _, rest = line.strip(" ").partition(" ")
    path, *size = rest.rsplit(" ", 2)
    if not path or len(size) != 2 or not all(text.isascii() and text.isdigit() for text in (index, *size)):  # noqa: PLR2004
        raise OfflineError(f"{where}: expected 'INDEX PATH WIDTH HEIGHT', found {line!r}")
    return InfoEntry(path, int(size[0]), int(size[1]))
