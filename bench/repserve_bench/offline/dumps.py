"""The dump folder of the guide's benchmark tool: one file of class scores for each image."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from repserve_bench.offline.errors import OfflineError
from repserve_bench.offline.files import LITTLE_ENDIAN_FLOAT, stem_of
from repserve_server.files import PARTIAL_SUFFIX, write_whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

TEXT, BINARY = ".txt", ".bin"
FIRST_OUTPUT = 1
"""The tool counts a model's outputs from 1."""


def simulated_note(folder: Path) -> Path:
    """Return the file beside a dump folder that marks its scores as those of a simulated device.

    It cannot be in the folder: the guide's script reads every file there as a dump.
    """
    whole = folder.resolve()
    return whole.parent / f"{whole.name}.SIMULATED"


class DumpWriter:
    """Writes the dumps of one run, which take the place of an earlier run's when all are written.

    A run that fails changes nothing.

    Args:
        folder: Where to, such as ``result/dumpOutput_device0``, which may hold dumps and nothing else.
        binary: Whether to write raw little-endian float32 instead of text.
        simulated: Name of the simulated device, if it is one; a note beside the folder is written then.
    """

    def __init__(self, folder: Path, *, binary: bool = False, simulated: str = "") -> None:
        self.folder, self._binary, self._simulated = folder, binary, simulated
        self._partial = folder.with_name(folder.name + PARTIAL_SUFFIX)
        self._lock = -1

    def __enter__(self) -> Self:
        """Make room.

        Raises:
            OfflineError: The folder holds something other than dumps, or another run writes there.
            OSError: It cannot be made.
        """
        check_dumps(self.folder)
        check_dumps(self._partial)
        self._partial.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self._partial, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise OfflineError(
                f"another run writes to {self.folder} now: wait for its end, or choose another place with --output"
            ) from error
        for left in self._partial.iterdir():  # by a run that was killed
            left.unlink()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._put_in_place()
            else:
                shutil.rmtree(self._partial, ignore_errors=True)
        finally:
            os.close(self._lock)

    def _put_in_place(self) -> None:
        note = simulated_note(self.folder)
        if self._simulated:
            write_whole(note, f"{self._simulated} is simulated: its scores are made up.\n".encode())
        remove_dumps(self.folder)
        self._partial.rename(self.folder)
        if not self._simulated:
            note.unlink(missing_ok=True)

    def write(self, stem: str, scores: NDArray[np.float32]) -> None:
        """Write the scores of one image, [classes].

        Raises:
            OSError: The file cannot be written.
        """
        name = f"{stem}_{FIRST_OUTPUT}{BINARY if self._binary else TEXT}"
        content = scores.astype(LITTLE_ENDIAN_FLOAT).tobytes() if self._binary else format_scores(scores)
        (self._partial / name).write_bytes(content)


def format_scores(scores: NDArray[np.float32]) -> bytes:
    """Return scores as one line of text, single blanks between; nine digits distinguish any two float32."""
    return (" ".join(["%.9g"] * len(scores)) % tuple(scores.tolist()) + "\n").encode("ascii")


def remove_dumps(folder: Path) -> None:
    """Remove the dumps of an earlier run; do nothing if there is no folder.

    Raises:
        OfflineError: It holds something other than dumps; then nothing is removed.
        OSError: It cannot be removed.
    """
    check_dumps(folder)
    if folder.exists():
        shutil.rmtree(folder)


def check_dumps(folder: Path) -> None:
    """Check that a folder, if it exists, holds dumps and nothing else.

    Raises:
        OfflineError: It holds something other than dumps.
    """
    if not folder.exists() and not folder.is_symlink():
        return
    if folder.is_symlink() or not folder.is_dir():
        raise OfflineError(f"{folder} is not a folder; move it away, or choose another place with --output")
    with os.scandir(folder) as entries:
        strangers = sorted(e.name for e in entries if not (e.is_file(follow_symlinks=False) and _is_dump(e.name)))
    if strangers:
        raise OfflineError(
            f"{folder} would be replaced, but holds {strangers[0]!r}, which is not a dump; nothing was removed: move "
            "it away, or choose another place with --output"
        )


def _is_dump(name: str) -> bool:
    image, _, output = stem_of(name).rpartition("_")
    return image != "" and output.isascii() and output.isdigit() and name.endswith((TEXT, BINARY))


def list_dumps(folder: Path) -> dict[str, Path]:
    """List the dumps of a folder by the stem of their image, sorted by name.

    An image's stem is the dump's name up to its first dot, less the output's number at its end.

    Raises:
        OfflineError: There is none, a file is not a dump, or an image has two.
    """
    try:
        files = sorted(folder.iterdir())
    except OSError as error:
        raise OfflineError(f"cannot list the dump folder {folder}: {error.strerror}") from error
    dumps: dict[str, Path] = {}
    for file in files:
        if not _is_dump(file.name):
            raise OfflineError(f"{file}: expected only dumps here, such as IMAGE_1.txt or IMAGE_1.bin; move it away")
        image = stem_of(file.name).rpartition("_")[0]
        if image in dumps:
            raise OfflineError(f"{dumps[image]} and {file} are both of the image {image}; expected one dump per image")
        dumps[image] = file
    if not dumps:
        raise OfflineError(f"{folder} is empty; expected a dump for each image, such as IMAGE_1.txt")
    return dumps


def read_dump(file: Path) -> NDArray[np.float64]:
    """Read the scores of one image, [classes]; of a text file the first line.

    Raises:
        OfflineError: The file cannot be read, is empty or is damaged.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise OfflineError(f"cannot read the dump {file}: {error.strerror}") from error
    if file.suffix == BINARY:
        if not content or len(content) % LITTLE_ENDIAN_FLOAT.itemsize:
            raise OfflineError(f"{file} has {len(content)} bytes; expected float32 scores, four bytes each")
        return np.frombuffer(content, LITTLE_ENDIAN_FLOAT).astype(np.float64)
    values = content.partition(b"\n")[0].split()
    if not values:
        raise OfflineError(f"{file}: its first line is empty; expected class scores separated by spaces")
    try:
        return np.array([float(value) for value in values])
    except ValueError as error:
        raise OfflineError(f"{file} is damaged: expected class scores separated by spaces ({error})") from error
