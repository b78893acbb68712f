"""The dashboard of a server."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.panels import (
    DEVICE,
    DEVICE_LEGEND,
    assemble,
    distribution,
    graph,
    increase,
    listing,
    mean,
    number,
    quantile,
    quantiles,
    rate,
    utilization,
    variables,
)

SERVER = 'job=~"$job"'
MODEL = f'{SERVER}, model=~"$model", version=~"$version"'
SUCCEEDED = f'{MODEL}, code="OK"'
ERRORS = f'{MODEL}, code=~"INTERNAL|UNAVAILABLE|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED"'
REQUESTS = rate("repserve_requests_total", MODEL)
PADDING = rate("repserve_padding_images_total", MODEL, DEVICE)
SLEEP_ERROR = f"max by (device, statistic) (repserve_simulated_sleep_error_seconds{{{MODEL}}})"

SERVER_DASHBOARD = assemble(
    Dashboard("RepServe server")
    .uid("repserve-server")
    .refresh("10s")
    .time("now-30m", "now")
    .description("Throughput, latency by stage, batches, devices and models of RepServe."),
    (
        variables("job", "Job", "label_values(repserve_requests_in_flight, job)"),
        variables("model", "Model", f"label_values(repserve_model_ready{{{SERVER}}}, model)"),
        variables("version", "Version", f'label_values(repserve_model_ready{{{SERVER}, model=~"$model"}}, version)'),
    ),
    {
        "Overview": (
            number("Throughput", rate("repserve_images_total", MODEL), "cps", text="Images classified a second."),
            number("p99 latency", quantile(0.99, "repserve_request_seconds", MODEL), "s"),
            number(
                "Error rate",
                f"{rate('repserve_requests_total', ERRORS)} / ({REQUESTS} > 0)",
                "percentunit",
                text="Requests that failed through no fault of the client's.",
                thresholds={"green": None, "orange": 0.001, "red": 0.01},
            ),
            number(
                "Models ready",
                f"count(max by (model) (repserve_model_ready{{{MODEL}}}) == 1) or vector(0)",
                thresholds={"red": None, "green": 1},
            ),
            number(
                "CPU per image",
                f"{rate('repserve_process_cpu_seconds_total', SERVER)} / ({rate('repserve_images_total', SERVER)} > 0)",
                "s",
                text="CPU time of all server processes per image classified, over all models.",
            ),
            number(
                "Restarts",
                f"sum(increase(repserve_restarts_total{{{SERVER}}}[$__range]))",
                text="Processes that ended unexpectedly, in the time range shown.",
                thresholds={"green": None, "orange": 1, "red": 3},
            ),
        ),
        "Load": (
            graph("Images by model", {"{{model}}": rate("repserve_images_total", MODEL, "model")}, "cps"),
            graph(
                "Requests by status",
                {"{{code}}": rate("repserve_requests_total", MODEL, "code")},
                "reqps",
                stacked=True,
            ),
            graph(
                "Requests by method",
                {"{{method}} ({{protocol}})": rate("repserve_requests_total", MODEL, "protocol, method")},
                "reqps",
            ),
            graph(
                "In flight and queued",
                {
                    "requests in flight": f"sum(repserve_requests_in_flight{{{SERVER}}})",
                    "images of {{model}}": f"sum by (model) (repserve_queue_images{{{MODEL}}})",
                    f"waiting: {DEVICE_LEGEND}": f"sum by ({DEVICE}) (repserve_waiting_images{{{MODEL}}})",
                },
            ),
            graph(
                "Rejected requests",
                {"{{reason}}": rate("repserve_rejected_requests_total", MODEL, "reason")},
                "reqps",
                text="queue_full and deadline mean overload. The other reasons lie in what clients send.",
            ),
            graph("Rejected images", {"{{kind}}": rate("repserve_rejected_images_total", MODEL, "kind")}, "cps"),
        ),
        "Latency": (
            graph("Request latency", quantiles("repserve_request_seconds", MODEL), "s"),
            graph(
                "Mean latency by stage",
                {
                    "{{stage}}": f"{rate('repserve_request_stage_seconds_total', MODEL, 'stage')}"
                    f" / on() group_left() ({rate('repserve_requests_total', SUCCEEDED)} > 0)"
                },
                "s",
                stacked=True,
                text="Of successful requests.",
            ),
            graph(
                "p99 by stage",
                {
                    stage: quantile(0.99, f"repserve_{stage}_seconds", MODEL)
                    for stage in ("decode", "queue", "compute", "reply")
                },
                "s",
                text="Decode and queue per image, compute per batch, reply per request.",
            ),
            distribution("Latency distribution", "repserve_request_seconds", MODEL, "s"),
            distribution("Batch size distribution", "repserve_batch_size", MODEL),
        ),
        "Batches and devices": (
            graph("Mean batch size", {DEVICE_LEGEND: mean("repserve_batch_size", MODEL, DEVICE)}),
            graph(
                "Batches by reason",
                {"{{reason}}": rate("repserve_batches_total", MODEL, "reason")},
                "cps",
                stacked=True,
                text="Why a batch was closed. full: it had the largest size. cheapest: waiting was not worth it. "
                "deadline: an image could not wait. alone: no other image was expected.",
            ),
            graph(
                "Padding",
                {DEVICE_LEGEND: f"{PADDING} / ({PADDING} + {rate('repserve_batch_size_sum', MODEL, DEVICE)} > 0)"},
                "percentunit",
                text="Rows computed for nothing, because the compiled batch was larger.",
            ),
            graph("Device utilization", {DEVICE_LEGEND: utilization(MODEL)}, "percentunit").max(1),
            graph("Compute time", quantiles("repserve_compute_seconds", MODEL), "s", text="Of a batch."),
            graph(
                "Dropped and failed",
                {
                    "images {{reason}}": rate("repserve_dropped_images_total", MODEL, "reason"),
                    "failed batches on {{device}}": rate("repserve_failed_runs_total", MODEL, "device"),
                    "images of {{model}} that crash workers": rate("repserve_poison_images_total", MODEL, "model"),
                },
                "cps",
                text="expired: the deadline passed while the image waited.",
            ),
        ),
        "Models and processes": (
            listing(
                "Models", f"max by (model, version, state) (repserve_model_ready{{{MODEL}}})", text="1 means ready."
            ),
            listing(
                "Instances",
                f"sum by (model, version, device, backend, precision, simulated) (repserve_instance_info{{{MODEL}}})",
            ),
            graph(
                "Load time",
                {DEVICE_LEGEND: f"max by ({DEVICE}) (repserve_model_load_seconds{{{MODEL}}})"},
                "s",
            ),
            graph(
                "Time since the last inference",
                {"{{model}}": f"time() - max by (model) (repserve_last_inference_timestamp_seconds{{{MODEL}}} > 0)"},
                "s",
            ),
            graph(
                "Time spent on failed requests",
                {"{{model}}": rate("repserve_failed_request_seconds_total", MODEL, "model")},
                "s",
                text="Seconds a second, over all requests.",
            ),
            graph(
                "Restarts",
                {
                    "{{role}}": increase("repserve_restarts_total", SERVER, "role"),
                    "hung {{role}}": increase("repserve_hung_processes_total", SERVER, "role"),
                },
            ),
            graph(
                "CPU",
                {"{{role}}": rate("repserve_process_cpu_seconds_total", SERVER, "role")},
                "none",
                stacked=True,
                text="Cores in use.",
            ),
            graph(
                "Memory",
                {"{{role}}": f"sum by (role) (repserve_process_resident_memory_bytes{{{SERVER}}})"},
                "bytes",
                stacked=True,
            ),
            graph(
                "Simulated devices",
                {
                    "{{device}} {{statistic}}": f"{SLEEP_ERROR}"
                    ' or on() label_replace(vector(0), "device", "no simulated device", "", "")'
                },
                "s",
                width=24,
                text="How late a simulated device woke up, that is, how far its timing can be trusted.",
            ),
        ),
    },
)
