"""Requests that a page of another site has a browser send: refused, unless they only read."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp import web

if TYPE_CHECKING:
    from repserve_server.protocols.http.routing import Handler

_MOST_REFUSED, _LONGEST_ORIGIN = 100, 200
_DEFAULT_PORTS = {"http": 80, "https": 443}

REFUSED: web.AppKey[set[str]] = web.AppKey("refused", set)
"""Origins whose requests were refused, each of which is logged once."""

logger = logging.getLogger(__name__)


@web.middleware
async def refuse_other_sites(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what a page of another site sends: opening it must not unload models.

    Browsers say where a request comes from, in Sec-Fetch-Site or at least in Origin; other clients send neither. This
    does not help against a name that is made to point here (DNS rebinding): that takes a proxy that checks Host.
    """
    if request.method not in ("GET", "HEAD") and not _is_own(request):
        origin = request.headers.get("Origin", "another site")[:_LONGEST_ORIGIN]
        refused = request.app[REFUSED]
        if origin not in refused and len(refused) < _MOST_REFUSED:
            refused.add(origin)
            logger.warning(
                "refusing requests from pages of %s; if that is your proxy for this server, have it pass Host on",
                origin,
            )
        raise web.HTTPForbidden(reason=f"a page of {origin!r} may not send {request.method} to {request.host!r}")
    return await handler(request)


def _is_own(request: web.Request) -> bool:
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site:
        return site in ("same-origin", "none")
    if origin is None:
        return True
    try:
        parts = urlsplit(origin)
        host, port = parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme)
        own = urlsplit(f"{parts.scheme}://{request.headers.get('X-Forwarded-Host', request.host)}")
        return host is not None and (host, port) == (own.hostname, own.port or _DEFAULT_PORTS.get(parts.scheme))
    except ValueError:
        return False
