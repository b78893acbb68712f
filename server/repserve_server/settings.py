"""The server's settings: from flags, then the environment (REPSERVE_...), then a TOML file, then defaults."""

from __future__ import annotations

import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from repserve_server.logs import LogFormat
from repserve_server.process import available_cpus

ENVIRONMENT_PREFIX = "REPSERVE_"
Names = Annotated[tuple[str, ...], NoDecode]


class SettingsError(Exception):
    """A setting that has a wrong value; the message names it."""


class Settings(BaseSettings):
    """What ``repserve serve`` can be told. Each field is a flag, a REPSERVE_ variable and a key of the TOML file."""

    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX, extra="forbid", frozen=True)

    model_repository: Path = Field(default=Path("model_repo"), description="Folder of models.")
    model_control_mode: Literal["none", "poll", "watch", "explicit"] = Field(
        default="watch",
        description="How models are loaded: once at startup (none), again whenever the repository changes, noticed by "
        "polling (poll) or through the kernel (watch), or on request (explicit).",
    )
    repository_poll_seconds: float = Field(
        default=5.0, gt=0, description="How often the repository is looked at in the mode poll."
    )
    model: Names = Field(default=(), description="Serve only this model; may be repeated. Default: all.")
    device: Names = Field(
        default=("cpu",),
        description="Device to run models on: cpu, npu:0, npu:1, sim:310p, sim:310, sim:t4; may be repeated.",
    )
    instance_count: int = Field(default=1, ge=1, le=64, description="Workers of each model on each device.")
    runtime: str = Field(
        default="auto",
        description="What runs models on the CPU: auto (openvino), openvino, onnxruntime, or package.module:Class.",
    )
    precision: Literal["auto", "f32", "bf16"] = Field(
        default="auto", description="Arithmetic: f32 is reproducible, auto is what the device does fastest."
    )
    max_batch_size: int | None = Field(
        default=None, ge=1, le=256, description="Largest batch. Default: the model's own."
    )
    max_queue_size: int = Field(
        default=512,
        ge=1,
        le=65536,
        description="Images a model may hold in each frontend, waiting ones and running ones.",
    )
    default_timeout_seconds: float = Field(
        default=60.0, gt=0, description="Limit for requests that have no deadline, or a later one."
    )
    host: str = Field(default="0.0.0.0", description="Address to listen on.")  # noqa: S104 - a server's default
    grpc_port: int = Field(default=8001, ge=0, le=65535, description="gRPC port; 0 takes a free one.")
    http_port: int = Field(default=8000, ge=0, le=65535, description="HTTP port of KServe v2; 0 takes a free one.")
    metrics_port: int = Field(
        default=8002, ge=0, le=65535, description="HTTP port of /metrics and /health; 0 takes a free one."
    )
    frontends: int | None = Field(
        default=None, ge=1, le=64, description="Frontend processes. Default: one for each 8 CPUs."
    )
    decode_threads: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="Decoding threads of each frontend. Default: its share of the CPUs, half with the device cpu.",
    )
    device_threads: int | None = Field(
        default=None, ge=1, le=256, description="CPU threads of each worker. Default: its share of the CPUs."
    )
    max_image_pixels: int = Field(
        default=100_000_000, ge=1, description="Larger images are refused before they are decoded."
    )
    liveness_timeout_seconds: float = Field(
        default=10.0,
        gt=0,
        description="A process that is silent for longer is replaced; a worker always has the time of 20 batches.",
    )
    load_timeout_seconds: float = Field(
        default=600.0, gt=0, description="Time for a worker to load and warm up its model before it is replaced."
    )
    shutdown_delay_seconds: float = Field(
        default=2.0,
        ge=0,
        description="Time after SIGTERM in which the server is not ready and takes requests all the same, for load "
        "balancers to notice.",
    )
    exit_timeout_seconds: float = Field(
        default=30.0, gt=0, description="Time for requests under way to be answered at shutdown."
    )
    ready_file: Path | None = Field(
        default=None, description="Write the addresses here, as JSON, when the models are ready."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="What to log.")
    log_format: LogFormat = Field(default="text", description="Lines for people (text) or for machines (json).")
    otlp_endpoint: str | None = Field(
        default=None,
        description="OTLP collector (gRPC) that gets traces, such as http://127.0.0.1:4317. Default: no traces. "
        "Needs the extra traces.",
    )
    trace_sample_ratio: float = Field(
        default=1.0, ge=0, le=1, description="Share traced of the requests that do not say themselves."
    )

    @field_validator("device", "model", mode="before")
    @classmethod
    def _split_names(cls, value: object) -> object:
        """Several names in one flag, variable or TOML string are separated by commas."""
        values = (value,) if isinstance(value, str) else value
        if not isinstance(values, tuple | list) or not all(isinstance(name, str) for name in values):
            return value
        return tuple(name.strip() for text in values for name in text.split(",") if name.strip())

    @field_validator("device")
    @classmethod
    def _need_device(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("at least one device is needed")
        if len(set(value)) < len(value):
            raise ValueError("a device is named twice; use instance_count for several workers on one device")
        return value

    @field_validator("otlp_endpoint")
    @classmethod
    def _need_opentelemetry(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not value.startswith(("http://", "https://")):
            raise ValueError("expected http://HOST:PORT or https://HOST:PORT")
        if find_spec("opentelemetry") is None or find_spec("opentelemetry.exporter") is None:
            raise ValueError("traces need OpenTelemetry: pip install 'repserve[server,traces]'")
        return value

    @property
    def frontend_count(self) -> int:
        """How many frontends to run."""
        return self.frontends or max(1, available_cpus() // 8)

    @property
    def decode_thread_count(self) -> int:
        """Decoding threads of each frontend.

        A model on the CPU needs about as much of it as decoding does; threads beyond that only displace each other.
        """
        share = 2 * self.frontend_count if "cpu" in self.device else self.frontend_count
        return self.decode_threads or max(1, available_cpus() // share)


def load_settings(flags: dict[str, Any], file: Path | None) -> Settings:
    """Put the settings together.

    Args:
        flags: the fields given on the command line.
        file: a TOML file with any of the fields as top-level keys.

    Raises:
        SettingsError: the file cannot be read, or a setting is unknown or has a wrong value.
    """
    if file is not None and not file.is_file():
        raise SettingsError(f"the configuration file {str(file)!r} is not there")
    kind = Settings if file is None else _with_file(file)
    try:
        return kind(**flags)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} is not valid TOML: {error}") from error
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, p['loc']))}: {p['msg']}, got {p['input']!r}" for p in error.errors())
        raise SettingsError("wrong settings: " + "; ".join(problems)) from error


def _with_file(file: Path) -> type[Settings]:
    class SettingsWithFile(Settings):
        """The settings with a TOML file behind the flags and the environment."""

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            *_: PydanticBaseSettingsSource,
            **__: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, file)

    return SettingsWithFile
