"""The dashboard of a run of the bench."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.panels import (
    DEVICE,
    DEVICE_LEGEND,
    assemble,
    distribution,
    graph,
    mean,
    number,
    quantiles,
    rate,
    utilization,
    variable,
    variables,
)

BENCH = 'instance=~"$instance", model=~"$model"'
SERVER = 'job=~"$job"'
MODEL = 'job=~"$job", model=~"$model"'
FPS = f"sum(repserve_bench_fps{{{BENCH}}})"
TOP1, TOP5 = (f"avg(repserve_bench_{top}_ratio{{{BENCH}}})" for top in ("top1", "top5"))

BENCH_DASHBOARD = assemble(
    Dashboard("RepServe bench run")
    .uid("repserve-bench")
    .refresh("5s")
    .time("now-15m", "now")
    .description("A run of repserve bench, and what the server did meanwhile."),
    (
        variable("instance", "Run at", "label_values(repserve_bench_fps, instance)"),
        variable("model", "Model", 'label_values(repserve_bench_fps{instance=~"$instance"}, model)'),
        variables("job", "Server's job", "label_values(repserve_requests_in_flight, job)"),
    ),
    {
        "Overview": (
            number("Throughput", FPS, "none", text="Images a second since the start."),
            number("Top-1 accuracy", TOP1, "percentunit"),
            number("Top-5 accuracy", TOP5, "percentunit"),
            number(
                "p99 latency",
                f"histogram_quantile(0.99, sum by (le) (repserve_bench_latency_seconds_bucket{{{BENCH}}}))",
                "s",
                text="Since the start.",
            ),
            number(
                "Failed requests",
                f'sum(repserve_bench_requests_total{{{BENCH}, code!="OK"}}) or vector(0)',
                thresholds={"green": None, "red": 1},
            ),
            number("Progress", f"max(repserve_bench_progress_ratio{{{BENCH}}})", "percentunit"),
        ),
        "Throughput and latency": (
            graph(
                "Throughput",
                {"now": rate("repserve_bench_images_total", BENCH), "since the start": FPS},
                "cps",
                width=12,
            ),
            graph("Latency", quantiles("repserve_bench_latency_seconds", BENCH), "s", width=12),
            distribution("Latency distribution", "repserve_bench_latency_seconds", BENCH, "s"),
            graph(
                "Requests by status",
                {"{{code}}": rate("repserve_bench_requests_total", BENCH, "code")},
                "reqps",
                stacked=True,
                width=12,
            ),
        ),
        "Accuracy and the client": (
            graph("Accuracy so far", {"top-1": TOP1, "top-5": TOP5}, "percentunit", width=6),
            graph("Retries", {"retries": rate("repserve_bench_retries_total", BENCH)}, "cps", width=6),
            graph(
                "Send lag",
                {"worst so far": f"max(repserve_bench_send_lag_seconds{{{BENCH}}})"},
                "s",
                width=6,
                text="How late the client itself sent a request. With a rate it counts as latency.",
            ),
            graph("Elapsed", {"run": f"max(repserve_bench_elapsed_seconds{{{BENCH}}})"}, "s", width=6),
        ),
        "The server meanwhile": (
            graph("Mean batch size", {DEVICE_LEGEND: mean("repserve_batch_size", MODEL, DEVICE)}),
            graph("Device utilization", {DEVICE_LEGEND: utilization(MODEL)}, "percentunit").max(1),
            graph(
                "Server CPU",
                {"{{role}}": rate("repserve_process_cpu_seconds_total", SERVER, "role")},
                "none",
                stacked=True,
                text="Cores in use.",
            ),
        ),
    },
)
