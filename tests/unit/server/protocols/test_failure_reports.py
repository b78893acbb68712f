from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repserve_server.errors import InferenceError, InvalidRequestError, QueueFullError, Status
from repserve_server.protocols.failures import report, request_id

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACE_PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("headers", "own", "expected"),
    [
        ({"x-request-id": "order-17", "traceparent": TRACE_PARENT}, "mine", "order-17/mine"),
        ({"x-request-id": "order-17"}, "", "order-17"),
        ({"x-request-id": "order-17"}, "x" * 128, "order-17"),
        ({"traceparent": TRACE_PARENT}, "mine", "mine"),
        ({"traceparent": TRACE_PARENT}, "", TRACE),
    ],
)
def test_the_client_names_a_request(headers: Mapping[str, str], own: str, expected: str) -> None:
    assert request_id(headers, own) == expected


@given(named=st.text())
def test_what_a_client_calls_a_request_cannot_forge_a_line_of_the_log(named: str) -> None:
    found = request_id({"x-request-id": named})
    assert found == named or len(found) == 32
    assert all(" " < letter < "\x7f" for letter in found)
    assert 1 <= len(found) <= 128


def test_requests_without_a_name_get_different_ones() -> None:
    assert request_id({}) != request_id({})


def never() -> Mapping[str, str]:
    raise AssertionError("the headers are read only where something is logged")


@pytest.mark.parametrize("error", [InvalidRequestError("bad"), QueueFullError("full")])
def test_what_is_not_the_servers_fault_is_not_logged(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    assert report(error, "Classify", never) is error
    assert not caplog.records


def test_a_failure_of_the_server_is_logged_with_its_id(caplog: pytest.LogCaptureFixture) -> None:
    error = InferenceError("the device failed")
    answer = report(error, "Classify", lambda: {"x-request-id": "order-17", "traceparent": TRACE_PARENT}, "3")
    assert answer.status is Status.INTERNAL
    assert answer.message == "the device failed (request order-17/3)"
    (record,) = caplog.records
    assert record.getMessage() == "a request failed: the device failed"
    assert record.__dict__["request_id"] == "order-17/3"
    assert record.__dict__["trace_id"] == TRACE
    assert record.exc_info is None


def test_an_unknown_failure_is_logged_with_its_traceback_and_only_its_id_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer = report(ZeroDivisionError("secret"), "Classify", lambda: {"x-request-id": "order-17"})
    assert answer.status is Status.INTERNAL
    assert "order-17" in answer.message
    assert "secret" not in answer.message
    assert "ZeroDivisionError: secret" in caplog.text
