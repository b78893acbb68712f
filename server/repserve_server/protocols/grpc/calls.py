"""What every RPC needs: its metadata, and errors turned into statuses."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, TypeVar

from repserve_server.protocols.failures import report
from repserve_server.protocols.grpc.status import grpc_code, trailing_metadata

if TYPE_CHECKING:
    from repserve_server.errors import RepServeError

Context: TypeAlias = Any
"""grpc.aio.ServicerContext, whose types do not fit both kinds of RPC."""
ServiceT = TypeVar("ServiceT")
RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")


def headers_of(context: Context) -> dict[str, str]:
    """Return the metadata of an RPC, without binary entries."""
    metadata = context.invocation_metadata() or ()
    return {key: value for key, value in metadata if isinstance(value, str)}


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
            own = getattr(request, "id", "")
            await abort(context, report(error, method.__name__, lambda: headers_of(context), own))

    return answer
