from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.digits_server import CPU, DIGITS_ON_CPU, KINDS, digits_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.harness import RunningServer


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Where the digits model runs: on the CPU, or compiled for the stand-in NPU in each way that there is."""
    return str(request.param)


@pytest.fixture(scope="module")
def digits(
    kind: str, tmp_path_factory: pytest.TempPathFactory, shared_server: Callable[..., RunningServer]
) -> Iterator[RunningServer]:
    """A server with the digits model at f32."""
    if kind == CPU:
        yield shared_server(*DIGITS_ON_CPU)
        return
    with digits_server(kind, tmp_path_factory.mktemp("digits")) as server:
        yield server
