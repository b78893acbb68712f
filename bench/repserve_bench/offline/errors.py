"""What can go wrong in the offline commands, in one line each."""

from __future__ import annotations

from repserve_bench.errors import BenchError


class OfflineError(BenchError):
    """A command cannot go on; the message names the file, what was expected and what to do."""


class BadImageError(OfflineError):
    """One image cannot be used. The others can: it is named, counted and left out."""
