"""Which versions of a model are served."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)


class Latest(BaseModel):
    """The newest versions, so many."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    latest: PositiveInt = 1


def _explain(value: object, read: ValidatorFunctionWrapHandler) -> object:
    """One message instead of one for each of the three kinds."""
    try:
        return read(value)
    except ValidationError as error:
        raise ValueError('expected {latest = 2}, "all", or a list of version numbers such as [1, 3]') from error


VersionPolicy = Annotated[
    Latest | Literal["all"] | Annotated[tuple[PositiveInt, ...], Field(min_length=1)],
    WrapValidator(_explain),
]
"""``{latest = 2}``, ``"all"``, or a list of version numbers."""


def choose(numbers: Iterable[int], policy: VersionPolicy) -> tuple[int, ...]:
    """Choose the versions to serve of those that exist, ascending."""
    ascending = sorted(numbers)
    if isinstance(policy, Latest):
        return tuple(ascending[-policy.latest :])
    if policy == "all":
        return tuple(ascending)
    return tuple(number for number in ascending if number in policy)
