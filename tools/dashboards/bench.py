"""The dashboard of a run of the bench."""

from __future__ import annotations

from dashboards.panel import DEVICE, WINDOW, Dashboard, Panel, Variable, increase, mean, quantiles, rate

BENCH = 'instance=~"$instance", model=~"$model"'
SERVER = 'job=~"$job"'
MODEL = 'job=~"$job", model=~"$model"'

BENCH_DASHBOARD = Dashboard(
    uid="repserve-bench",
    title="RepServe bench run",
    text="A run of repserve bench, and what the server did meanwhile.",
    refresh="5s",
    span="now-15m",
    variables=(
        Variable("instance", "Run at", "label_values(repserve_bench_fps, instance)", several=False),
        Variable("model", "Model", 'label_values(repserve_bench_fps{instance=~"$instance"}, model)', several=False),
        Variable("job", "Server's job", "label_values(repserve_requests_in_flight, job)"),
    ),
    panels=(
        Panel("The run", kind="row"),
        Panel(
            "Throughput",
            ((f"sum(repserve_bench_fps{{{BENCH}}})", ""),),
            unit="none",
            kind="stat",
            width=4,
            height=4,
            text="Images a second since the start.",
        ),
        Panel(
            "Top-1",
            ((f"avg(repserve_bench_top1_ratio{{{BENCH}}})", ""),),
            unit="percentunit",
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            "Top-5",
            ((f"avg(repserve_bench_top5_ratio{{{BENCH}}})", ""),),
            unit="percentunit",
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            "p99",
            (
                (
                    f"histogram_quantile(0.99, sum by (le) (repserve_bench_latency_seconds_bucket{{{BENCH}}}))",
                    "",
                ),
            ),
            unit="s",
            kind="stat",
            width=4,
            height=4,
            text="Since the start.",
        ),
        Panel(
            "Failed requests",
            ((f'sum(repserve_bench_requests_total{{{BENCH}, code!="OK"}}) or vector(0)', ""),),
            kind="stat",
            width=4,
            height=4,
            thresholds=(("green", None), ("red", 1)),
        ),
        Panel(
            "Progress",
            ((f"max(repserve_bench_progress_ratio{{{BENCH}}})", ""),),
            unit="percentunit",
            kind="stat",
            width=4,
            height=4,
        ),
        Panel("Throughput and latency", kind="row"),
        Panel(
            "Throughput",
            (
                (f"sum(rate(repserve_bench_images_total{{{BENCH}}}[{WINDOW}]))", "now"),
                (f"sum(repserve_bench_fps{{{BENCH}}})", "since the start"),
            ),
            unit="cps",
            width=12,
        ),
        Panel("Latency", quantiles("repserve_bench_latency_seconds", BENCH), unit="s", width=12),
        Panel(
            "Latency of requests",
            ((increase("repserve_bench_latency_seconds_bucket", BENCH, "le"), "{{le}}"),),
            unit="s",
            kind="heatmap",
            width=12,
        ),
        Panel(
            "Requests by status",
            ((rate("repserve_bench_requests_total", BENCH, "code"), "{{code}}"),),
            unit="reqps",
            stacked=True,
            width=12,
        ),
        Panel("Accuracy and the client", kind="row"),
        Panel(
            "Accuracy so far",
            (
                (f"avg(repserve_bench_top1_ratio{{{BENCH}}})", "top-1"),
                (f"avg(repserve_bench_top5_ratio{{{BENCH}}})", "top-5"),
            ),
            unit="percentunit",
            width=6,
        ),
        Panel(
            "Retries",
            ((rate("repserve_bench_retries_total", BENCH), "attempts made again"),),
            unit="cps",
            width=6,
        ),
        Panel(
            "Sent too late",
            ((f"max(repserve_bench_send_lag_seconds{{{BENCH}}})", "worst so far"),),
            unit="s",
            width=6,
            text="What the client itself added: with a rate it counts as latency.",
        ),
        Panel("Elapsed", ((f"max(repserve_bench_elapsed_seconds{{{BENCH}}})", "run"),), unit="s", width=6),
        Panel("The server meanwhile", kind="row"),
        Panel("Mean batch", ((mean("repserve_batch_size", MODEL, DEVICE), "{{model}} on {{device}}"),)),
        Panel(
            "Device busy",
            (
                (
                    (
                        f"{rate('repserve_device_busy_seconds_total', MODEL, DEVICE)}"
                        f" / sum by ({DEVICE}) (repserve_instance_info{{{MODEL}}})"
                    ),
                    "{{model}} on {{device}}",
                ),
            ),
            unit="percentunit",
            most=1,
        ),
        Panel(
            "Server CPU",
            ((rate("repserve_process_cpu_seconds_total", SERVER, "role"), "{{role}}"),),
            unit="none",
            stacked=True,
            text="Cores in use.",
        ),
    ),
)
