from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness import RunningServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def digits() -> Iterator[RunningServer]:
    """A server with the digits model at f32."""
    with RunningServer("--model", "repvgg_digits", "--precision", "f32") as server:
        yield server
