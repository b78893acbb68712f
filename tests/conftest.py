"""How many examples hypothesis tries: ``HYPOTHESIS_PROFILE`` is dev (the default), ci (``make test``) or nightly."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

for name, examples in (("dev", 25), ("ci", 100), ("nightly", 1000)):
    # A busy machine is no failure, however long a single example takes.
    settings.register_profile(
        name, max_examples=examples, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))
