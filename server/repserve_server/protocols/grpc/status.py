"""Errors as gRPC statuses, with google.rpc.RetryInfo where it is known when to try again."""

from __future__ import annotations

import math

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from repserve_server.errors import RepServeError, Status

STATUS_DETAILS_KEY = "grpc-status-details-bin"
GRPC_CODES = {code.value[0]: code for code in grpc.StatusCode}


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
