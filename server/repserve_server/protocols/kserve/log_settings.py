"""Triton's log settings, as far as they apply here: they choose the level from which the server logs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from repserve_server.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from repserve_server.logs import LogLevel
    from repserve_server.protocols.kserve.documents import SettingValue

_FIXED: dict[str, SettingValue] = {"log_file": "", "log_error": True, "log_format": "ISO8601"}
"""Settings that cannot be changed: the log goes to standard error and always includes errors."""
_KINDS = {bool: "true or false", int: "a whole number", str: "a string"}


def read_level(settings: Mapping[str, object], current: LogLevel) -> LogLevel:
    """Return the level that results when ``settings`` are applied to the current one.

    Raises:
        InvalidRequestError: a setting is unknown, has a wrong value, or cannot be changed.
    """
    merged = write_settings(current)
    for name, value in settings.items():
        if name not in merged:
            raise InvalidRequestError(f"there is no log setting {name!r}; the settings are {', '.join(merged)}")
        if name in _FIXED and value != _FIXED[name]:
            raise InvalidRequestError(f"log setting {name!r} is {_FIXED[name]!r} and cannot be changed")
        if not isinstance(value, bool | int | str) or type(value) is not type(merged[name]):
            raise InvalidRequestError(f"log setting {name!r} is {value!r}; expected {_KINDS[type(merged[name])]}")
        merged[name] = value
    if merged["log_verbose_level"]:
        return "debug"
    if merged["log_info"]:
        return "info"
    return "warning" if merged["log_warning"] else "error"


def write_settings(level: LogLevel) -> dict[str, SettingValue]:
    """Write a level as Triton's settings."""
    return {
        "log_info": level in ("debug", "info"),
        "log_warning": level != "error",
        "log_verbose_level": int(level == "debug"),
        **_FIXED,
    }
