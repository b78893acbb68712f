from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from repserve_client import AsyncClient, Client
from support.connections import Blocking

if TYPE_CHECKING:
    from support.connections import Connect


@pytest.fixture(params=["Client", "AsyncClient"])
def connect(request: pytest.FixtureRequest) -> Connect:
    """Makes a client, with the arguments of `Client`."""
    if request.param == "Client":
        return Client
    return lambda *arguments, **options: cast("Client", Blocking(AsyncClient(*arguments, **options)))
