"""Errors of the offline commands, in one line each."""

from __future__ import annotations

from repserve_bench.errors import BenchError


class OfflineError(BenchError):
    """A command failed; the message names the file, what was expected and what to do."""


class BadImageError(OfflineError):
    """One image cannot be used. It is reported and left out; the others are used."""
