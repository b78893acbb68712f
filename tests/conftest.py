"""What all tests share: how many examples hypothesis tries, and servers that tests only read from.

``HYPOTHESIS_PROFILE`` is dev (the default), ci (``make test``) or nightly.
"""

from __future__ import annotations

import functools
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.harness import RunningServer

for name, examples in (("dev", 25), ("ci", 100), ("nightly", 1000)):
    # A busy machine is no failure, however long a single example takes.
    settings.register_profile(
        name, max_examples=examples, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


@pytest.fixture(scope="session")
def shared_server() -> Iterator[Callable[..., RunningServer]]:
    """Start a server with these arguments, or give the one that runs; for tests that leave it as it was."""
    from support.harness import RunningServer

    with ExitStack() as running:
        yield functools.cache(lambda *arguments: running.enter_context(RunningServer(*arguments)))
