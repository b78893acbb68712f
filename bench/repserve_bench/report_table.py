"""The table that ends a replay, for a terminal and as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from repserve_bench.served_model import describe_instances

if TYPE_CHECKING:
    from repserve_bench.report import Report

SHOWN_PERCENTILES = (50, 90, 99, 99.9, 100)


def report_title(report: Report) -> str:
    """Returns what was measured, in a line; simulated devices are marked."""
    title = f"{report.model.name} at {report.settings.address}"
    if report.simulated:
        title = f"SIMULATED: {title}"
    return title + (" (interrupted)" if report.result.interrupted else "")


def rich_report(report: Report) -> Table:
    """Returns the table for a terminal."""
    table = Table(title=report_title(report), show_header=False, title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in report_rows(report):
        table.add_row(*row)
    return table


def markdown_report(report: Report) -> str:
    """Returns the table and the warnings as GitHub Markdown."""
    lines = [f"## {report_title(report)}", "", "| Figure | Value |", "|---|---|"]
    lines += [f"| {name} | {value.replace('|', chr(92) + '|')} |" for name, value in report_rows(report)]
    lines += ["", *(f"- {warning}" for warning in report.warnings())]
    return "\n".join(lines).rstrip() + "\n"


def report_rows(report: Report) -> list[tuple[str, str]]:
    """Returns each figure with its name."""
    tally, result = report.result.tally, report.result
    rows = [
        ("device", _device(report)),
        ("model version", ", ".join(sorted(tally.versions)) or report.model.version),
        ("load", _load(report)),
        ("images", f"{tally.images} answered in {result.elapsed:.2f} s"),
        ("throughput", f"{result.fps:.1f} fps"),
        ("latency p50 / p90 / p99 / p99.9 / max", _latencies(report)),
        ("steady", _steady(report)),
        ("top-1", _share(report, tally.accuracy.top1)),
        ("top-5", _share(report, tally.accuracy.top5)),
        ("failed requests", _failures(report)),
        ("retries", _counts(dict(tally.retries)) or "0"),
        ("mean batch size", _number(tally.mean_batch_size, 1, "")),
        ("mean decode", _number(tally.mean_per_image(tally.decode_seconds), 1000, " ms")),
        ("mean queue", _number(tally.mean_per_image(tally.queue_seconds), 1000, " ms")),
        ("mean compute", _number(tally.mean_per_image(tally.compute_seconds), 1000, " ms")),
        ("mean of the rest", _number(report.other_seconds, 1000, " ms (transport, gRPC, waiting for a thread)")),
        ("client", _client(report)),
    ]
    if not tally.batch_sizes:
        told = ("mean batch", "mean decode", "mean queue", "mean compute", "mean of")
        rows = [row for row in rows if not row[0].startswith(told)]
    if tally.changed_answers:
        rows.append(("changed answers", f"{tally.changed_answers} images answered otherwise than before"))
    found = report.disagreement
    if found is not None:
        share = f"{100 * found.share:.2f} %"
        rows.append(
            ("disagreement", f"{len(found.different)} of {found.images} images, {share}, differ from the reference")
        )
    return rows


def _device(report: Report) -> str:
    instances = {key: ", ".join(values) for key, values in describe_instances(report.model).items()}
    if not report.model.instances:
        return "the server does not tell"
    device = f"{instances['devices']} ({instances['backends']}, precision {instances['precisions']})"
    return device + (", SIMULATED" if report.simulated else "")


def _load(report: Report) -> str:
    settings = report.settings
    if settings.arrivals is None:
        text = f"closed loop, {settings.concurrency} in flight"
    else:
        text = (
            f"open loop, {settings.arrivals.rate:g} requests/s, {settings.arrivals.distribution}, timed from when due"
        )
    names = {"stream": "streams", "unary": "unary calls", "v2": "KServe v2"}
    return f"{text}, {names[settings.transport]}"


def _latencies(report: Report) -> str:
    values = [report.result.tally.percentile(percent) for percent in SHOWN_PERCENTILES]
    return " / ".join("-" if value is None else f"{1000 * value:.2f}" for value in values) + " ms"


def _steady(report: Report) -> str:
    stability = report.result.stability
    if not stability.stable:
        return stability.complaint
    last = stability.last
    rate = sum(window.per_second for window in last) / len(last)
    p99 = sum(window.p99_seconds or 0.0 for window in last) / len(last)
    return f"yes: the last {len(last)} windows give {rate:.1f} requests/s, p99 {1000 * p99:.2f} ms"


def _share(report: Report, share: float | None) -> str:
    if report.accuracy_missing:
        return report.accuracy_missing
    return "no labelled image was answered" if share is None else f"{100 * share:.2f} %"


def _failures(report: Report) -> str:
    failed = {status: count for status, count in report.result.tally.statuses.items() if status != "OK"}
    return f"{report.failed}" + (f" ({_counts(failed)})" if failed else "")


def _client(report: Report) -> str:
    result = report.result
    return (
        f"{result.cpu_seconds:.2f} CPU-s, load processes: {result.processes}, "
        f"busiest at {100 * result.busiest_share:.0f} % of a core"
    )


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def _number(value: float | None, factor: float, unit: str) -> str:
    return "-" if value is None else f"{factor * value:.2f}{unit}"
