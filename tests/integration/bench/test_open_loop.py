"""A server that stops for half a second: an open loop shows it, a closed one hides it."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from repserve_bench.arrivals import Arrivals
from repserve_bench.dataset import Sample
from repserve_bench.load import LoadResult, run_load
from repserve_bench.load_messages import LoadSettings
from repserve_bench.payloads import InputSettings
from support.devices import take_time
from support.fake_server import FakeServer
from support.harness import RunningServer, digit_files

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psutil

    from repserve_bench.tally import Tally
    from repserve_bench.transport.base import TransportName
    from repserve_protos.v1 import classification_pb2 as pb

pytestmark = pytest.mark.serial

PAUSE = 0.5
RATE = 100.0
SECONDS = 3.0


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with RunningServer("--model", "repvgg_digits", "--precision", "f32") as running:
        yield running


class Pause:
    """Stops processes once, when so many requests have been answered."""

    def __init__(self, processes: list[psutil.Process], after: int) -> None:
        self._processes = processes
        self._after = after
        self._timer: threading.Timer | None = None

    def __call__(self, tally: Tally, _elapsed: float) -> None:
        if self._timer is None and tally.requests >= self._after:
            for process in self._processes:
                process.suspend()
            self._timer = threading.Timer(PAUSE, self._go_on)
            self._timer.start()

    def _go_on(self) -> None:
        for process in self._processes:
            process.resume()

    def finish(self) -> None:
        assert self._timer is not None, "the load was over before the server was stopped"
        self._timer.join(10)


def paused_load(server: RunningServer, arrivals: Arrivals | None) -> LoadResult:
    settings = LoadSettings(
        server.address,
        concurrency=1000 if arrivals else 1,
        arrivals=arrivals,
        seconds=SECONDS,
        processes=1,
        warm_up_seconds=0.2,
        retries=False,
        input=InputSettings(model="repvgg_digits"),
    )
    pause = Pause(server.children("frontend"), after=50)
    try:
        result = run_load([Sample(path, None) for path in digit_files()[:50]], settings, pause)
    finally:
        pause.finish()
    assert result.tally.failed == 0, result.tally.failures
    return result


@pytest.mark.parametrize("distribution", ["constant", "poisson"])
def test_a_pause_of_the_server_shows_in_the_p99_of_an_open_loop(server: RunningServer, distribution: str) -> None:
    result = paused_load(server, Arrivals(RATE, distribution, seed=5))  # type: ignore[arg-type]
    tally = result.tally
    assert tally.requests == pytest.approx(RATE * SECONDS, rel=0.25), "all that were due were sent"
    p99 = tally.percentile(99)
    assert p99 is not None
    assert p99 > 0.8 * PAUSE
    late = sum(latency > PAUSE / 2 for latency in tally.latencies)
    assert late >= 0.3 * RATE * PAUSE, "those due in the first half of the pause waited for more than its half"


def test_a_closed_loop_hides_it(server: RunningServer) -> None:
    tally = paused_load(server, None).tally
    assert max(tally.latencies) > 0.8 * PAUSE
    assert sum(latency > PAUSE / 2 for latency in tally.latencies) <= 2, "only what was in flight waited"


def test_a_rate_is_kept_however_long_answers_take() -> None:
    released = threading.Event()
    with FakeServer() as fake:
        answer = fake.script

        def script(request: object) -> object:
            released.wait(10)
            return answer(request)  # type: ignore[arg-type]

        fake.script = script  # type: ignore[assignment]
        settings = LoadSettings(
            fake.address,
            concurrency=1000,
            arrivals=Arrivals(200.0, "constant"),
            requests=40,
            processes=2,
            input=InputSettings(model="fake"),
        )
        outcome: list[LoadResult] = []
        load = threading.Thread(
            target=lambda: outcome.append(run_load([Sample(path, None) for path in digit_files()[:4]], settings))
        )
        load.start()
        try:
            assert fake.wait_for(lambda found: len(found.stream_requests) == 40), (
                "all are sent, though none is answered"
            )
        finally:
            released.set()
            load.join(20)
    assert outcome[0].tally.requests == 40


def test_waiting_for_room_counts_as_latency() -> None:
    started = threading.Event()
    with FakeServer() as fake:
        answer = fake.script

        def script(request: object) -> object:
            if not started.is_set():
                started.set()
                take_time(0.3)
            return answer(request)  # type: ignore[arg-type]

        fake.script = script  # type: ignore[assignment]
        settings = LoadSettings(
            fake.address,
            concurrency=1,
            arrivals=Arrivals(100.0, "constant"),
            requests=20,
            processes=1,
            input=InputSettings(model="fake"),
        )
        tally = run_load([Sample(path, None) for path in digit_files()[:4]], settings).tally
    assert tally.worst_hold > 0.2, "it could not be sent when it was due, and that is reported"
    assert sorted(tally.latencies)[-10] > 0.15, "those that were due meanwhile are timed from then"


def open_load(fake: FakeServer, transport: TransportName, rate: float, **changes: object) -> LoadResult:
    settings = LoadSettings(
        fake.address,
        arrivals=Arrivals(rate, "constant"),
        transport=transport,
        processes=1,
        retries=False,
        input=InputSettings(model="fake"),
    )
    samples = [Sample(path, None) for path in digit_files()[:10]]
    return run_load(samples, replace(settings, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("transport", ["stream", "unary"])
def test_requests_without_an_answer_in_time_are_in_the_percentiles(transport: TransportName) -> None:
    never = threading.Event()
    with FakeServer() as fake:
        answer = fake.script
        slow = {path.stat().st_size for path in digit_files()[:5]}

        def script(request: pb.ClassifyRequest) -> pb.ClassifyResponse:
            if len(request.encoded_image) in slow:
                never.wait(10)
            return answer(request)

        fake.script = script
        result = open_load(fake, transport, 40.0, requests=20, timeout=0.5, concurrency=50)
        never.set()
    tally = result.tally
    assert tally.statuses["DEADLINE_EXCEEDED"] >= 10
    assert tally.percentile(99) == pytest.approx(0.5, abs=0.3)


@pytest.mark.parametrize("transport", ["stream", "unary"])
def test_a_limit_of_requests_in_flight_is_not_blamed_on_the_client(transport: TransportName) -> None:
    with FakeServer() as fake:
        answer = fake.script

        def script(request: pb.ClassifyRequest) -> pb.ClassifyResponse:
            take_time(0.2)
            return answer(request)

        fake.script = script
        result = open_load(fake, transport, 50.0, requests=10, concurrency=2)
    assert result.tally.failed == 0
    assert result.tally.worst_hold > 0.4, "the tenth request waits for eight others, two at a time"
    assert result.tally.worst_send_lag < 0.2


@pytest.mark.parametrize("transport", ["stream", "unary"])
def test_a_request_due_while_another_waited_for_room_is_not_late_by_the_client(transport: TransportName) -> None:
    first = threading.Semaphore(4)
    with FakeServer() as fake:
        answer = fake.script

        def script(request: pb.ClassifyRequest) -> pb.ClassifyResponse:
            if first.acquire(blocking=False):
                take_time(0.6)
            return answer(request)

        fake.script = script
        result = open_load(fake, transport, 100.0, requests=60, concurrency=4)
    assert result.tally.worst_hold > 0.4
    assert result.tally.worst_send_lag < 0.2


@pytest.mark.parametrize("transport", ["stream", "unary"])
def test_the_reported_rate_is_over_the_whole_time(transport: TransportName) -> None:
    with FakeServer() as fake:
        result = open_load(fake, transport, 4.0, seconds=0.6, window_seconds=0.2)
    assert result.tally.requests == 3, "due at 0, 0.25 and 0.5 s"
    assert 0.6 <= result.elapsed < 1.0
    assert len(result.stability.windows) >= 3
