from __future__ import annotations

import shutil
import socket
import subprocess
import urllib.request
from array import array
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from repserve_bench.accuracy import Accuracy
from repserve_bench.metrics import BenchCollector, MetricsError, exported, push
from repserve_bench.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Iterator


def tally() -> Tally:
    return Tally(
        requests=4,
        images=3,
        latencies=array("d", [0.0001, 0.003, 20.0]),
        statuses=Counter(OK=3, UNAVAILABLE=1),
        retries=Counter(UNAVAILABLE=2),
        accuracy=Accuracy(images=3, top1_hits=2, top5_hits=3),
    )


def collector(*, accuracy: bool = True) -> BenchCollector:
    found = BenchCollector("digits", requests=8, seconds=0.0, accuracy=accuracy)
    found(tally(), 2.0)
    return found


def value(found: BenchCollector, name: str, **labels: str) -> float | None:
    registry = CollectorRegistry()
    registry.register(found)
    return registry.get_sample_value(f"repserve_bench_{name}", {"model": "digits", **labels})


def test_every_count_is_a_metric() -> None:
    found = collector()
    assert value(found, "requests_total", code="OK") == 3
    assert value(found, "requests_total", code="UNAVAILABLE") == 1
    assert value(found, "images_total") == 3
    assert value(found, "retries_total") == 2
    assert value(found, "fps") == 1.5
    assert value(found, "progress_ratio") == 0.5
    assert value(found, "top1_ratio") == pytest.approx(2 / 3)
    assert value(found, "latency_seconds_bucket", le="0.0002") == 1
    assert value(found, "latency_seconds_bucket", le="10.0") == 2
    assert value(found, "latency_seconds_count") == 3
    assert value(found, "latency_seconds_sum") == pytest.approx(20.0031)


def test_requests_that_were_given_up_are_in_the_histogram() -> None:
    found, late = collector(), tally()
    late.give_up(0.0, 8.0)
    found(late, 3.0)
    found(late, 4.0)
    assert value(found, "latency_seconds_count") == 4
    assert value(found, "latency_seconds_bucket", le="10.0") == 3


def test_a_finished_replay_is_wholly_done() -> None:
    found = collector()
    found.finish(tally(), 2.0)
    assert value(found, "progress_ratio") == 1
    assert value(found, "latency_seconds_count") == 3, "what it knew already is counted once"


def test_latencies_count_once_however_often_the_tally_comes() -> None:
    found = collector()
    found(tally(), 3.0)
    assert value(found, "latency_seconds_count") == 3


def test_an_accuracy_that_means_nothing_is_not_shown() -> None:
    assert value(collector(accuracy=False), "top1_ratio") is None


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian's package prometheus)")
def test_promtool_finds_nothing_to_say() -> None:
    registry = CollectorRegistry()
    registry.register(collector())
    done = subprocess.run(
        ["promtool", "check", "metrics"],  # noqa: S607 - found just now
        input=generate_latest(registry),
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_a_port_of_its_own_shows_them_while_it_runs() -> None:
    with exported(collector(), 0) as url:
        assert url is not None
        with urllib.request.urlopen(url, timeout=10) as reply:  # noqa: S310 - our own
            assert b'repserve_bench_fps{model="digits"} 1.5' in reply.read()
        port = int(url.split(":")[2].split("/")[0])
        with pytest.raises(MetricsError, match=f"port {port}"), exported(collector(), port):
            pass


class Pushgateway:
    """Takes what is pushed, or refuses it."""

    def __init__(self, status: int = 200) -> None:
        self.pushed: list[tuple[str, bytes]] = []
        pushed = self.pushed

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                pushed.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Stays quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def pushgateway(request: pytest.FixtureRequest) -> Iterator[Pushgateway]:
    found = Pushgateway(getattr(request, "param", 200))
    thread = Thread(target=found.server.serve_forever)
    thread.start()
    yield found
    found.server.shutdown()
    found.server.server_close()
    thread.join(10)


def test_a_pushgateway_gets_them_under_the_model_and_this_machine(pushgateway: Pushgateway) -> None:
    push(collector(), pushgateway.url)
    path, content = pushgateway.pushed[0]
    assert path == f"/metrics/job/repserve_bench/instance/{socket.gethostname()}/model/digits"
    assert b"repserve_bench_top1_ratio" in content


@pytest.mark.parametrize("pushgateway", [500], indirect=True)
def test_a_pushgateway_that_refuses_is_an_error(pushgateway: Pushgateway) -> None:
    with pytest.raises(MetricsError, match=r"pushing metrics to .* failed"):
        push(collector(), pushgateway.url)


@pytest.mark.parametrize("url", ["http://localhost:abc", "http://127.0.0.1:1"])
def test_an_address_that_is_no_pushgateway_is_an_error(url: str) -> None:
    with pytest.raises(MetricsError, match=r"pushing metrics to .* failed"):
        push(collector(), url)
