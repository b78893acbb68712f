"""Around every RPC: errors become statuses, and what was answered is counted."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, TypeVar

from repserve_server.errors import InternalError, RepServeError
from repserve_server.protocols.status import grpc_code, trailing_metadata

if TYPE_CHECKING:
    from repserve_server.dataplane.metrics import MethodMetrics

logger = logging.getLogger(__name__)

_SOONER, _SLACK_SECONDS = 0.99, 0.02
"""A client whose deadline passes cancels its call, and its clock is ahead of ours.

gRPC rounds the time left up when it tells the server, and the request was on its way for a moment.
"""
UNKNOWN_FAILURE = InternalError("internal error; the server's log says why")

Context: TypeAlias = Any
"""grpc.aio.ServicerContext, which has no types that hold for both kinds of RPC."""
ServiceT = TypeVar("ServiceT")
RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")


async def abort(context: Context, error: RepServeError) -> NoReturn:
    """End an RPC with an error's status, message and details."""
    await context.abort(grpc_code(error.status), error.message, trailing_metadata(error))
    raise AssertionError("abort always raises")


def answered(
    method: Callable[[ServiceT, RequestT, Context], Awaitable[ResponseT]],
) -> Callable[[ServiceT, RequestT, Context], Awaitable[ResponseT]]:
    """Make a servicer's method end its RPC with the status of the error that it raises."""

    @functools.wraps(method)
    async def answer(service: ServiceT, request: RequestT, context: Context) -> ResponseT:
        try:
            return await method(service, request, context)
        except RepServeError as error:
            await abort(context, error)
        except Exception:
            logger.exception("a request failed in a way the server does not know")
            await abort(context, UNKNOWN_FAILURE)

    return answer


async def counted(
    metrics: MethodMetrics, context: Context, work: Awaitable[ResponseT], remaining: float | None
) -> ResponseT:
    """Answer a unary RPC and count it by its status.

    Args:
        metrics: of the RPC.
        context: the RPC.
        work: what makes the answer.
        remaining: seconds until the client's deadline; the library cancels the RPC when it passes.
    """
    started = time.monotonic()
    try:
        response = await work
    except RepServeError as error:
        metrics.count(error.status.name, time.monotonic() - started)
        await abort(context, error)
    except asyncio.CancelledError:
        seconds = time.monotonic() - started
        late = remaining is not None and seconds >= _SOONER * remaining - _SLACK_SECONDS
        metrics.count("DEADLINE_EXCEEDED" if late else "CANCELLED", seconds)
        raise
    except Exception:
        logger.exception("a request failed in a way the server does not know")
        metrics.count("INTERNAL", time.monotonic() - started)
        await abort(context, UNKNOWN_FAILURE)
    metrics.count("OK", time.monotonic() - started)
    return response
