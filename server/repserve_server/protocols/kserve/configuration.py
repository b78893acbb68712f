"""A model's configuration, in the form of Triton's ModelConfig."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from repserve_server.protocols.kserve.metadata import IMAGE, PIXELS, inputs_of, output_of, platform_of

if TYPE_CHECKING:
    from repserve_server.dataplane.models import ServedModel
    from repserve_server.protocols.kserve.documents import Json

_CONFIG_TYPES = {"BYTES": "TYPE_STRING", "UINT8": "TYPE_UINT8", "FP32": "TYPE_FP32"}
_FORMATS = {PIXELS: "FORMAT_NHWC", IMAGE: "FORMAT_NONE"}


def configure(served: ServedModel, max_seconds: float) -> Json:
    """Describe how a model is served, in protobuf's JSON with the field names of the .proto file.

    Args:
        served: the model and its queue.
        max_seconds: limit for requests without a deadline.
    """
    info = served.info
    devices = Counter((instance.device, instance.backend) for instance in info.instances)
    inputs, output = inputs_of(info), output_of(info)
    return {
        "name": info.name,
        "platform": platform_of(info),
        "backend": "repserve",
        "version_policy": {"specific": {"versions": [int(info.version)]}},
        "max_batch_size": info.max_batch_size,
        "input": [
            {
                "name": tensor["name"],
                "data_type": _CONFIG_TYPES[tensor["datatype"]],
                "format": _FORMATS.get(tensor["name"], "FORMAT_NCHW"),
                "dims": [*tensor["shape"][1:]],
                # A request has one of them.
                "optional": len(inputs) > 1,
            }
            for tensor in inputs
        ],
        "output": [
            {
                "name": output["name"],
                "data_type": _CONFIG_TYPES[output["datatype"]],
                "dims": [*output["shape"][1:]],
                "label_filename": "labels.txt" if info.labels else "",
            }
        ],
        "instance_group": [
            {"name": f"{device} ({backend})", "kind": "KIND_MODEL", "count": count}
            for (device, backend), count in devices.items()
        ],
        "dynamic_batching": {
            "preferred_batch_size": [*sorted({size for one in info.instances for size in one.batch_seconds})],
            "max_queue_delay_microseconds": 0,
            "preserve_ordering": False,
            "priority_levels": 2,
            "default_priority_level": 2,
            "default_queue_policy": {
                "timeout_action": "REJECT",
                "default_timeout_microseconds": round(max_seconds * 1e6),
                "allow_timeout_override": True,
                "max_queue_size": served.queue.capacity,
            },
        },
        "model_transaction_policy": {"decoupled": False},
        "response_cache": {"enable": False},
        "parameters": {
            "resize": {"string_value": str(info.preprocessing.resize)},
            "crop": {"string_value": str(info.preprocessing.crop)},
        },
    }
