"""Files that are there whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL_SUFFIX = ".partial"
"""Ends the name of what is still being written; it is removed or renamed when that is done."""


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Write a file, and let nobody see it before it is done.

    Args:
        path: the file; folders are made where there are none.

    Yields:
        A name beside it to write to. It takes the place of ``path`` at the end of the block; if the block ends by
        an exception, it is removed, and what was at ``path`` stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk has none
        raise
    finally:
        partial.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file's content, whole or not at all; folders are made where there are none.

    Raises:
        OSError: it cannot be written.
    """
    with written_whole(path) as partial:
        partial.write_bytes(content)
