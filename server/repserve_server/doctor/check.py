"""A check: what was examined, its status, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum


class Group(StrEnum):
    """The group that a check belongs to."""

    ASCEND = "Ascend"
    PACKAGES = "Python packages"
    MODELS = "Models"
    MACHINE = "Machine"


class Status(StrEnum):
    """The outcome of a check. Only a problem keeps the server from working."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    NOT_NEEDED = "not needed"


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        group: its group.
        name: what was examined.
        status: the outcome.
        found: a sentence, without its full stop, on what was found.
        advice: what to do; never empty for a warning or a problem.
    """

    group: Group
    name: str
    status: Status
    found: str
    advice: str = ""

    def __post_init__(self) -> None:
        if self.status in (Status.WARNING, Status.PROBLEM) and not self.advice:
            raise ValueError(f"the check {self.name!r} has no advice")


def not_needed(checks: Iterable[Check], why: str) -> list[Check]:
    """Mark checks of something that these settings do not use: problems there do not matter."""
    return [
        check
        if check.status is Status.OK
        else replace(check, status=Status.NOT_NEEDED, found=f"{why}: {check.found}", advice="")
        for check in checks
    ]


def as_warnings(checks: Iterable[Check], why: str = "") -> list[Check]:
    """Turn problems into warnings where something else, ``why``, shows that serving can work."""
    return [
        replace(check, status=Status.WARNING, found=f"{check.found}{f'; {why}' if why else ''}")
        if check.status is Status.PROBLEM
        else check
        for check in checks
    ]


def can_serve(checks: Iterable[Check]) -> bool:
    """Return whether no check found a problem."""
    return all(check.status is not Status.PROBLEM for check in checks)


def counted(number: int, noun: str) -> str:
    """Write a number with its noun: ``1 chip``, ``2 chips``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
