"""The CANN of this machine: its atc, and the environment that it needs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from repserve_convert.errors import ConversionError
from repserve_server.ascend.installation import cann_version

SCRIPT_NAME = "set_env.sh"
SYSTEM_ROOT = Path("/usr/local/Ascend")
"""Where root installs CANN by default."""
DEFAULT_SCRIPT = SYSTEM_ROOT / "ascend-toolkit" / SCRIPT_NAME
HOME_VARIABLES = ("ASCEND_TOOLKIT_HOME", "ASCEND_HOME_PATH")
"""Variables that set_env.sh sets."""
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
        homes = [Path(self.environment[name]) for name in HOME_VARIABLES if self.environment.get(name)]
        return next(filter(None, map(cann_version, homes)), "")


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
    roots = ", ".join(str(root) for root in _roots(folder, environment))
    looked = "; ".join([*([] if folder else ["not in PATH"]), *(useless or [f"no {SCRIPT_NAME} in or below {roots}"])])
    raise ConversionError(
        f"atc was not found ({looked}): install the CANN toolkit (nnrt, the runtime alone, has no atc), or name its "
        "folder with --cann; --dry-run prints the commands for another machine"
    )


def find_scripts(folder: Path | None, environment: Mapping[str, str]) -> list[Path]:
    """List the set_env.sh files of this machine, the likeliest first."""
    # ascend-toolkit is the guide's; CANN 8.5 and newer install into cann.
    places = (SCRIPT_NAME, f"ascend-toolkit/{SCRIPT_NAME}", f"cann/{SCRIPT_NAME}")
    candidates = (root / place for root in _roots(folder, environment) for place in places)
    return list(dict.fromkeys(path for path in candidates if path.is_file()))


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


def _roots(folder: Path | None, environment: Mapping[str, str]) -> Sequence[Path]:
    """Return the folders to search. The script is beside ``latest``, which the variables name."""
    if folder is not None:
        roots = [folder]
    else:
        home = Path(environment.get("HOME", "~")).expanduser()
        named = [Path(environment[variable]) for variable in HOME_VARIABLES if environment.get(variable)]
        roots = [*named, SYSTEM_ROOT, home / "Ascend", home / "ascend-toolkit"]
    return [root.parent if root.name == "latest" else root for root in roots]
