"""Errors on the wire: every class has a gRPC code and an HTTP status, and says when to try again."""

from __future__ import annotations

import http

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from repserve_server import errors
from repserve_server.backends.base import BackendError
from repserve_server.errors import ImageError, QueueFullError, RepServeError, Status
from repserve_server.protocols.grpc.status import STATUS_DETAILS_KEY, grpc_code, to_rpc_status, trailing_metadata

CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, RepServeError)] + [
    BackendError
]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_has_a_status_of_grpc_and_of_http(kind: type[RepServeError]) -> None:
    code = grpc_code(kind.status)
    assert isinstance(code, grpc.StatusCode)
    assert code.name == kind.status.name
    assert code.value[0] == kind.status.grpc_code
    assert 400 <= http.HTTPStatus(kind.status.http_status) <= 599


def test_no_two_statuses_share_a_code() -> None:
    assert len({status.grpc_code for status in Status}) == len(Status)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.InvalidRequestError, grpc.StatusCode.INVALID_ARGUMENT),
        (errors.ModelNotFoundError, grpc.StatusCode.NOT_FOUND),
        (errors.ModelUnavailableError, grpc.StatusCode.UNAVAILABLE),
        (errors.DrainingError, grpc.StatusCode.UNAVAILABLE),
        (errors.QueueFullError, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (errors.DeadlineError, grpc.StatusCode.DEADLINE_EXCEEDED),
        (errors.InferenceError, grpc.StatusCode.INTERNAL),
    ],
)
def test_errors_have_the_codes_that_clients_rely_on(kind: type[RepServeError], code: grpc.StatusCode) -> None:
    assert grpc_code(kind.status) is code


def test_an_image_error_is_an_invalid_argument_with_a_kind() -> None:
    error = ImageError("the file is empty", kind="empty")
    assert (error.status, error.kind, error.message) == (Status.INVALID_ARGUMENT, "empty", "the file is empty")


@given(st.floats(0.0, 1e6))
def test_the_delay_in_the_trailing_metadata_is_the_one_meant(seconds: float) -> None:
    ((key, value),) = trailing_metadata(QueueFullError("full", retry_after=seconds))
    assert key == STATUS_DETAILS_KEY
    status = status_pb2.Status.FromString(value)
    assert (status.code, status.message) == (8, "full")
    retry = error_details_pb2.RetryInfo()
    (detail,) = status.details
    assert detail.Unpack(retry)
    delay = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    assert delay == pytest.approx(seconds, abs=1e-6)
    assert 0 <= retry.retry_delay.nanos < 10**9


def test_without_a_known_delay_nothing_is_promised() -> None:
    error = errors.InferenceError("broken")
    assert trailing_metadata(error) == ()
    assert to_rpc_status(error) == status_pb2.Status(code=13, message="broken")
