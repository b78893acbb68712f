"""From the supervisor's ``LoadWorker`` message to what a backend is made from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from repserve_server.backends.base import BackendOptions

if TYPE_CHECKING:
    from repserve_server.channel.worker_messages import LoadWorker


def read_options(message: LoadWorker) -> BackendOptions:
    """Read the options of a ``LoadWorker`` message."""
    return BackendOptions(
        device=message.device,
        path=message.folder,
        runtime=message.runtime,
        precision=message.precision,
        threads=message.threads,
        max_batch_size=message.max_batch_size,
        compiled_sizes=message.compiled_sizes,
        classes=message.classes,
        preprocessing=message.preprocessing,
        crop_open=message.crop_open,
    )
