"""Triton's log settings and the server's one level."""

from __future__ import annotations

from typing import get_args

import pytest

from repserve_server.errors import InvalidRequestError
from repserve_server.logs import LogLevel
from repserve_server.protocols.kserve.documents import SettingValue
from repserve_server.protocols.kserve.log_settings import read_level, write_settings


@pytest.mark.parametrize("level", get_args(LogLevel))
def test_a_level_is_read_as_it_was_written(level: LogLevel) -> None:
    for present in get_args(LogLevel):
        assert read_level(write_settings(level), present) == level


@pytest.mark.parametrize(
    ("settings", "present", "level"),
    [
        ({"log_verbose_level": 1}, "error", "debug"),
        ({"log_verbose_level": 0}, "debug", "info"),
        ({"log_info": False}, "info", "warning"),
        ({"log_info": False, "log_warning": False}, "debug", "debug"),
        ({}, "warning", "warning"),
    ],
)
def test_settings_change_the_present_level(
    settings: dict[str, SettingValue], present: LogLevel, level: LogLevel
) -> None:
    assert read_level(settings, present) == level


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"log_colour": True}, "no log setting 'log_colour'"),
        ({"log_file": "/somewhere"}, "'log_file' is '' and cannot be changed"),
        ({"log_error": False}, "'log_error' is True and cannot be changed"),
        ({"log_info": 1}, "'log_info' is 1; expected true or false"),
        ({"log_verbose_level": "2"}, "'log_verbose_level' is '2'; expected a whole number"),
    ],
)
def test_other_settings_are_refused(settings: dict[str, SettingValue], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        read_level(settings, "info")
