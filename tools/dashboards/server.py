"""The dashboard of a server."""

from __future__ import annotations

from dashboards.panel import DEVICE, WINDOW, Dashboard, Panel, Variable, increase, mean, quantiles, rate

SERVER = 'job=~"$job"'
MODEL = 'job=~"$job", model=~"$model"'
SUCCEEDED, FAILED = f'{MODEL}, code="OK"', f'{MODEL}, code!="OK"'
STAGES = rate("repserve_request_stage_seconds_total", MODEL, "stage")
ERRORS = "INTERNAL|UNAVAILABLE|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED"
CPU = rate("repserve_process_cpu_seconds_total", SERVER)
IMAGES = rate("repserve_images_total", SERVER)
INSTANCE = "model, version, device, backend, precision, simulated"
GOOD_IF_LOW = (("green", None), ("orange", 0.001), ("red", 0.01))

SERVER_DASHBOARD = Dashboard(
    uid="repserve-server",
    title="RepServe server",
    text="Throughput, latency by stage, batches, devices and models of RepServe.",
    variables=(
        Variable("job", "Job", "label_values(repserve_requests_in_flight, job)"),
        Variable("model", "Model", 'label_values(repserve_model_ready{job=~"$job"}, model)'),
    ),
    panels=(
        Panel("At a glance", kind="row"),
        Panel(
            "Images",
            ((IMAGES, ""),),
            unit="cps",
            kind="stat",
            width=4,
            height=4,
            text="Images classified a second.",
        ),
        Panel(
            "p99 of requests",
            (quantiles("repserve_request_seconds", SERVER)[2],),
            unit="s",
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            "Errors",
            (
                (
                    (
                        f'sum(rate(repserve_requests_total{{{SERVER}, code=~"{ERRORS}"}}[{WINDOW}]))'
                        f" / (sum(rate(repserve_requests_total{{{SERVER}}}[{WINDOW}])) > 0)"
                    ),
                    "",
                ),
            ),
            unit="percentunit",
            kind="stat",
            width=4,
            height=4,
            text="Requests that ended with a status that is the service's, not the client's.",
            thresholds=GOOD_IF_LOW,
        ),
        Panel(
            "Models that answer",
            ((f"count(max by (model) (repserve_model_ready{{{SERVER}}}) == 1) or vector(0)", ""),),
            kind="stat",
            width=4,
            height=4,
            thresholds=(("red", None), ("green", 1)),
        ),
        Panel(
            "CPU of an image",
            (
                (
                    f"{CPU} / ({IMAGES} > 0)",
                    "",
                ),
            ),
            unit="s",
            kind="stat",
            width=4,
            height=4,
            text="CPU time of all the server's processes for each image classified.",
        ),
        Panel(
            "Restarts",
            ((f"sum(increase(repserve_restarts_total{{{SERVER}}}[$__range]))", ""),),
            kind="stat",
            width=4,
            height=4,
            text="Processes that ended by themselves, in the time shown.",
            thresholds=(("green", None), ("orange", 1), ("red", 3)),
        ),
        Panel("Load", kind="row"),
        Panel("Images", ((rate("repserve_images_total", SERVER, "instance"), "{{instance}}"),), unit="cps"),
        Panel(
            "Requests by status",
            ((rate("repserve_requests_total", SERVER, "code"), "{{code}}"),),
            unit="reqps",
            stacked=True,
        ),
        Panel("Requests by method", ((rate("repserve_requests_total", SERVER, "method"), "{{method}}"),), unit="reqps"),
        Panel(
            "In flight and queued",
            (
                (f"sum(repserve_requests_in_flight{{{SERVER}}})", "requests in flight"),
                (f"sum by (model) (repserve_queue_images{{{MODEL}}})", "images, {{model}}"),
                (f"sum by ({DEVICE}) (repserve_waiting_images{{{MODEL}}})", "waiting for {{device}}, {{model}}"),
            ),
        ),
        Panel(
            "Refused",
            ((rate("repserve_rejected_requests_total", SERVER, "reason"), "{{reason}}"),),
            unit="reqps",
            text="queue_full and deadline: more comes than the devices can do. The others: what clients send.",
        ),
        Panel(
            "Images not accepted", ((rate("repserve_rejected_images_total", SERVER, "kind"), "{{kind}}"),), unit="cps"
        ),
        Panel("Latency", kind="row"),
        Panel("Requests", quantiles("repserve_request_seconds", SERVER), unit="s"),
        Panel(
            "Mean time by stage",
            (
                (
                    f"{STAGES} / on() group_left() ({rate('repserve_requests_total', SUCCEEDED)} > 0)",
                    "{{stage}}",
                ),
                (
                    (
                        f"{rate('repserve_failed_request_seconds_total', MODEL)}"
                        f" / ({rate('repserve_requests_total', FAILED)} > 0)"
                    ),
                    "failed requests",
                ),
            ),
            unit="s",
            stacked=True,
            text="Of successful requests; those that failed beside them.",
        ),
        Panel(
            "p99 by stage",
            tuple(
                (quantiles(f"repserve_{stage}_seconds", labels)[2][0], stage)
                for stage, labels in (("decode", SERVER), ("queue", MODEL), ("compute", MODEL), ("reply", SERVER))
            ),
            unit="s",
        ),
        Panel(
            "Latency of requests",
            ((increase("repserve_request_seconds_bucket", SERVER, "le"), "{{le}}"),),
            unit="s",
            kind="heatmap",
            width=12,
        ),
        Panel(
            "Images in a batch",
            ((increase("repserve_batch_size_bucket", MODEL, "le"), "{{le}}"),),
            kind="heatmap",
            width=12,
        ),
        Panel("Batches and devices", kind="row"),
        Panel("Mean batch", ((mean("repserve_batch_size", MODEL, DEVICE), "{{model}} on {{device}}"),)),
        Panel(
            "Why batches close",
            ((rate("repserve_batches_total", MODEL, "reason"), "{{reason}}"),),
            unit="cps",
            stacked=True,
            text="full: the largest size was there. cheapest: waiting would not have paid. deadline: an image could "
            "not wait. alone: nothing else was expected.",
        ),
        Panel(
            "Padding",
            (
                (
                    (
                        f"{rate('repserve_padding_images_total', MODEL, DEVICE)} / "
                        f"({rate('repserve_padding_images_total', MODEL, DEVICE)}"
                        f" + {rate('repserve_batch_size_sum', MODEL, DEVICE)} > 0)"
                    ),
                    "{{model}} on {{device}}",
                ),
            ),
            unit="percentunit",
            text="Rows that the device computed for nothing, because the compiled batch was larger.",
        ),
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
        Panel("Compute", quantiles("repserve_compute_seconds", MODEL), unit="s"),
        Panel(
            "Dropped and failed",
            (
                (rate("repserve_dropped_images_total", MODEL, "reason"), "images {{reason}}"),
                (rate("repserve_failed_runs_total", MODEL, "device"), "failed runs, {{device}}"),
                (rate("repserve_poison_images_total", MODEL, "model"), "given up after crashes, {{model}}"),
            ),
            unit="cps",
            text="expired: the deadline passed while the image waited.",
        ),
        Panel("Models and processes", kind="row"),
        Panel(
            "Models",
            ((f"max by (model, version, state) (repserve_model_ready{{{MODEL}}})", ""),),
            kind="table",
            width=12,
            text="1: it answers.",
        ),
        Panel(
            "Instances",
            (
                (
                    f"sum by ({INSTANCE}) (repserve_instance_info{{{MODEL}}})",
                    "",
                ),
            ),
            kind="table",
            width=12,
        ),
        Panel(
            "Since the last inference",
            ((f"time() - max by (model) (repserve_last_inference_timestamp_seconds{{{MODEL}}} > 0)", "{{model}}"),),
            unit="s",
            width=6,
        ),
        Panel(
            "Load time",
            ((f"max by ({DEVICE}) (repserve_model_load_seconds{{{MODEL}}})", "{{model}} on {{device}}"),),
            unit="s",
            width=6,
        ),
        Panel(
            "Restarts",
            (
                (increase("repserve_restarts_total", SERVER, "role"), "{{role}}"),
                (increase("repserve_hung_processes_total", SERVER, "role"), "hung {{role}}"),
            ),
            width=6,
        ),
        Panel(
            "CPU",
            ((rate("repserve_process_cpu_seconds_total", SERVER, "role"), "{{role}}"),),
            unit="none",
            width=6,
            stacked=True,
            text="Cores in use.",
        ),
        Panel(
            "Memory",
            ((f"sum by (role) (repserve_process_resident_memory_bytes{{{SERVER}}})", "{{role}}"),),
            unit="bytes",
            width=6,
            stacked=True,
        ),
        Panel(
            "Simulated devices",
            (
                (
                    (
                        f"max by (device, statistic) (repserve_simulated_sleep_error_seconds{{{MODEL}}})"
                        f' or on() label_replace(vector(0), "device", "no simulated device", "", "")'
                    ),
                    "{{device}} {{statistic}}",
                ),
            ),
            unit="s",
            width=24,
            height=6,
            text="How late a pretended device woke up: what its timing is worth.",
        ),
    ),
)
