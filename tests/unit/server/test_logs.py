from __future__ import annotations

import io
import json
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from repserve_server.logs import LogFormat, configure_logging

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger("repserve_server.test")
EXTRA = {"request_id": "order-17", "method": "Classify", "code": "INTERNAL"}


@contextmanager
def captured(form: LogFormat, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What is logged meanwhile, as a process of a server would log it; pytest's own handlers come back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    output = io.StringIO()
    monkeypatch.setattr("sys.stderr", output)
    root.handlers = []
    try:
        configure_logging("frontend 0", "info", form)
        yield output
    finally:
        root.handlers, root.level = handlers, level


def test_a_line_of_text_says_when_how_bad_where_and_what(monkeypatch: pytest.MonkeyPatch) -> None:
    with captured("text", monkeypatch) as output:
        logger.warning("the %s is slow", "disk")
        logger.debug("not asked for")
        logger.error("a request failed", extra=EXTRA)
    first, second = output.getvalue().splitlines()
    assert first.endswith("Z WARNING [frontend 0] the disk is slow")
    assert second.endswith("[frontend 0] a request failed request_id=order-17 method=Classify code=INTERNAL")


def test_a_name_cannot_begin_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with captured("text", monkeypatch) as output:
        logger.info("model %s is not there", "x\n2026-01-31T12:00:00.000Z ERROR forged\x1b[2J\u2028grün")
    (line,) = output.getvalue().split("\n")[:-1]
    assert line.endswith(r"model x\n2026-01-31T12:00:00.000Z ERROR forged\x1b[2J\u2028grün is not there")


def test_neither_can_what_else_is_said_of_a_request_nor_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    with captured("text", monkeypatch) as output:
        logger.error("failed", extra={"method": "POST /x\nforged"}, exc_info=ValueError("bad\nforged"))
    first, *others = output.getvalue().splitlines()
    assert first.endswith(r"failed method=POST /x\nforged")
    assert others == ["  ValueError: bad", "  forged"]


def test_a_line_of_json_is_an_object(monkeypatch: pytest.MonkeyPatch) -> None:
    with captured("json", monkeypatch) as output:
        logger.info("ready: %d models\nand a second line", 2)
        logger.error("a request failed", exc_info=ZeroDivisionError(), extra=EXTRA)
    first, second = (json.loads(line) for line in output.getvalue().splitlines())
    time = first.pop("time")
    assert len(time) == len("2026-01-31T12:00:00.000Z")
    assert time.endswith("Z")
    assert first == {"level": "INFO", "process": "frontend 0", "message": "ready: 2 models\nand a second line"}
    assert EXTRA.items() <= second.items()
    assert "ZeroDivisionError" in second["exception"]
