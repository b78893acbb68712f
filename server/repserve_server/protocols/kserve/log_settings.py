"""Triton's log settings, as far as they mean something here: from which level the server logs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from repserve_server.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from repserve_server.logs import LogLevel

SettingValue = bool | int | str
_FIXED: dict[str, SettingValue] = {"log_file": "", "log_error": True, "log_format": "ISO8601"}
"""What cannot be changed: the log goes to standard error, and errors are always in it."""
_KINDS = {bool: "true or false", int: "a whole number", str: "text"}
_NAMES = ("log_info", "log_warning", "log_verbose_level", *_FIXED)


def read_level(settings: Mapping[str, SettingValue], present: LogLevel) -> LogLevel:
    """The level that these settings ask for, on top of the present one.

    Raises:
        InvalidRequestError: a setting is unknown, has a wrong value, or cannot be changed.
    """
    said = write_settings(present)
    for name, value in settings.items():
        if name not in _NAMES:
            raise InvalidRequestError(f"there is no log setting {name!r}; the settings are {', '.join(_NAMES)}")
        if name in _FIXED and value != _FIXED[name]:
            raise InvalidRequestError(f"the log setting {name!r} is {_FIXED[name]!r} and cannot be changed")
        if type(value) is not type(said[name]):
            raise InvalidRequestError(f"the log setting {name!r} is {value!r}; it is {_KINDS[type(said[name])]}")
        said[name] = value
    if said["log_verbose_level"]:
        return "debug"
    if said["log_info"]:
        return "info"
    return "warning" if said["log_warning"] else "error"


def write_settings(level: LogLevel) -> dict[str, SettingValue]:
    """A level as Triton's settings."""
    return {
        **_FIXED,
        "log_info": level in ("debug", "info"),
        "log_warning": level != "error",
        "log_verbose_level": int(level == "debug"),
    }
