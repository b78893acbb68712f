"""Around every RPC: errors become statuses, and what was answered is counted."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, TypeVar

from repserve_server.errors import RepServeError
from repserve_server.protocols.accounting import finish
from repserve_server.protocols.failures import report
from repserve_server.protocols.grpc.status import grpc_code, trailing_metadata

if TYPE_CHECKING:
    from repserve_server.dataplane.metrics import MethodMetrics
    from repserve_server.dataplane.tracing import RequestSpan, Tracing

_SOONER, _SLACK_SECONDS = 0.99, 0.02
"""A client whose deadline passes cancels its call, and its clock is ahead of ours.

gRPC rounds the time left up when it tells the server, and the request was on its way for a moment.
"""
Context: TypeAlias = Any
"""grpc.aio.ServicerContext, which has no types that hold for both kinds of RPC."""
ServiceT = TypeVar("ServiceT")
RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")


def headers_of(context: Context) -> dict[str, str]:
    """The metadata of an RPC, but for binary entries."""
    metadata = context.invocation_metadata() or ()
    return {key: value for key, value in metadata if isinstance(value, str)}


def begin_span(tracing: Tracing | None, method: str, context: Context) -> RequestSpan | None:
    """The span of an RPC that arrives now; None when it is not traced."""
    return None if tracing is None else tracing.begin(method, headers_of(context))


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
        except Exception as error:  # noqa: BLE001 - reported
            await abort(context, report(error, method.__name__, lambda: headers_of(context)))

    return answer


async def counted(
    metrics: MethodMetrics,
    context: Context,
    work: Awaitable[ResponseT],
    remaining: float | None,
    span: RequestSpan | None = None,
    *,
    own: str = "",
) -> ResponseT:
    """Answer a unary RPC and count it by its status.

    Args:
        metrics: of the RPC.
        context: the RPC.
        work: what makes the answer.
        remaining: seconds until the client's deadline; the library cancels the RPC when it passes.
        span: of the RPC, where it is traced.
        own: the id that the request itself carries, if any.
    """
    started = time.monotonic()
    try:
        response = await work
    except RepServeError as error:
        finish(metrics, span, error.status.name, started, error.rejection)
        await abort(context, report(error, metrics.method, lambda: headers_of(context), own))
    except asyncio.CancelledError:
        seconds = time.monotonic() - started
        late = remaining is not None and seconds >= _SOONER * remaining - _SLACK_SECONDS
        finish(metrics, span, "DEADLINE_EXCEEDED" if late else "CANCELLED", started)
        raise
    except Exception as error:  # noqa: BLE001 - reported
        finish(metrics, span, "INTERNAL", started)
        await abort(context, report(error, metrics.method, lambda: headers_of(context), own))
    finish(metrics, span, "OK", started)
    return response
