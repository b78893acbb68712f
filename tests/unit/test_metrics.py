"""What the code defines, exports, draws and documents as metrics is the same."""

from __future__ import annotations

import re
import shutil
import subprocess
from array import array
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, generate_latest

import repserve_bench.metrics
import repserve_server.dataplane.metrics
import repserve_server.supervisor.metrics
import repserve_server.worker.metrics
from repserve_bench.accuracy import Accuracy
from repserve_bench.metrics import BenchCollector
from repserve_bench.tally import Tally
from repserve_server import errors
from repserve_server.channel.messages import CloseReason
from repserve_server.channel.model_info import InstanceInfo, ModelInfo
from repserve_server.dataplane.metrics import METHODS, REJECTED_REQUESTS, REQUESTS, FrontendMetrics
from repserve_server.errors import RepServeError
from repserve_server.protocols.console.page import FIGURES
from repserve_server.protocols.kserve.statistics import SAMPLES
from repserve_server.supervisor.metrics import ServerMetrics
from repserve_server.worker.metrics import WorkerMetrics
from support.harness import ROOT
from support.monitoring import DASHBOARDS, dashboard_queries, rules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from repserve_server.metric_definition import MetricDefinition

SERVER = (
    *repserve_server.dataplane.metrics.DEFINITIONS,
    *repserve_server.worker.metrics.DEFINITIONS,
    *repserve_server.supervisor.metrics.DEFINITIONS,
)
BENCH = repserve_bench.metrics.DEFINITIONS
DEFINITIONS = {definition.exposed: definition for definition in (*SERVER, *BENCH)}
EXPRESSIONS = [
    *(query.expression for file in DASHBOARDS for query in dashboard_queries(file)),
    *(rule["expr"] for name in ("recording.yml", "alerts.yml") for rule in rules(name)),
]
PROMTOOL = shutil.which("promtool")
NO_PROMTOOL = "promtool is not installed (Debian's package prometheus)"


def server_registries() -> list[CollectorRegistry]:
    """What the processes of a server export once everything has happened."""
    instance = InstanceInfo("cpu", "openvino", "f32", simulated=False, batch_seconds={1: 0.01})
    info = ModelInfo("model", "1", "ready", "", instances=(instance,))
    frontend, worker = FrontendMetrics(), WorkerMetrics("model", "1", "cpu")
    model = frontend.for_model("model", "1")
    model.last_inference = 1.0
    frontend.show({("model", "1"): 0}, 0)
    worker.count_batch(1, 4, CloseReason.FULL, 0.1)
    worker.set_figures({"mean": 0.0})
    server = ServerMetrics()
    server.models.infos = [info]
    return [frontend.registry, worker.registry, server.registry]


def bench_registry() -> CollectorRegistry:
    collector = BenchCollector("model", requests=1, seconds=0.0, accuracy=True)
    collector(Tally(1, 1, array("d", [0.1]), statuses=Counter(OK=1), accuracy=Accuracy(1, 1, 1)), 1.0)
    registry = CollectorRegistry()
    registry.register(collector)
    return registry


def exported(*registries: CollectorRegistry) -> dict[str, tuple[str, str, set[str]]]:
    """Type, help and labels of each family, by the name that a query uses."""
    found = {}
    for family in (family for registry in registries for family in registry.collect()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[name] = (family.type, family.documentation, labels)
    return found


def defined(definitions: tuple[MetricDefinition, ...]) -> dict[str, tuple[str, str, set[str]]]:
    return {entry.exposed: (entry.kind, entry.text, set(entry.label_names)) for entry in definitions}


def series(expression: str) -> Iterator[str]:
    """The names of metrics that an expression asks for; what is recorded has a colon after ``repserve``."""
    yield from re.findall(r"\brepserve_[a-z0-9_]+", expression)


def definition_of(name: str) -> MetricDefinition | None:
    found = DEFINITIONS.get(name)
    if found is not None:
        return None if found.kind == "histogram" else found
    found = DEFINITIONS.get(re.sub(r"_(bucket|sum|count)$", "", name))
    return found if found is not None and found.kind == "histogram" else None


def test_the_server_exports_what_is_defined() -> None:
    assert exported(*server_registries()) == defined(SERVER)


def test_the_bench_exports_what_is_defined() -> None:
    assert exported(bench_registry()) == defined(BENCH)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_dashboards_and_rules_ask_for_metrics_that_exist(expression: str) -> None:
    recorded = {rule["record"] for rule in rules("recording.yml")}
    assert [name for name in series(expression) if definition_of(name) is None] == []
    assert set(re.findall(r"\brepserve:[a-z0-9_:]+", expression)) <= recorded
    assert list(series(expression)) or ":" in expression or expression.startswith(("up{", "(up{"))


def test_every_metric_is_on_a_dashboard() -> None:
    asked = [
        definition_of(name) for file in DASHBOARDS for q in dashboard_queries(file) for name in series(q.expression)
    ]
    drawn = {definition.exposed for definition in asked if definition is not None}
    assert set(DEFINITIONS) - drawn == set()


@pytest.mark.parametrize("name", [*FIGURES, *SAMPLES])
def test_the_page_and_the_statistics_read_metrics_that_exist(name: str) -> None:
    assert definition_of(name) is not None


def test_every_metric_is_documented_and_no_other() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    tables = page.partition("## Alerts")[0]
    assert set(re.findall(r"^\| `(repserve_\w+)` \|", tables, re.MULTILINE)) == set(DEFINITIONS)


def test_the_reasons_of_refusals_are_those_of_the_errors() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RepServeError)]
    assert {kind.rejection for kind in kinds if kind.rejection} == set(REJECTED_REQUESTS.labels["reason"])


def test_the_counters_of_a_model_start_at_0_once_it_is_known() -> None:
    metrics = FrontendMetrics()
    metrics.for_model("a", "1")
    value, model = metrics.registry.get_sample_value, {"model": "a", "version": "1"}
    for method in METHODS:
        labels = dict(zip(REQUESTS.label_names, ("a", "1", *method, "UNAVAILABLE"), strict=True))
        assert value("repserve_requests_total", labels) == 0
    assert value("repserve_rejected_requests_total", {**model, "reason": "queue_full"}) == 0
    assert value("repserve_rejected_images_total", {**model, "kind": "corrupt"}) == 0


@pytest.mark.skipif(PROMTOOL is None, reason=NO_PROMTOOL)
def test_promtool_has_nothing_to_say_about_the_metrics() -> None:
    for registry in (*server_registries(), bench_registry()):
        done = subprocess.run(
            [str(PROMTOOL), "check", "metrics"],
            input=generate_latest(registry),
            capture_output=True,
            check=False,
            timeout=30,
        )
        assert (done.returncode, done.stdout + done.stderr) == (0, b"")


@pytest.mark.skipif(PROMTOOL is None, reason=NO_PROMTOOL)
@pytest.mark.parametrize("command", [["check", "config", "prometheus.yml"], ["test", "rules", "tests.yml"]])
def test_promtool_accepts_the_rules(command: list[str]) -> None:
    *verb, file = command
    done = subprocess.run(
        [str(PROMTOOL), *verb, str(ROOT / "deploy" / "prometheus" / file)],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_test() -> None:
    tests = (ROOT / "deploy" / "prometheus" / "tests.yml").read_text(encoding="utf-8")
    assert [rule["alert"] for rule in rules("alerts.yml") if f"alertname: {rule['alert']}\n" not in tests] == []
