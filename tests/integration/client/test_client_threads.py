"""What only the blocking client can do: be closed by another thread, and leave threads behind."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from repserve_client import Client, ClientClosedError
from support.fake_server import FakeServer, default_answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from repserve_protos.v1.classification_pb2 import ClassifyRequest, ClassifyResponse

_WAIT = 20.0


def stream_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "repserve-stream"]


@pytest.mark.parametrize(
    "use",
    [lambda client: client.classify(b"x"), lambda client: list(client.classify_stream([b"x"]))],
    ids=["classify", "classify_stream"],
)
def test_closing_ends_what_other_threads_wait_for(use: Callable[[Client], object]) -> None:
    arrived, release = threading.Event(), threading.Event()

    def script(request: ClassifyRequest) -> ClassifyResponse:
        arrived.set()
        release.wait(_WAIT)
        return default_answer(request)

    with FakeServer(script) as server, ThreadPoolExecutor(1) as other:
        client = Client(server.address)
        waiting = other.submit(use, client)
        assert arrived.wait(_WAIT)
        client.close()
        with pytest.raises(ClientClosedError):
            waiting.result(_WAIT)
        release.set()


def test_closing_ends_the_wait_before_another_attempt() -> None:
    with ThreadPoolExecutor(1) as other:
        client = Client("127.0.0.1:1", timeout=60.0)
        waiting = other.submit(client.wait_until_ready, 60.0)
        client.close()
        with pytest.raises(ClientClosedError):
            waiting.result(_WAIT)


@pytest.mark.parametrize("taken", [1, 20])
def test_a_stream_leaves_no_thread_behind(taken: int) -> None:
    with FakeServer() as server, Client(server.address) as client:
        outcomes = client.classify_stream([b"x"] * 20, window=4)
        for _ in range(taken):
            next(outcomes)
        threads = stream_threads()
        assert threads
        del outcomes
        for thread in threads:
            thread.join(_WAIT)
        assert not stream_threads()
        assert server.stream_ended.wait(_WAIT)


def test_many_threads_share_a_client() -> None:
    with FakeServer() as server, Client(server.address, channels=2) as client, ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda number: client.classify(b"x" * (10 + number)), range(40)))
    assert [result.predictions[0].best.index for result in results] == [number % 10 for number in range(40)]
