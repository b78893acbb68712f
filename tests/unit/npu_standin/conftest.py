from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.standin_harness import Compiled, compile_network
from support.standin_models import standin_loaded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """A model file of each kind."""
    return compile_network(tmp_path_factory.mktemp("models"))


@pytest.fixture(params=["T", "A", "N"])
def generation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Each generation in turn, in this process, with ``tmp_path`` as the state."""
    with standin_loaded(generation=request.param, state=str(tmp_path)):
        yield str(request.param)


@pytest.fixture
def middle(tmp_path: Path) -> Iterator[None]:
    """Generation A, in this process, with ``tmp_path`` as the state."""
    with standin_loaded(generation="A", state=str(tmp_path)):
        yield
