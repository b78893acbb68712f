"""The client's errors, made from gRPC statuses of calls and of items on a stream."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

_LOST_WHILE_SENDING = "Internal error from Core"
_STATUS_DETAILS_KEY = "grpc-status-details-bin"


class ClientError(Exception):
    """A request that ended without a classification.

    Raised by calls; returned in place of a result by streams. A status without a class of its own is this class, with
    the status in `code`.
    """

    status: ClassVar[grpc.StatusCode] = grpc.StatusCode.UNKNOWN

    def __init__(self, message: str, *, code: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.status.name
        """Name of the gRPC status code, such as ``INVALID_ARGUMENT``."""
        self.retry_after = retry_after
        """Seconds after which the server expects to accept the request; None if it sent none."""

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class InvalidArgumentError(ClientError):
    """The request can never succeed as it is: an unreadable image, wrong pixels, a bad option."""

    status = grpc.StatusCode.INVALID_ARGUMENT


class NotFoundError(ClientError):
    """The server has no such model or version."""

    status = grpc.StatusCode.NOT_FOUND


class DeadlineExceededError(ClientError):
    """The request's deadline has passed."""

    status = grpc.StatusCode.DEADLINE_EXCEEDED


class ResourceExhaustedError(ClientError):
    """The server has more work than it can take, or a message is larger than it accepts."""

    status = grpc.StatusCode.RESOURCE_EXHAUSTED


class UnavailableError(ClientError):
    """The server cannot be reached, is stopping, or is still loading the model."""

    status = grpc.StatusCode.UNAVAILABLE


class InternalError(ClientError):
    """The server failed on this request."""

    status = grpc.StatusCode.INTERNAL


class UnauthenticatedError(ClientError):
    """The server requires credentials that the request did not carry."""

    status = grpc.StatusCode.UNAUTHENTICATED


class PermissionDeniedError(ClientError):
    """The credentials do not allow this request."""

    status = grpc.StatusCode.PERMISSION_DENIED


class ClientClosedError(ClientError):
    """The client was closed before or while the request was made."""

    status = grpc.StatusCode.CANCELLED


_CLASSES = {kind.status.name: kind for kind in ClientError.__subclasses__() if kind is not ClientClosedError}
_CODE_NAMES: dict[int, str] = {code.value[0]: code.name for code in grpc.StatusCode}


def from_rpc_error(error: grpc.RpcError) -> ClientError:
    """Return the client's error for a failed call or a broken stream, with the server's retry hint if it sent one.

    A call that the server cancelled, as it does when it is stopped at once, counts as unavailable; so does a
    connection that was lost while a request was being sent, which grpc.aio reports as INTERNAL.
    """
    code, message = error.code().name, error.details() or ""
    if code == grpc.StatusCode.CANCELLED.name:
        code, message = grpc.StatusCode.UNAVAILABLE.name, f"the server cancelled the call: {message}"
    elif code == grpc.StatusCode.INTERNAL.name and message == _LOST_WHILE_SENDING:
        code, message = grpc.StatusCode.UNAVAILABLE.name, "the connection was lost while a request was sent"
    return _make(code, message, _retry_after_in(error.trailing_metadata() or ()))


def from_status(status: Status) -> ClientError:
    """Return the client's error for the status of one item on a stream."""
    return _make(_CODE_NAMES.get(status.code, f"CODE_{status.code}"), status.message, _retry_after(status))


def _make(code: str, message: str, retry_after: float | None) -> ClientError:
    kind = _CLASSES.get(code, ClientError)
    return kind(message or "the server gave no reason", code=code, retry_after=retry_after)


def _retry_after_in(metadata: Iterable[object]) -> float | None:
    for entry in metadata:
        # Entries are pairs; the two gRPC interfaces have a type of their own each.
        key, value = cast("tuple[str, str | bytes]", entry)
        if key == _STATUS_DETAILS_KEY and isinstance(value, bytes):
            try:
                return _retry_after(Status.FromString(value))
            except DecodeError:
                return None
    return None


def _retry_after(status: Status) -> float | None:
    for detail in status.details:
        info = RetryInfo()
        try:
            if detail.Unpack(info):
                seconds: float = info.retry_delay.seconds + info.retry_delay.nanos * 1e-9
                return max(seconds, 0.0)
        except DecodeError:
            return None
    return None
