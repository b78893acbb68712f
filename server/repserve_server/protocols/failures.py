"""The server's own failures: logged with an id of the request that its client gets too."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Callable, Mapping

from repserve_server.errors import InternalError, RepServeError, Status

logger = logging.getLogger(__name__)

REQUEST_ID = "x-request-id"
"""The header, or gRPC metadata, by which a client names a request."""
TRACE_PARENT = "traceparent"
_PRINTABLE = re.compile(r"[\x21-\x7e]{1,128}")
_TRACE = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}.*")


def request_id(headers: Mapping[str, str], own: str = "") -> str:
    """Choose the id of a request in the log.

    Args:
        headers: of the request, in lower case.
        own: the id that the request itself carries, if any.

    Returns:
        The id in the header, followed by the request's own where it has both, since all requests of a stream share a
        header; or the trace that it belongs to; or a new id.
    """
    header = headers.get(REQUEST_ID, "")
    for named in (f"{header}/{own}" if header and own else header or own, header):
        if _PRINTABLE.fullmatch(named):
            return named
    return _trace_id(headers) or uuid.uuid4().hex


def _trace_id(headers: Mapping[str, str]) -> str:
    trace = _TRACE.fullmatch(headers.get(TRACE_PARENT, ""))
    return trace[1] if trace else ""


def report(error: Exception, method: str, headers: Callable[[], Mapping[str, str]], own: str = "") -> RepServeError:
    """Log a failure of the server with the request's id; a client's mistake is not logged.

    Args:
        error: why the request failed.
        method: what was called.
        headers: returns those of the request, in lower case; not called where nothing is logged.
        own: the id that the request itself carries, if any.

    Returns:
        The error to answer with; for a failure of the server, its message names the request.
    """
    if isinstance(error, RepServeError) and error.status is not Status.INTERNAL:
        return error
    found = headers()
    name = request_id(found, own)
    extra = {"request_id": name, "method": method, "code": Status.INTERNAL.name}
    if trace := _trace_id(found):
        extra["trace_id"] = trace
    if isinstance(error, RepServeError):
        logger.error("a request failed: %s", error.message, extra=extra)
        return InternalError(f"{error.message} (request {name})")
    logger.error("a request failed with an unexpected error", exc_info=error, extra=extra)
    return InternalError(f"internal error; look for request {name} in the server's log")
