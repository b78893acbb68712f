"""Measurements one after the other, of which those before Ctrl-C or an error are kept."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from repserve_bench.errors import BenchError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sized


@dataclass(kw_only=True)
class Series:
    """Whether a series of measurements ended before its time."""

    interrupted: bool = False
    error: str = ""
    """Why the measurements that are missing could not be made."""

    @contextlib.contextmanager
    def kept(self, measured: Sized) -> Iterator[None]:
        """Let Ctrl-C or an error end the block and keep what was measured; where nothing was, raise it."""
        try:
            yield
        except (BenchError, KeyboardInterrupt) as error:
            if not measured:
                raise
            self.interrupted = isinstance(error, KeyboardInterrupt)
            self.error = str(error)
