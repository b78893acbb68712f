from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.fake_server import FakeServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """A server that answers by its script."""
    with FakeServer() as fake:
        yield fake
