"""Where CANN and the driver are installed, and whether the environment leads to them. Reads files, runs nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ASCEND_FOLDER = "/usr/local/Ascend"
ACL_LIBRARY = "libascendcl.so"
DRIVER_LIBRARY = "libascend_hal.so"
DEFAULT_GROUP = "HwHiAiUser"
_INSTALL_INFO = "/etc/ascend_install.info"
_PACKAGES = ("ascend-toolkit", "cann", "nnrt", "nnae")
"""Folders of CANN's packages; ``cann`` since CANN 8.5."""
HOME_VARIABLES = ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME")
"""Set by set_env.sh."""
_LOADER_FOLDERS = ("/lib64", "/usr/lib64", "/usr/lib", "/lib")
_VERSION = re.compile(r"^(?:version|package_version)\s*=\s*(\S+)", re.IGNORECASE | re.MULTILINE)
_RUNNING_VERSION = re.compile(r"^(?:toolkit|runtime)_running_version\s*=\s*\[(?:[^\]:]*:)?([^\]]+)\]", re.MULTILINE)


@dataclass(frozen=True)
class Cann:
    """An installation of CANN.

    Attributes:
        home: the folder that its ``set_env.sh`` makes ASCEND_HOME_PATH.
        script: path of that ``set_env.sh``; empty where it was not found.
        version: such as ``8.0.RC1``; empty where no file has it.
    """

    home: str
    script: str
    version: str


def below(root: Path, path: str) -> Path:
    """Map an absolute path to a machine whose files are below ``root``."""
    return root / path.lstrip("/")


def find_cann(environment: Mapping[str, str], root: Path = Path("/"), within: str | None = None) -> list[Cann]:
    """Find the installations of CANN: first the one that the environment names, then those in the usual folders.

    With ``within``, the absolute path of a folder, only those that are there.
    """
    home = environment.get("HOME", "")
    named = [environment[name].rstrip("/") for name in HOME_VARIABLES if environment.get(name)]
    parents = [ASCEND_FOLDER, f"{home}/Ascend", home]
    if within is not None:
        named, parents = [within], [within]
    homes = list(named)
    for parent in parents:
        for package in _PACKAGES:
            folder = f"{parent}/{package}"
            homes.append(f"{folder}/latest" if below(root, f"{folder}/latest").exists() else folder)
    found: dict[Path, Cann] = {}
    for home in homes:
        place = below(root, home)
        script = next(
            (
                f"{beside}/set_env.sh"
                for beside in (home, home.rpartition("/")[0])
                if below(root, f"{beside}/set_env.sh").is_file()
            ),
            "",
        )
        if place.is_dir() and (script or home in named):
            found.setdefault(place.resolve(), Cann(home, script, cann_version(place)))
    return list(found.values())


def cann_version(home: Path) -> str:
    """Read the version of the CANN in a folder, such as ``8.0.RC1``; empty where no file has it."""
    for file in sorted(home.glob("*-linux/ascend_*_install.info")):
        if found := _VERSION.search(_read(file)):
            return found[1]
    for name in ("version.cfg", "version.info"):
        text = _read(home / name)
        if found := _RUNNING_VERSION.search(text) or _VERSION.search(text):
            return found[1]
    return ""


def library_folder(library: str, environment: Mapping[str, str], root: Path = Path("/")) -> str | None:
    """Find the folder from which the loader takes a library: of LD_LIBRARY_PATH, or of /etc/ld.so.conf.d."""
    folders = [folder for folder in environment.get("LD_LIBRARY_PATH", "").split(os.pathsep) if folder]
    for file in sorted(below(root, "/etc/ld.so.conf.d").glob("*.conf")):
        folders += [line.strip() for line in _read(file).splitlines()]
    for folder in (*folders, *_LOADER_FOLDERS):
        if folder.startswith("/") and below(root, f"{folder}/{library}").exists():
            return folder
    return None


def driver_folder(root: Path = Path("/")) -> str:
    """Return the folder of the driver, as its installer recorded it, or the usual one."""
    return f"{_install_info(root).get('Driver_Install_Path_Param') or ASCEND_FOLDER}/driver"


def driver_version(root: Path = Path("/")) -> str:
    """Read the version of the driver, such as ``23.0.3``; empty where no file has it."""
    found = _VERSION.search(_read(below(root, f"{driver_folder(root)}/version.info")))
    return found[1] if found else ""


def driver_group(root: Path = Path("/")) -> str:
    """Return the name of the group whose members may use the devices."""
    return _install_info(root).get("UserGroup") or DEFAULT_GROUP


def _install_info(root: Path) -> dict[str, str]:
    """Read what the driver's installer recorded, such as ``UserGroup=HwHiAiUser``."""
    lines = (line.partition("=") for line in _read(below(root, _INSTALL_INFO)).splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


def _read(file: Path) -> str:
    """Read the text of a file; empty where it does not exist or may not be read."""
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
