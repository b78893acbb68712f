"""Numbers of hypothesis's examples that follow the profile in use."""

from __future__ import annotations

from hypothesis import settings

USUAL = 100
"""Examples of a test in the profile ``ci`` that names no number."""


def scaled(examples: int) -> int:
    """As many examples as the profile makes of this number in ``ci``."""
    return max(1, examples * settings().max_examples // USUAL)
