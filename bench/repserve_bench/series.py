"""Measurements in a row; those made before Ctrl-C or an error are kept."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from repserve_bench.errors import BenchError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sized


@dataclass(kw_only=True)
class Series:
    """A series of measurements, which may end early."""

    interrupted: bool = False
    error: str = ""
    """Why the series ended early; empty if it did not, or for Ctrl-C."""

    @contextlib.contextmanager
    def kept(self, measured: Sized) -> Iterator[None]:
        """Let Ctrl-C or an error end the block; raise it only if nothing was measured."""
        try:
            yield
        except (BenchError, KeyboardInterrupt) as error:
            if not measured:
                raise
            self.interrupted = isinstance(error, KeyboardInterrupt)
            self.error = str(error)
