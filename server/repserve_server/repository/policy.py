"""Which versions of a model are to be served."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt


class Latest(BaseModel):
    """The newest so many versions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    latest: PositiveInt = 1


VersionPolicy = Latest | Literal["all"] | Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
"""``{latest = 2}``, ``"all"``, or a list of version numbers."""


def choose(numbers: Iterable[int], policy: VersionPolicy) -> tuple[int, ...]:
    """Of the versions that are there, the ones that are to be served, ascending."""
    ascending = sorted(numbers)
    if isinstance(policy, Latest):
        return tuple(ascending[-policy.latest :])
    if policy == "all":
        return tuple(ascending)
    return tuple(number for number in ascending if number in policy)
