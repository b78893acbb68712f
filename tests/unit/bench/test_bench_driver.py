from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from repserve_bench.arrivals import Arrivals
from repserve_bench.dataset import Sample
from repserve_bench.driver import Driver
from repserve_bench.load_messages import Job
from repserve_bench.payloads import PayloadError
from repserve_client.errors import ClientError, InternalError, UnavailableError
from repserve_protos.v1 import classification_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable

    from repserve_bench.transport.base import Done, Outcome

ANSWER = pb.ClassifyResponse()


def job(*, concurrency: int, retries: bool = False, arrivals: Arrivals | None = None, timeout: float = 10.0) -> Job:
    return Job(
        address="127.0.0.1:1",
        groups=tuple((Sample(Path(f"{number}.jpg")),) for number in range(4)),
        concurrency=concurrency,
        timeout=timeout,
        arrivals=arrivals,
        retries=retries,
    )


@dataclass
class FakeTransport:
    """Answers each request a turn of the loop later, with what ``answer`` makes of its number among all."""

    answer: Callable[[int], Outcome] = lambda _: ANSWER
    sent: list[int] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0

    async def open(self, connect_timeout: float) -> bool:  # noqa: ARG002
        return True

    def send(self, index: int, time_limit: float, done: Done) -> None:
        assert time_limit > 0
        self.sent.append(index)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        asyncio.get_running_loop().call_soon(self._finish, done, self.answer(len(self.sent) - 1))

    def _finish(self, done: Done, outcome: Outcome) -> None:
        self.in_flight -= 1
        done(outcome)

    async def close(self) -> None:
        """Has nothing to close."""


@dataclass
class Record:
    """See Recorder."""

    answers: list[int] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    retries: list[str] = field(default_factory=list)
    held: list[float] = field(default_factory=list)

    def sent(self, due: float, free: float) -> None:
        self.held.append(free - due)

    def retried(self, code: str) -> None:
        self.retries.append(code)

    def answered(self, index: int, response: pb.ClassifyResponse, due: float, ended: float) -> None:
        assert response is ANSWER
        assert ended >= due
        self.answers.append(index)

    def failed(self, failure: ClientError, due: float) -> None:
        assert due > 0
        self.failures.append(failure.code)


def drive(work: Job, transport: FakeTransport, *, requests: int) -> Record:
    record = Record()
    asyncio.run(Driver(work, transport, record).run(requests=requests, seconds=0.0))
    return record


def test_a_closed_loop_keeps_as_many_in_flight_as_it_may_and_goes_round() -> None:
    transport = FakeTransport()
    record = drive(job(concurrency=3), transport, requests=10)
    assert transport.sent == record.answers == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert transport.most_in_flight == 3


def test_a_failed_request_makes_room_for_the_next() -> None:
    transport = FakeTransport(lambda number: InternalError("broken") if number % 2 else ANSWER)
    record = drive(job(concurrency=2), transport, requests=6)
    assert (len(record.answers), record.failures) == (3, ["INTERNAL"] * 3)


def test_an_unavailable_request_is_retried_and_counts_once() -> None:
    transport = FakeTransport(lambda number: UnavailableError("later") if number == 0 else ANSWER)
    record = drive(job(concurrency=1, retries=True), transport, requests=1)
    assert (transport.sent, record.answers, record.retries, record.failures) == ([0, 0], [0], ["UNAVAILABLE"], [])
    assert len(record.held) == 1, "an attempt is not another request"


def test_without_retries_it_is_a_failure() -> None:
    record = drive(job(concurrency=1), FakeTransport(lambda _: UnavailableError("later")), requests=2)
    assert (record.failures, record.retries) == (["UNAVAILABLE"] * 2, [])


@pytest.mark.parametrize("arrivals", [None, Arrivals(1000.0, "constant")])
def test_an_image_that_cannot_be_read_ends_the_run(arrivals: Arrivals | None) -> None:
    def answer(number: int) -> Outcome:
        if number == 2:
            raise PayloadError("cannot read 2.jpg")
        return ANSWER

    with pytest.raises(PayloadError, match=r"2\.jpg"):
        drive(job(concurrency=2, arrivals=arrivals), FakeTransport(answer), requests=100)


def test_an_open_loop_sends_requests_when_due_up_to_the_limit_in_flight() -> None:
    waiting: list[Done] = []

    class Slow(FakeTransport):
        """Answers two requests only when both were sent."""

        def send(self, index: int, time_limit: float, done: Done) -> None:  # noqa: ARG002
            self.sent.append(index)
            waiting.append(done)
            if len(self.sent) % 2 == 0:
                asyncio.get_running_loop().call_later(0.05, self._release)

        def _release(self) -> None:
            while waiting:
                waiting.pop()(ANSWER)

    transport = Slow()
    record = drive(job(concurrency=2, arrivals=Arrivals(1000.0, "constant")), transport, requests=4)
    assert transport.sent == [0, 1, 2, 3]
    assert record.held[:2] == [0.0, 0.0]
    assert min(record.held[2:]) > 0.02, "the third and the fourth waited for room"


def test_after_stop_nothing_more_is_sent() -> None:
    async def run() -> FakeTransport:
        transport = FakeTransport()
        driver = Driver(job(concurrency=1), transport, Record())

        def answer(number: int) -> Outcome:
            if number == 2:
                driver.stop()
            return ANSWER

        transport.answer = answer
        await driver.run(requests=100, seconds=0.0)
        return transport

    assert len(asyncio.run(run()).sent) == 3
