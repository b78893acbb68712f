"""The context of an RPC, as gRPC hands it to a servicer."""

from __future__ import annotations

from typing import Any, TypeAlias

Context: TypeAlias = Any
"""grpc.aio.ServicerContext, whose types do not fit both kinds of RPC."""


def headers_of(context: Context) -> dict[str, str]:
    """Return the metadata of an RPC, without binary entries."""
    metadata = context.invocation_metadata() or ()
    return {key: value for key, value in metadata if isinstance(value, str)}
