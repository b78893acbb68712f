"""Hypothesis without time limits of single examples: a busy machine is no failure."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("server", deadline=None)
settings.load_profile("server")
