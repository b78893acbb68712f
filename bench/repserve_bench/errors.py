"""What can go wrong in the bench; every message takes a line or a few and says what to do."""

from __future__ import annotations


class BenchError(Exception):
    """A command cannot go on."""


class LoadError(BenchError):
    """A load could not be made or finished; the message says why."""
