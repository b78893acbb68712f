"""Errors as gRPC statuses, with google.rpc.RetryInfo where it is known when to try again."""

from __future__ import annotations

import functools
import math
from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeVar

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from repserve_server.errors import RepServeError, Status
from repserve_server.protocols.failures import report
from repserve_server.protocols.grpc.context import Context, headers_of

STATUS_DETAILS_KEY = "grpc-status-details-bin"
GRPC_CODES = {code.value[0]: code for code in grpc.StatusCode}
ServiceT = TypeVar("ServiceT")
RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")


def to_rpc_status(error: RepServeError) -> status_pb2.Status:
    """Write an error as a google.rpc.Status message."""
    status = status_pb2.Status(code=error.status.grpc_code, message=error.message)
    if error.retry_after is not None:
        nanoseconds = math.ceil(error.retry_after * 1e9)
        delay = Duration(seconds=nanoseconds // 10**9, nanos=nanoseconds % 10**9)
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def trailing_metadata(error: RepServeError) -> tuple[tuple[str, bytes], ...]:
    """Return the metadata that carries an error's details beside the status code and message."""
    if error.retry_after is None:
        return ()
    return ((STATUS_DETAILS_KEY, to_rpc_status(error).SerializeToString()),)


def grpc_code(status: Status) -> grpc.StatusCode:
    """Return the gRPC library's code for a status."""
    return GRPC_CODES[status.grpc_code]


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
