"""No test sleeps: it waits for a condition or an event, with a time limit."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from support.harness import ROOT

EXCEPTIONS = {("tests/support/harness.py", "wait_until"), ("tests/support/devices.py", "take_time")}
"""The one function that polls, and the one that stands for the time that a device takes."""


def sleeps_in(source: str) -> list[int]:
    """Lines that name a function that sleeps, or wait with a time limit for an event that nobody sets."""
    tree = ast.parse(source)
    never_set = _events(tree) - {
        _name(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "set"
    }
    lines = set[int]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "sleep" and isinstance(node.value, ast.Name):
            lines |= {node.lineno} if node.value.id in ("time", "asyncio") else set()
        elif isinstance(node, ast.ImportFrom) and node.module in ("time", "asyncio"):
            lines |= {node.lineno for alias in node.names if alias.name == "sleep"}
        elif isinstance(node, ast.Call):
            # asyncio's events have no limit of their own, and without one a task that is cancelled waits rightly.
            limited = node.args and isinstance(node.args[0], ast.Call) and ast.unparse(node.func).endswith("wait_for")
            call = node.args[0] if limited else node
            assert isinstance(call, ast.Call)
            if (limited or node.args or node.keywords) and _waits_for(call, never_set):
                lines.add(node.lineno)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "import " in node.value:
            lines |= {node.lineno + line for line in _sleeps_in_script(node.value)}
    return sorted(lines)


def _events(tree: ast.AST) -> set[str]:
    """Names of events that are made here, and the making of one in place."""
    found = {"Event()"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            found |= set(_pairs(node.targets[0], node.value))
    return found


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[str]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for one, its in zip(target.elts, value.elts, strict=True):
            yield from _pairs(one, its)
    elif ast.unparse(value).endswith("Event()"):
        yield _name(target)


def _name(node: ast.expr) -> str:
    """The last part: whose attribute an event is differs from place to place."""
    return ast.unparse(node).rpartition(".")[2]


def _waits_for(call: ast.Call, events: set[str]) -> bool:
    return isinstance(call.func, ast.Attribute) and call.func.attr == "wait" and _name(call.func.value) in events


def _sleeps_in_script(text: str) -> list[int]:
    """Of a text that may be a script which a test runs."""
    try:
        return sleeps_in(text)
    except SyntaxError:
        return []


SLEEP = "sleep"


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        (f"import time\ntime.{SLEEP}(1)\nasync def f():\n    await asyncio.{SLEEP}(0)\n", [2, 4]),
        (f"from time import {SLEEP}\n", [1]),
        ("threading.Event().wait" + "(0.4)\n", [1]),
        ("pause, other = threading.Event(), 2\npause.wait" + "(timeout=1.0)\n", [2]),
        ("self._tick = asyncio.Event()\nawait asyncio.wait_for(self._tick.wait()" + ", 0.01)\n", [2]),
        (f"SCRIPT = '''\nimport time\ntime.{SLEEP}(1)\n'''\n", [4]),
        ("ready = threading.Event()\nstart(ready.set)\nassert ready.wait(20)\n", []),
        ("await asyncio.Event().wait()\n", []),
        ("worker.wait(20)\n", []),
    ],
)
def test_sleeps_are_recognised(source: str, lines: list[int]) -> None:
    assert sleeps_in(source) == lines


def test_no_test_sleeps() -> None:
    found = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        name, source = str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
        allowed = {line for file, function in EXCEPTIONS if file == name for line in _lines_of(source, function)}
        found += [f"{name}:{line}" for line in sleeps_in(source) if line not in allowed]
    assert found == []


def _lines_of(source: str, function: str) -> range:
    (node,) = (n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef) and n.name == function)
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)
