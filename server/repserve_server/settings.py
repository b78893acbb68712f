"""The server's settings: from flags, then the environment (REPSERVE_...), then a TOML file, then defaults."""

from __future__ import annotations

import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from repserve_server.logs import LogFormat, LogLevel
from repserve_server.process import available_cpus

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

ENVIRONMENT_PREFIX = "REPSERVE_"
Names = Annotated[tuple[str, ...], NoDecode]


class SettingsError(Exception):
    """A setting is unknown or has an invalid value; the message names it."""


class Settings(BaseSettings):
    """Settings of ``repserve serve``. Each field is a flag, a REPSERVE_ variable and a key of the TOML file."""

    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX, extra="forbid", frozen=True)

    model_repository: Path = Field(
        default=Path("model_repo"), description="Model repository: a folder with one folder per model."
    )
    model_control_mode: Literal["none", "poll", "watch", "explicit"] = Field(
        default="watch",
        description="When models are loaded and unloaded: at startup only (none), when the repository changes, found "
        "by polling (poll) or by file system events (watch), or when a client requests it (explicit).",
    )
    repository_poll_seconds: float = Field(
        default=5.0, gt=0, description="Interval between polls of the repository in poll mode."
    )
    model: Names = Field(default=(), description="Serve only this model; repeatable.  [default: all models]")
    device: Names = Field(
        default=("cpu",),
        description="Device to run models on: cpu, npu:N, sim:310p, sim:310 or sim:t4; repeatable.",
    )
    instance_count: int = Field(default=1, ge=1, le=64, description="Worker processes per model and device.")
    runtime: str = Field(
        default="auto",
        description="Runtime for CPU models: auto (openvino), openvino, onnxruntime, or package.module:Class.",
    )
    precision: Literal["auto", "f32", "bf16"] = Field(
        default="auto",
        description="Precision of the arithmetic: f32 is reproducible, auto is the fastest that the device has.",
    )
    max_batch_size: int | None = Field(
        default=None, ge=1, le=256, description="Upper limit on every model's batch size.  [default: the model's own]"
    )
    max_queue_size: int = Field(
        default=512,
        ge=1,
        le=65536,
        description="Images in flight per model and frontend, waiting or running.",
    )
    default_timeout_seconds: float = Field(
        default=60.0, gt=0, description="Deadline of requests that set none, and the longest that a request may set."
    )
    host: str = Field(default="0.0.0.0", description="Address to listen on, for all ports.")  # noqa: S104 - a server's default
    grpc_port: int = Field(default=8001, ge=0, le=65535, description="gRPC port; 0 picks a free one.")
    http_port: int = Field(
        default=8000, ge=0, le=65535, description="HTTP port for KServe v2 and the web page; 0 picks a free one."
    )
    metrics_port: int = Field(
        default=8002, ge=0, le=65535, description="HTTP port for metrics and health; 0 picks a free one."
    )
    frontends: int | None = Field(
        default=None, ge=1, le=64, description="Frontend processes.  [default: one per 8 CPUs]"
    )
    decode_threads: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="Decoding threads per frontend.  [default: its share of the CPUs, half of that with device cpu]",
    )
    device_threads: int | None = Field(
        default=None, ge=1, le=256, description="CPU threads per worker.  [default: its share of the CPUs]"
    )
    max_image_pixels: int = Field(
        default=100_000_000, ge=1, description="Refuse images with more pixels than this, before decoding them."
    )
    liveness_timeout_seconds: float = Field(
        default=10.0,
        gt=0,
        description="Restart a process that has not responded for this long; a worker always has time for 20 batches.",
    )
    load_timeout_seconds: float = Field(
        default=600.0, gt=0, description="Time for a worker to load and warm up its model before it is restarted."
    )
    shutdown_delay_seconds: float = Field(
        default=2.0,
        ge=0,
        description="Time after SIGTERM in which the server reports not ready but still accepts requests, so that load "
        "balancers notice.",
    )
    exit_timeout_seconds: float = Field(
        default=30.0, gt=0, description="Time for requests in flight to complete at shutdown."
    )
    ready_file: Path | None = Field(
        default=None, description="File to which the addresses are written, as JSON, once the models are ready."
    )
    log_level: LogLevel = Field(default="info", description="Lowest severity to log.")
    log_format: LogFormat = Field(default="text", description="Format of the log: text, or one JSON object per line.")
    otlp_endpoint: str | None = Field(
        default=None,
        description="OTLP/gRPC collector to send traces to, such as http://127.0.0.1:4317. Needs the extra 'traces'.  "
        "[default: no traces]",
    )
    trace_sample_ratio: float = Field(
        default=1.0, ge=0, le=1, description="Fraction of requests to trace, of those that carry no traceparent."
    )

    @field_validator("device", "model", mode="before")
    @classmethod
    def _split_names(cls, value: object) -> object:
        """Split the names in one flag, variable or TOML string at the commas."""
        values = (value,) if isinstance(value, str) else value
        if not isinstance(values, tuple | list) or not all(isinstance(name, str) for name in values):
            return value
        return tuple(name.strip() for text in values for name in text.split(",") if name.strip())

    @field_validator("device")
    @classmethod
    def _need_device(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("expected at least one device")
        if len(set(value)) < len(value):
            raise ValueError("a device is listed twice; use instance_count to run several workers on one device")
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
        """Number of frontends to run."""
        return self.frontends or max(1, available_cpus() // 8)

    @property
    def decode_thread_count(self) -> int:
        """Decoding threads of each frontend.

        A model on the CPU needs about as much CPU time as decoding does; more threads would only compete with it.
        """
        share = 2 * self.frontend_count if "cpu" in self.device else self.frontend_count
        return self.decode_threads or max(1, available_cpus() // share)


def load_settings(flags: dict[str, Any], file: Path | None) -> Settings:
    """Combine flags, environment, file and defaults.

    Args:
        flags: fields given on the command line.
        file: a TOML file with any of the fields as top-level keys.

    Raises:
        SettingsError: the file cannot be read, or a setting is unknown or has an invalid value.
    """
    if file is not None and not file.is_file():
        raise SettingsError(f"the configuration file {str(file)!r} does not exist")
    kind = Settings if file is None else _with_file(file)
    try:
        return kind(**flags)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} is not valid TOML: {error}") from error
    except ValidationError as error:
        raise SettingsError("invalid settings: " + "; ".join(map(_describe, error.errors()))) from error


def _describe(problem: ErrorDetails) -> str:
    name = ".".join(map(str, problem["loc"]))
    message = "there is no such setting" if problem["type"] == "extra_forbidden" else problem["msg"]
    return f"{name}: {message}, got {problem['input']!r}"


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
