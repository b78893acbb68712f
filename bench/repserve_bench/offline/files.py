"""Names and formats of the offline chain's files: an image's stem names all that is made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from repserve_bench.offline.errors import OfflineError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

TENSOR_SUFFIX = ".bin"
LITTLE_ENDIAN_FLOAT = np.dtype("<f4")
"""How tensors and binary scores lie in their files."""


def stem_of(name: str) -> str:
    """Return a file's name up to its first dot, as the guide's scripts name what they make of it."""
    return name.partition(".")[0]


def check_stems(files: Iterable[Path]) -> None:
    """Make sure that what is made of one file does not overwrite what is made of another.

    Raises:
        OfflineError: Two files have the same stem, or one has none.
    """
    seen: dict[str, Path] = {}
    for file in files:
        stem = stem_of(file.name)
        if not stem:
            raise OfflineError(
                f"{file}: expected a name with something before its first dot, which names the output; rename it or "
                "move it away"
            )
        first = seen.setdefault(stem, file)
        if first is not file:
            raise OfflineError(
                f"{first} and {file} have the same name up to the first dot, {stem!r}, so that one's output would "
                "overwrite the other's; rename one of them"
            )
