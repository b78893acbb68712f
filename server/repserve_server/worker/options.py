"""From the supervisor's ``load`` message to what a backend is made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from repserve_server.backends.base import BackendOptions
from repserve_server.imaging.preprocessing import Preprocessing


def read_options(body: dict[str, Any]) -> BackendOptions:
    """The options of a ``load`` message."""
    sizes = body["compiled_sizes"]
    return BackendOptions(
        device=body["device"],
        path=Path(body["folder"]),
        runtime=body["runtime"],
        precision=body["precision"],
        threads=body["threads"],
        max_batch_size=body["max_batch_size"],
        compiled_sizes=None if sizes is None else tuple(sizes),
        classes=body["classes"],
        preprocessing=Preprocessing.model_validate(body["preprocessing"]),
        crop_open=body["crop_open"],
    )
