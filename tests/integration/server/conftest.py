from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.digits_server import KINDS, digits_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.harness import RunningServer


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Where the digits model runs: on the CPU, or compiled for the stand-in NPU in each way that there is."""
    return str(request.param)


@pytest.fixture(scope="module")
def digits(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with the digits model at f32."""
    with digits_server(kind, tmp_path_factory.mktemp("digits")) as server:
        yield server
