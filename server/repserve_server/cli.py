"""The commands ``repserve serve`` and ``repserve models``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from repserve_server.errors import RepositoryError
from repserve_server.logs import configure_logging
from repserve_server.repository.golden import golden_file
from repserve_server.repository.scan import ModelFolder, scan_repository
from repserve_server.settings import ENVIRONMENT_PREFIX, Settings, SettingsError, load_settings

_REPEATED = ("model", "device")


def _option(name: str, field: FieldInfo) -> click.Option:
    """Make a flag for a setting; without a default of its own, so that the environment and the file come next."""
    kind: Any = str
    choices = [choice for choice in get_args(field.annotation) if isinstance(choice, str)]
    types = {field.annotation, *get_args(field.annotation)}
    if choices and get_origin(field.annotation) is not None and name not in _REPEATED:
        kind = click.Choice(choices)
    elif Path in types:
        kind = click.Path(path_type=Path)
    elif int in types:
        kind = int
    elif float in types:
        kind = float
    default = field.default
    shown = (
        "" if default in (None, ()) else f"  [default: {', '.join(default) if isinstance(default, tuple) else default}]"
    )
    return click.Option(
        [f"--{name.replace('_', '-')}"],
        type=kind,
        multiple=name in _REPEATED,
        help=f"{field.description}{shown}",
    )


def serve_command(config: Path | None, **flags: Any) -> None:  # noqa: ANN401 - one for each setting
    """Serve the models of a repository over gRPC and HTTP.

    Every setting can also be an environment variable (REPSERVE_MAX_QUEUE_SIZE for --max-queue-size) or a key of the
    TOML file given with --config (max_queue_size = 512). Flags override the environment, which overrides the file.
    """
    from repserve_server.process import open_standard_descriptors
    from repserve_server.supervisor.ports import PortTakenError
    from repserve_server.supervisor.run import run_server

    open_standard_descriptors()
    given = {name: value for name, value in flags.items() if value not in (None, ())}
    try:
        settings = load_settings(given, config)
        configure_logging("supervisor", settings.log_level, settings.log_format)
        sys.exit(asyncio.run(run_server(settings)))
    except (SettingsError, RepositoryError, PortTakenError) as error:
        raise click.ClickException(str(error)) from error


serve = click.Command(
    "serve",
    callback=serve_command,
    help=serve_command.__doc__,
    params=[
        click.Option(
            ["--config"],
            type=click.Path(path_type=Path),
            envvar=f"{ENVIRONMENT_PREFIX}CONFIG",
            help="TOML file of settings.",
        ),
        *(_option(name, field) for name, field in Settings.model_fields.items()),
    ],
)


@click.command()
@click.option("--model-repository", type=click.Path(path_type=Path), default=Path("model_repo"), show_default=True)
def models(model_repository: Path) -> None:
    """List the models of a repository, and what they lack to be served."""
    try:
        folders = scan_repository(model_repository)
    except RepositoryError as error:
        raise click.ClickException(str(error)) from error
    if not folders:
        raise click.ClickException(f"{model_repository} holds no model folders")
    width = max(len(folder.name) for folder in folders)
    for folder in folders:
        state = f"not ready: {folder.problem}" if folder.problem else _describe_versions(folder)
        click.echo(f"{folder.name:<{width}}  {state}")
        if folder.caution:
            click.echo(f"{'':<{width}}  {folder.caution}")
        if folder.config.description:
            click.echo(f"{'':<{width}}  {folder.config.description}")


@click.command()
@click.argument("model")
@click.argument("images", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model-repository", type=click.Path(path_type=Path), default=Path("model_repo"), show_default=True)
@click.option("--version", "number", type=int, help="Version of the model.  [default: the newest]")
@click.option("--device", default="cpu", show_default=True, help="Device to run it on.")
def golden(model: str, images: tuple[Path, ...], model_repository: Path, number: int | None, device: str) -> None:
    """Record how a model classifies IMAGES now, as a check that each later version must pass.

    Copies the images into the model's folder golden/ and writes golden.toml beside them. A version that predicts
    another class, or a probability that differs by more than the tolerance in that file, is not served.
    """
    from repserve_server.doctor.golden import record_golden

    try:
        folder = _find_model(model_repository, model)
        settings = Settings(model_repository=model_repository, device=(device,))
        lines = record_golden(folder, number, images, settings)
    except RepositoryError as error:
        raise click.ClickException(str(error)) from error
    for line in lines:
        click.echo(line)
    click.echo(f"wrote {golden_file(folder.path)}")


def _find_model(repository: Path, name: str) -> ModelFolder:
    folder = next((folder for folder in scan_repository(repository) if folder.name == name), None)
    if folder is None or folder.problem:
        raise RepositoryError(folder.problem if folder else f"{repository} has no model {name!r}")
    return folder


def _describe_versions(folder: ModelFolder) -> str:
    served = ", ".join(str(version.number) for version in folder.chosen)
    others = ", ".join(str(version.number) for version in folder.versions if version not in folder.chosen)
    return f"version {served}" + (f" (not served: {others})" if others else "")
