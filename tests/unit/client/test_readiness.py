from __future__ import annotations

import pytest

from repserve_client.errors import DeadlineExceededError, InternalError, UnavailableError
from repserve_client.readiness import ReadinessWait
from repserve_client.results import ModelInfo
from repserve_protos.v1.classification_pb2 import Model


def info(name: str, *, ready: bool, reason: str = "") -> ModelInfo:
    return ModelInfo.from_message(Model(name=name, version="1", ready=ready, reason=reason))


def wait(model: str = "", timeout: float = 10.0, times: tuple[float, ...] = (0.0, 0.0)) -> ReadinessWait:
    clock = iter(times)
    return ReadinessWait(model, timeout, lambda: next(clock))


def test_any_ready_model_will_do_when_none_is_named() -> None:
    assert wait().ready([info("a", ready=False), info("b", ready=True)])
    assert not wait().ready([info("a", ready=False)])
    assert not wait().ready([])


def test_a_named_model_must_be_ready_itself() -> None:
    models = [info("a", ready=False), info("b", ready=True)]
    assert wait("b").ready(models)
    assert not wait("a").ready(models)
    assert not wait("c").ready(models)


def test_one_call_takes_a_part_of_a_long_wait_and_no_more_than_is_left() -> None:
    assert wait(timeout=100.0).begin() == 5.0
    assert wait(timeout=10.0, times=(0.0, 8.0)).begin() == 2.0


@pytest.mark.parametrize(
    ("model", "models", "reason"),
    [
        ("", [], "it has no models"),
        ("c", [info("a", ready=True)], "it has no model c"),
        ("a", [info("a", ready=False, reason="it is warming up")], "model a is not ready: it is warming up"),
        ("a", [info("a", ready=False)], "no reason given"),
    ],
)
def test_the_end_of_the_wait_says_what_was_missing(model: str, models: list[ModelInfo], reason: str) -> None:
    waiting = wait(model, times=(0.0, 10.0))
    assert not waiting.ready(models)
    with pytest.raises(DeadlineExceededError, match=f"not ready after 10 s: .*{reason}"):
        waiting.begin()


def test_an_absent_server_is_waited_for_and_a_wrong_one_is_not() -> None:
    waiting = wait(times=(0.0, 10.0))
    waiting.failed(UnavailableError("connection refused"))
    with pytest.raises(DeadlineExceededError, match="connection refused"):
        waiting.begin()
    with pytest.raises(InternalError):
        waiting.failed(InternalError("no such method"))
