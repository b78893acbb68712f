"""What the HTTP server and its routes agree on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from aiohttp import web

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
Route: TypeAlias = tuple[str, str, Handler]
"""A method, a path and what answers there."""
OPENAPI_PATH = "/openapi.json"
OWN_ID = "own_id"
"""Where a request keeps the id that its body carries, to be named in the log if it fails."""


def headers_of(request: web.Request) -> dict[str, str]:
    """Return the headers of a request, their names in lower case."""
    return {name.lower(): value for name, value in request.headers.items()}
