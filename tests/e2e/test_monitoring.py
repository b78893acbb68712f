"""Dashboards, alerts and recorded figures against a real Prometheus that watches a real server and a bench run."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import grpc
import pytest

from repserve_protos.v1 import classification_pb2 as pb
from support.harness import DIGITS, RunningServer, repserve, wait_until
from support.monitoring import (
    DASHBOARDS,
    NO_PROMETHEUS,
    PROMETHEUS,
    Query,
    RunningPrometheus,
    alert_subject,
    dashboard_queries,
    rules,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(PROMETHEUS is None, reason=NO_PROMETHEUS)

VALIDATION = DIGITS / "validation"
QUERIES = [query for file in DASHBOARDS for query in dashboard_queries(file)]


class Watched:
    """A Prometheus, and a moment when the server and the bench had been running for a while."""

    def __init__(self, prometheus: RunningPrometheus, moment: float) -> None:
        self.prometheus = prometheus
        self.moment = moment


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("bench")
    with socket.create_server(("127.0.0.1", 0)) as found:
        bench_port = found.getsockname()[1]
    with RunningServer("--model", "repvgg_digits", "--precision", "f32") as server:
        targets = {"repserve": server.metrics_url.removeprefix("http://"), "repserve_bench": f"127.0.0.1:{bench_port}"}
        with RunningPrometheus(targets) as prometheus:
            moment = _run_bench(server, bench_port, prometheus, folder)
            yield Watched(prometheus, moment)


def _run_bench(server: RunningServer, port: int, prometheus: RunningPrometheus, folder: Path) -> float:
    bench = subprocess.Popen(
        [
            *(repserve(), "bench", "run", "--server", server.address, "--metrics-port", str(port)),
            *("--images", str(VALIDATION / "images"), "--labels", str(VALIDATION / "val_label.txt")),
            *("--rate", "100", "--seconds", "60", "--output", str(folder / "report.json")),
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        with suppress(grpc.RpcError):
            server.stub().Classify(pb.ClassifyRequest(encoded_image=b"not an image"), timeout=10)
        # Rates need some seconds of samples, of the bench too.
        growing = "count_over_time(repserve_bench_fps[5s]) > 8 and on() repserve:device_busy:ratio_rate5m"
        wait_until(lambda: bool(prometheus.query(growing)), "the bench has been scraped for 5 s", 50)
        return time.time()
    finally:
        bench.terminate()
        bench.wait(30)


def _name(query: Query) -> str:
    return f"{query.dashboard}: {query.panel}, {query.legend}"


@pytest.mark.parametrize("query", QUERIES, ids=_name)
def test_every_query_of_a_panel_returns_data(watched: Watched, query: Query) -> None:
    found = watched.prometheus.query(query.expression, watched.moment)
    assert found, f"no data for {query.expression}"
    assert any(series["value"][1] != "NaN" for series in found), f"nothing but NaN for {query.expression}"


@pytest.mark.parametrize("rule", rules("alerts.yml"), ids=lambda rule: rule["alert"])
def test_what_an_alert_judges_is_there(watched: Watched, rule: dict[str, str]) -> None:
    assert watched.prometheus.query(alert_subject(rule["expr"]), watched.moment)
    firing = watched.prometheus.query(f'ALERTS{{alertname="{rule["alert"]}", alertstate="firing"}}', watched.moment)
    assert not firing, "nothing is wrong with this server"


@pytest.mark.parametrize("rule", rules("recording.yml"), ids=lambda rule: rule["record"])
def test_what_is_recorded_is_there(watched: Watched, rule: dict[str, str]) -> None:
    assert watched.prometheus.query(rule["record"], watched.moment)


def test_the_figures_are_those_of_the_run(watched: Watched) -> None:
    def value(expression: str) -> float:
        return float(watched.prometheus.query(expression, watched.moment)[0]["value"][1])

    assert value("repserve_bench_fps") == pytest.approx(100, rel=0.3)
    assert value("repserve_bench_top1_ratio") > 0.95
    assert value("sum(rate(repserve_images_total[5s]))") == pytest.approx(100, rel=0.3)
    assert value('repserve_rejected_images_total{kind="unknown_format"}') == 1
    assert value("histogram_quantile(0.99, sum by (le) (repserve_request_seconds_bucket))") < 1


def test_variables_find_their_values(watched: Watched) -> None:
    for file in DASHBOARDS:
        for variable in json.loads(file.read_text(encoding="utf-8"))["templating"]["list"]:
            if variable["type"] == "query":
                asked = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"])
                assert asked is not None
                found = watched.prometheus.query(re.sub(r"\$\w+", ".*", asked[1]), watched.moment)
                assert {series["metric"][asked[2]] for series in found}, variable["name"]
