"""Write docs/metrics.md from the definitions in the code and the rules in deploy/, or check that it is current."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

import repserve_bench.metrics
import repserve_server.dataplane.metrics
import repserve_server.supervisor.metrics
import repserve_server.worker.metrics

if TYPE_CHECKING:
    from collections.abc import Iterable

    from repserve_server.metric_definition import MetricDefinition

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "metrics.md"
RULES = ROOT / "deploy" / "prometheus"
SERVER = (
    *repserve_server.dataplane.metrics.DEFINITIONS,
    *repserve_server.worker.metrics.DEFINITIONS,
    *repserve_server.supervisor.metrics.DEFINITIONS,
)
BENCH = repserve_bench.metrics.DEFINITIONS
HEAD = """\
# Metrics, alerts and dashboards

Made by `make metrics-docs` from the code and from deploy/; change those.

The server shows its metrics at `http://HOST:8002/metrics`, of all its processes together. Counters keep what processes
that died had counted, up to about their last second; the series of a model version go when it is unloaded. Requests
that the gRPC library refuses by itself (a message above 64 MiB) are not counted. The bench shows its own with
`--metrics-port PORT` while it runs, and leaves them on a Pushgateway with `--pushgateway URL`, where those of another
model or machine stay.

Durations are in seconds, in buckets from 0.2 ms to 10 s. `model`, `version` and `device` take the values that the model
repository and `--device` have; no label takes a value from a request.

"""
QUERIES = """\
## Setting up

deploy/prometheus/prometheus.yml scrapes a server and a bench on this machine; replace the targets. It loads the rules
beside it:

```
prometheus --config.file=deploy/prometheus/prometheus.yml --storage.tsdb.path=/tmp/repserve-prometheus
promtool test rules deploy/prometheus/tests.yml
```

Grafana takes deploy/grafana/repserve-server.json and repserve-bench.json as they are: *Dashboards, New, Import*, or by
provisioning from deploy/grafana/provisioning. Both ask for the Prometheus data source at the top of the page.

![The server's dashboard](dashboard-server.png)

![The bench's dashboard](dashboard-bench.png)

The pictures are drawn from the dashboards' own queries, against a Prometheus that watched a real run, by
`make previews`; Grafana draws them in its own style.
"""


def definitions_table(definitions: Iterable[MetricDefinition]) -> str:
    """The metrics as a Markdown table."""
    lines = ["| Metric | Type | Labels | Meaning |", "|---|---|---|---|"]
    for definition in definitions:
        labels = ", ".join(definition.label_names)
        known = "; ".join(
            f"{label}: {_values(values)}" for label, values in definition.labels.items() if _values(values)
        )
        meaning = f"{definition.text} {known[0].upper()}{known[1:]}." if known else definition.text
        lines.append(f"| `{definition.exposed}` | {definition.kind} | {labels} | {meaning} |")
    return "\n".join(lines) + "\n\n"


def _values(values: tuple[str, ...] | str) -> str:
    return values if isinstance(values, str) else ", ".join(f"`{value}`" for value in values)


def rules_table(file: Path, columns: tuple[str, ...]) -> str:
    """A file's rules as a Markdown table."""
    groups: list[dict[str, Any]] = yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for rule in (rule for group in groups for rule in group["rules"]):
        if "record" in rule:
            cells = [f"`{rule['record']}`", f"`{' '.join(rule['expr'].split())}`"]
        else:
            notes = rule["annotations"]
            cells = [f"`{rule['alert']}`", rule["labels"]["severity"], rule.get("for", "at once"), notes["description"]]
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n\n"


def page() -> str:
    """The whole page."""
    return (
        HEAD
        + f"## Of the server\n\n{definitions_table(SERVER)}"
        + f"## Of the bench\n\n{definitions_table(BENCH)}"
        + f"## Alerts\n\n{rules_table(RULES / 'alerts.yml', ('Alert', 'Severity', 'After', 'What it means'))}"
        + f"## Recorded\n\n{rules_table(RULES / 'recording.yml', ('Record', 'Expression'))}"
        + QUERIES
    )


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail if the committed page is not current")
    if not parser.parse_args().check:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    current = PAGE.exists() and PAGE.read_text(encoding="utf-8") == page()
    if not current:
        print("docs/metrics.md is not current; run `make metrics-docs` and commit the result")
    return 0 if current else 1


if __name__ == "__main__":
    sys.exit(main())
