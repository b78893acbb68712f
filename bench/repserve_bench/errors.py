"""Errors of the bench; each message fits on a few lines and gives a remedy."""

from __future__ import annotations


class BenchError(Exception):
    """A command failed."""


class LoadError(BenchError):
    """A load could not be started or finished."""
