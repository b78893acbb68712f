"""The CANN of this machine: its atc, and the environment that it needs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from repserve_convert.errors import ConversionError
from repserve_server.ascend import installation

SOURCE_SECONDS = 60.0


@dataclass(frozen=True)
class Cann:
    """CANN's compiler, ready to be started.

    Attributes:
        atc: the program, absolute.
        environment: the variables to start it with.
        script: the set_env.sh that set them; None where atc was in PATH already.
    """

    atc: Path
    environment: Mapping[str, str]
    script: Path | None = None

    @property
    def version(self) -> str:
        """The toolkit's version; empty where its folder does not have it."""
        homes = [Path(self.environment[name]) for name in installation.HOME_VARIABLES if self.environment.get(name)]
        return next(filter(None, map(installation.cann_version, homes)), "")


def find_cann(folder: Path | None, environment: Mapping[str, str]) -> Cann:
    """Find atc in PATH, or else with the first set_env.sh that leads to one.

    Args:
        folder: where CANN is; None to search the usual places.
        environment: the variables of this process.

    Raises:
        ConversionError: there is no atc; the message says where it was searched and what to install.
    """
    if folder is None and (atc := _atc_in_path(environment)):
        return Cann(atc, environment)
    useless = []
    for script in find_scripts(folder, environment):
        sourced = source_script(script, environment)
        if atc := _atc_in_path(sourced):
            return Cann(atc, sourced, script)
        useless.append(f"{script} exists but provides no atc")
    places = folder or f"{installation.ASCEND_FOLDER} or ~/Ascend, nor where ASCEND_HOME_PATH points"
    looked = "; ".join([*([] if folder else ["not in PATH"]), *(useless or [f"no set_env.sh in or below {places}"])])
    raise ConversionError(
        f"atc was not found ({looked}): install the CANN toolkit (nnrt, the runtime alone, has no atc), or name its "
        "folder with --cann; --dry-run prints the commands for another machine"
    )


def find_scripts(folder: Path | None, environment: Mapping[str, str]) -> list[Path]:
    """List the set_env.sh files of this machine, the likeliest first."""
    found = installation.find_cann(environment, within=None if folder is None else str(folder.absolute()))
    return list(dict.fromkeys(Path(cann.script) for cann in found if cann.script))


def source_script(script: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables after ``source set_env.sh`` in a shell of its own.

    Raises:
        ConversionError: the script cannot be sourced.
    """
    try:
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-c", 'source "$1" >&2; env -0', "bash", str(script)],  # noqa: S607
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SOURCE_SECONDS,
            check=False,
            text=True,
            errors="surrogateescape",
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConversionError(f"{script} cannot be sourced in bash: {error}") from error
    variables = dict(entry.split("=", 1) for entry in done.stdout.split("\0") if "=" in entry)
    if not variables:
        reason = done.stderr.strip().rpartition("\n")[2] or f"exit status {done.returncode}"
        raise ConversionError(f"{script} cannot be sourced in bash: {reason}")
    return variables


def _atc_in_path(environment: Mapping[str, str]) -> Path | None:
    found = shutil.which("atc", path=environment.get("PATH", ""))
    return None if found is None else Path(found).absolute()
