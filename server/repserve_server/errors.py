"""Every error that a request can end with, and the one table from errors to gRPC and HTTP statuses."""

from __future__ import annotations

from enum import Enum


class Status(Enum):
    """An outcome on the wire: the number of the gRPC status code, and the equivalent HTTP status."""

    INVALID_ARGUMENT = (3, 400)
    DEADLINE_EXCEEDED = (4, 504)
    NOT_FOUND = (5, 404)
    ALREADY_EXISTS = (6, 409)
    RESOURCE_EXHAUSTED = (8, 429)
    FAILED_PRECONDITION = (9, 400)
    INTERNAL = (13, 500)
    UNAVAILABLE = (14, 503)

    @property
    def grpc_code(self) -> int:
        """The number of the gRPC status code."""
        return self.value[0]

    @property
    def http_status(self) -> int:
        """The HTTP status code."""
        return self.value[1]


class RepServeError(Exception):
    """An error with a status; its message names what was wrong, what was expected and what to do."""

    status: Status = Status.INTERNAL
    rejection: str = ""
    """One word for metrics where the request is refused without work on the device; empty otherwise."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after
        """Seconds after which trying again makes sense, where that is known."""

    @property
    def http_status(self) -> int:
        """The HTTP status code: that of ``status``, unless a subclass has a more exact one."""
        return self.status.http_status


class InvalidRequestError(RepServeError):
    """The request can never succeed as it is."""

    status = Status.INVALID_ARGUMENT
    rejection = "invalid"


class RequestTooLargeError(InvalidRequestError):
    """The request is longer than any may be."""

    http_status = 413


class ImageError(InvalidRequestError):
    """An image that cannot be decoded or is not accepted.

    ``kind`` is one word for metrics: ``empty``, ``unknown_format``, ``unsupported_format``, ``animated``,
    ``corrupt`` or ``too_large``.
    """

    rejection = "image"

    def __init__(self, message: str, *, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class ModelNotFoundError(RepServeError):
    """The repository has no such model or version."""

    status = Status.NOT_FOUND
    rejection = "unknown_model"


class ModelUnavailableError(RepServeError):
    """The model exists but cannot answer now: it is loading, or its workers keep failing."""

    status = Status.UNAVAILABLE
    rejection = "not_ready"


class DrainingError(RepServeError):
    """The server is shutting down and takes no new requests."""

    status = Status.UNAVAILABLE
    rejection = "draining"


class ServerUnavailableError(RepServeError):
    """A part of the server that is needed for the answer is unavailable now."""

    status = Status.UNAVAILABLE


class NotAllowedError(RepServeError):
    """The server's state or settings do not allow the request; trying again will not help."""

    status = Status.FAILED_PRECONDITION


class AlreadyExistsError(RepServeError):
    """Something of that name exists already."""

    status = Status.ALREADY_EXISTS


class RepositoryError(RepServeError):
    """A model's folder that cannot be served as it is; the message names file, key and what was expected."""

    status = Status.FAILED_PRECONDITION


class ModelLoadError(RepServeError):
    """A model cannot be loaded; what was served before still is."""

    status = Status.FAILED_PRECONDITION


class InternalError(RepServeError):
    """An unexpected error of the server."""

    status = Status.INTERNAL


class RelayedError(RepServeError):
    """An error that another process of the server raised."""

    def __init__(self, status: Status, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.status = status


class QueueFullError(RepServeError):
    """The model's queue is full."""

    status = Status.RESOURCE_EXHAUSTED
    rejection = "queue_full"


class UnmeetableDeadlineError(QueueFullError):
    """The queued images take longer than the request allows."""

    rejection = "deadline"


class DeadlineError(RepServeError):
    """The request's deadline passed before it was answered."""

    status = Status.DEADLINE_EXCEEDED


class InferenceError(RepServeError):
    """The device or the model failed on this image."""

    status = Status.INTERNAL
