from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from integration.client.connections import Blocking
from repserve_client import AsyncClient, Client

if TYPE_CHECKING:
    from integration.client.connections import Connect


@pytest.fixture(params=["Client", "AsyncClient"])
def connect(request: pytest.FixtureRequest) -> Connect:
    """Makes a client, with the arguments of `Client`."""
    if request.param == "Client":
        return Client
    return lambda *arguments, **options: cast("Client", Blocking(AsyncClient(*arguments, **options)))
