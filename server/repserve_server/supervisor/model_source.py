"""A version of a model as its folder was at one time: what its workers are to load, and where they run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from repserve_server.channel.message import Identity
from repserve_server.channel.worker_messages import LoadWorker
from repserve_server.process import available_cpus

if TYPE_CHECKING:
    from repserve_server.logs import LogLevel
    from repserve_server.repository.scan import ModelFolder, VersionFolder
    from repserve_server.settings import Settings

_LABELS_FOR_MESSAGES = 1000


@dataclass(frozen=True)
class ModelSource:
    """A version's folder, its model's, and the settings."""

    folder: ModelFolder
    files: VersionFolder
    settings: Settings

    @property
    def name(self) -> str:
        """The model's name."""
        return self.folder.name

    @property
    def version(self) -> str:
        """The version as requests name it."""
        return str(self.files.number)

    @property
    def max_batch_size(self) -> int:
        """The largest batch: the model's own, unless the settings want a smaller one."""
        own = self.folder.config.max_batch_size
        return min(own, self.settings.max_batch_size or own)

    @property
    def places(self) -> list[tuple[str, int]]:
        """The device of each worker, and its number among those on it."""
        devices = self.folder.config.devices or self.settings.device
        instances = self.folder.config.instance_count or self.settings.instance_count
        return [(device, index) for device in devices for index in range(instances)]

    def load_message(self, device: str, index: int, log_level: LogLevel, threads: int) -> LoadWorker:
        """Return the message that tells a new worker what to load."""
        config, settings = self.folder.config, self.settings
        return LoadWorker(
            identity=Identity(
                process=f"worker {self.name}/{self.version}@{device}#{index}",
                log_level=log_level,
                log_format=settings.log_format,
            ),
            model=self.name,
            version=self.version,
            device=device,
            instance=index,
            folder=self.files.path,
            runtime=settings.runtime,
            precision=settings.precision,
            threads=settings.device_threads or threads,
            max_batch_size=self.max_batch_size,
            compiled_sizes=config.compiled_sizes,
            classes=len(self.folder.labels) or None,
            labels=self.folder.labels[:_LABELS_FOR_MESSAGES],
            output=config.output,
            preprocessing=config.preprocessing,
            crop_open=not {"crop", "resize"} & config.preprocessing.model_fields_set,
        )


def worker_threads(settings: Settings) -> int:
    """Return a worker's share of the CPUs."""
    on_cpu = sum(device == "cpu" for device in settings.device) * settings.instance_count
    return max(1, available_cpus() // max(1, on_cpu))
