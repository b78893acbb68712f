"""The root command ``repserve``; a subcommand's module is imported when the subcommand is used."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from dataclasses import dataclass

import click
from typing_extensions import override

_OWN_PREFIX = "repserve_"


@dataclass(frozen=True)
class Subcommand:
    """Where a subcommand is defined, and its line in the help."""

    module: str
    attribute: str
    """Name of the click command in the module."""
    summary: str
    extra: str | None = None
    """The extra of the distribution that installs what the module imports."""


SUBCOMMANDS = {
    "serve": Subcommand("repserve_server.cli", "serve", "Run the server on a model repository.", "server"),
    "models": Subcommand("repserve_server.cli", "models", "List the models of a model repository.", "server"),
    "golden": Subcommand("repserve_server.cli", "golden", "Record how a model classifies images.", "server"),
    "doctor": Subcommand("repserve_server.doctor.command", "doctor", "Check whether this machine can serve.", "server"),
    "classify": Subcommand("repserve_client.classify", "classify", "Classify image files on a running server."),
    "bench": Subcommand("repserve_bench.cli", "bench", "Measure accuracy and speed of a running server.", "bench"),
    "convert": Subcommand("repserve_convert.cli", "convert", "Make models that the server can run.", "convert"),
}


class MissingPackagesError(click.ClickException):
    """A subcommand needs packages that the base install does not have."""

    exit_code = 2


class LazyGroup(click.Group):
    """Lists its subcommands from a table, so that help needs none of their packages."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(SUBCOMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one subcommand.

        Raises:
            MissingPackagesError: When it needs packages that are not installed.
        """
        subcommand = SUBCOMMANDS.get(cmd_name)
        return None if subcommand is None else _load(cmd_name, subcommand)

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, subcommand.summary) for name, subcommand in SUBCOMMANDS.items()])


def _load(name: str, subcommand: Subcommand) -> click.Command:
    try:
        module = importlib.import_module(subcommand.module)
    except ModuleNotFoundError as error:
        if subcommand.extra is None or not _is_missing_package(error.name):
            raise
        raise MissingPackagesError(
            f"repserve {name} needs packages that are not installed (missing: {error.name}): "
            f"pip install 'repserve[{subcommand.extra}]'"
        ) from error
    command: click.Command = getattr(module, subcommand.attribute)
    return command


def _is_missing_package(module: str | None) -> bool:
    """Return whether an import failed because a third-party package is not installed, and for no other reason."""
    package = (module or "").partition(".")[0]
    return (
        package != ""
        and not package.startswith(_OWN_PREFIX)
        and package not in sys.stdlib_module_names
        and importlib.util.find_spec(package) is None
    )


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="repserve", message="%(package)s %(version)s")
def main() -> None:
    """Serve image classification models on NPUs and CPUs, and use them."""


if __name__ == "__main__":
    main(prog_name="repserve")
