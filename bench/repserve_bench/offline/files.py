"""Names and formats of the offline chain's files: outputs are named by the stem of their image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from repserve_bench.offline.errors import OfflineError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

TENSOR_SUFFIX = ".bin"
LITTLE_ENDIAN_FLOAT = np.dtype("<f4")
"""The dtype of tensors and binary scores in files."""


def stem_of(name: str) -> str:
    """Return a file's name up to its first dot, by which the guide's scripts name their outputs."""
    return name.partition(".")[0]


def check_stems(files: Iterable[Path]) -> None:
    """Check that no two files would be written to the same output.

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
