"""A check: what was looked at, how it is, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum


class Group(StrEnum):
    """What a check belongs to."""

    ASCEND = "Ascend"
    PACKAGES = "Python packages"
    MODELS = "Models"
    MACHINE = "Machine"


class Status(StrEnum):
    """How it is. Only a problem keeps the server from working."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    NOT_NEEDED = "not needed"


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        group: its group.
        name: what was looked at.
        status: how it is.
        found: a sentence without its full stop that says what is there.
        advice: what to do; never empty for a warning or a problem.
    """

    group: Group
    name: str
    status: Status
    found: str
    advice: str = ""

    def __post_init__(self) -> None:
        if self.status in (Status.WARNING, Status.PROBLEM) and not self.advice:
            raise ValueError(f"the check {self.name!r} says what is wrong, and not what to do")


def not_needed(checks: Iterable[Check], why: str) -> list[Check]:
    """The checks for something that these settings do not use: what is wrong there is no matter."""
    return [
        check
        if check.status is Status.OK
        else replace(check, status=Status.NOT_NEEDED, found=f"{why}: {check.found}", advice="")
        for check in checks
    ]


def as_warnings(checks: Iterable[Check], why: str = "") -> list[Check]:
    """The checks with warnings for problems, where something else shows that serving can work; ``why`` says what."""
    return [
        replace(check, status=Status.WARNING, found=f"{check.found}{f'; {why}' if why else ''}")
        if check.status is Status.PROBLEM
        else check
        for check in checks
    ]


def can_serve(checks: Iterable[Check]) -> bool:
    """Whether no check found a problem."""
    return all(check.status is not Status.PROBLEM for check in checks)


def counted(number: int, noun: str) -> str:
    """``1 chip``, ``2 chips``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
