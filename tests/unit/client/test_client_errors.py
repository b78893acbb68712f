from __future__ import annotations

import pickle

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

import repserve_client
from repserve_client.errors import ClientError, ResourceExhaustedError, from_rpc_error, from_status
from support.fake_server import Refusal

EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


def rpc_error(code: grpc.StatusCode, message: str, details: bytes | None = None) -> grpc.RpcError:
    metadata = grpc.aio.Metadata(("unrelated", "text"))
    if details is not None:
        metadata.add("grpc-status-details-bin", details)
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), metadata, message, None)


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_status_becomes_an_error_with_its_code_and_message(code: grpc.StatusCode) -> None:
    from_stream = from_status(Status(code=code.value[0], message="why"))
    assert (from_stream.code, from_stream.message) == (code.name, "why")
    if code is not grpc.StatusCode.CANCELLED:
        from_call = from_rpc_error(rpc_error(code, "why"))
        assert (type(from_call), str(from_call)) == (type(from_stream), f"{code.name}: why")


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "InvalidArgumentError"),
        (grpc.StatusCode.NOT_FOUND, "NotFoundError"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "DeadlineExceededError"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "ResourceExhaustedError"),
        (grpc.StatusCode.UNAVAILABLE, "UnavailableError"),
        (grpc.StatusCode.INTERNAL, "InternalError"),
        (grpc.StatusCode.UNAUTHENTICATED, "UnauthenticatedError"),
        (grpc.StatusCode.PERMISSION_DENIED, "PermissionDeniedError"),
        (grpc.StatusCode.UNIMPLEMENTED, "ClientError"),
    ],
)
def test_statuses_have_classes_of_their_own(code: grpc.StatusCode, name: str) -> None:
    assert type(from_rpc_error(rpc_error(code, "why"))) is getattr(repserve_client, name)


def test_a_call_the_server_cancelled_counts_as_unavailable() -> None:
    assert isinstance(from_rpc_error(rpc_error(grpc.StatusCode.CANCELLED, "")), repserve_client.UnavailableError)


def test_a_connection_lost_while_sending_is_no_failure_of_the_server() -> None:
    lost = from_rpc_error(rpc_error(grpc.StatusCode.INTERNAL, "Internal error from Core"))
    failed = from_rpc_error(rpc_error(grpc.StatusCode.INTERNAL, "the worker crashed"))
    assert isinstance(lost, repserve_client.UnavailableError)
    assert isinstance(failed, repserve_client.InternalError)


def test_the_retry_hint_is_found_in_calls_and_in_items() -> None:
    status = Refusal(EXHAUSTED, "full", retry_after=1.25).status
    assert from_status(status).retry_after == 1.25
    assert from_rpc_error(rpc_error(EXHAUSTED, "full", status.SerializeToString())).retry_after == 1.25


def test_a_hint_among_other_details_is_found_and_a_negative_one_is_now() -> None:
    other, hint = AnyMessage(), AnyMessage()
    other.Pack(Status(message="unrelated"))
    info = RetryInfo()
    info.retry_delay.seconds = -3
    hint.Pack(info)
    assert from_status(Status(code=8, details=[other, hint])).retry_after == 0.0
    assert from_status(Status(code=8, details=[other])).retry_after is None


def test_details_that_cannot_be_read_are_no_hint() -> None:
    assert from_rpc_error(rpc_error(EXHAUSTED, "full", b"\xff\xff")).retry_after is None
    broken = AnyMessage(type_url="type.googleapis.com/google.rpc.RetryInfo", value=b"\xff\xff")
    assert from_status(Status(code=8, details=[broken])).retry_after is None


def test_a_status_without_a_message_or_with_an_unknown_code_still_has_a_text() -> None:
    error = from_status(Status(code=99))
    assert type(error) is ClientError
    assert str(error) == "CODE_99: the server gave no reason"


def test_errors_survive_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(ResourceExhaustedError("full", retry_after=2.0)))  # noqa: S301
    assert (type(error), error.code, error.message, error.retry_after) == (
        ResourceExhaustedError,
        "RESOURCE_EXHAUSTED",
        "full",
        2.0,
    )
