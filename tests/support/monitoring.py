"""A real Prometheus that watches a server and a bench, and the queries of the dashboards and alerts."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import yaml

from support.harness import ROOT, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PROMETHEUS = shutil.which("prometheus")
NO_PROMETHEUS = "Prometheus is not installed (Debian's package prometheus)"
DEPLOY = ROOT / "deploy"
DASHBOARDS = sorted((DEPLOY / "grafana").glob("*.json"))
WINDOW = "5s"
"""What Grafana's $__rate_interval is for the scrapes here: four of them and more."""
START_SECONDS = 30.0
STOP_SECONDS = 20.0


@dataclass(frozen=True)
class Query:
    """A panel's query, with the dashboard's variables at All."""

    dashboard: str
    panel: str
    kind: str
    expression: str
    legend: str


def dashboard_queries(file: Path, window: str = WINDOW) -> Iterator[Query]:
    """Every query of a dashboard, as Grafana sends it with all variables at All."""
    content = json.loads(file.read_text(encoding="utf-8"))
    for panel in content["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"].replace("$__rate_interval", window).replace("$__range", window)
            expression = re.sub(r"\$(job|model|version|instance)\b", ".*", expression)
            assert "$" not in expression, f"an unknown variable in {expression}"
            yield Query(file.stem, panel["title"], panel["type"], expression, target["legendFormat"])


def rules(name: str) -> list[dict[str, Any]]:
    """The rules of a file of deploy/prometheus."""
    content = yaml.safe_load((DEPLOY / "prometheus" / name).read_text(encoding="utf-8"))
    return [rule for group in content["groups"] for rule in group["rules"]]


def alert_subject(expression: str) -> str:
    """What an alert compares with its threshold: the expression up to its last comparison."""
    found = re.fullmatch(r"(.*)\s[<>]=?\s[\d.]+", expression.strip(), re.DOTALL)
    assert found is not None, f"the alert does not end with a comparison with a number: {expression}"
    return found[1]


class RunningPrometheus:
    """Prometheus with the rules of deploy/, scraping targets of this machine twice a second.

    Args:
        targets: host:port of what is scraped, by job.
    """

    def __init__(self, targets: Mapping[str, str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="repserve-prometheus-")
        self._targets = targets
        with socket.create_server(("127.0.0.1", 0)) as found:
            self.address = f"127.0.0.1:{found.getsockname()[1]}"

    def __enter__(self) -> Self:
        folder = Path(self._folder.name)
        for file in ("recording.yml", "alerts.yml"):
            shutil.copy(DEPLOY / "prometheus" / file, folder)
        config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
        config["global"] = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "1s"}
        config["scrape_configs"] = [
            {**job, "static_configs": [{"targets": [self._targets[job["job_name"]]]}]}
            for job in config["scrape_configs"]
            if job["job_name"] in self._targets
        ]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
        assert PROMETHEUS is not None, NO_PROMETHEUS
        self._log = (folder / "log").open("wb")
        self._process = subprocess.Popen(
            [
                PROMETHEUS,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={self.address}",
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        wait_until(self._answers, "Prometheus is ready", START_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_SECONDS)
        self._log.close()
        self._folder.cleanup()

    def query(self, expression: str, time: float | None = None) -> list[dict[str, Any]]:
        """The result of an instant query: its series with their values."""
        parameters = {"query": expression} if time is None else {"query": expression, "time": f"{time:.3f}"}
        return self._ask("query", parameters)

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """The result of a range query: its series with their values over time."""
        parameters = {"query": expression, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:g}"}
        return self._ask("query_range", parameters)

    def _ask(self, verb: str, parameters: Mapping[str, str]) -> list[dict[str, Any]]:
        url = f"http://{self.address}/api/v1/{verb}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=20) as reply:
                content = json.load(reply)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters['query']}: {error.read().decode()}") from error
        found: list[dict[str, Any]] = content["data"]["result"]
        return found

    def _answers(self) -> bool:
        assert self._process.poll() is None, Path(self._log.name).read_text(encoding="utf-8")
        try:
            with urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=5):
                return True
        except OSError:
            return False
