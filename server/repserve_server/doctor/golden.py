"""Recording of golden images with a worker's code, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from repserve_server.channel.worker_messages import RecordGolden
from repserve_server.errors import RepositoryError
from repserve_server.process import available_cpus
from repserve_server.repository.golden import golden_file
from repserve_server.repository.scan import ModelFolder
from repserve_server.settings import Settings
from repserve_server.supervisor.model_source import ModelSource

_RECORDER = "repserve_server.worker.golden_record"


def record_golden(folder: ModelFolder, number: int | None, images: Sequence[Path], settings: Settings) -> list[str]:
    """Write the golden images of a model; returns a line about each.

    Args:
        folder: the model.
        number: its version; None for the newest.
        images: the files.
        settings: the device to run it on.

    Raises:
        RepositoryError: there is no such version, it cannot be loaded, or an image cannot be decoded.
    """
    sources = [version for version in folder.versions if number in (None, version.number)]
    if not sources:
        raise RepositoryError(f"model {folder.name!r} has no version {number}")
    source = ModelSource(folder, sources[-1], settings)
    device, index = source.places[0]
    message = RecordGolden(
        load=source.load_message(device, index, settings.log_level, available_cpus()),
        files=tuple(image.resolve() for image in images),
        target=golden_file(folder.path).resolve(),
    )
    ended = subprocess.run(
        [sys.executable, "-P", "-m", _RECORDER],
        input=message.model_dump_json(),
        capture_output=True,
        text=True,
        timeout=settings.load_timeout_seconds,
        check=False,
    )
    if ended.returncode != 0:
        raise RepositoryError((ended.stderr.strip() or "the recorder failed").splitlines()[-1])
    return ended.stdout.splitlines()
