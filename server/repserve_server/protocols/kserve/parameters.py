"""The parameters of KServe v2 and Triton's extensions, read the same way from both wires."""

from __future__ import annotations

from repserve_server.errors import InvalidRequestError
from repserve_server.protocols.kserve.tensors import Parameters, RegionSlice, RequestedOutput

REGION, BYTE_SIZE, OFFSET = "shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"
"""Where a tensor lies in shared memory."""
_SEQUENCE = ("sequence_id", "sequence_start", "sequence_end")


def read_number(parameters: Parameters, name: str) -> int:
    """Read a parameter that is a whole number; 0 when it is not given.

    Raises:
        InvalidRequestError: it is anything else, or negative.
    """
    value = parameters.get(name, 0)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidRequestError(f"parameter {name!r} is {value!r}; expected a whole number, 0 or more")
    return value


def read_region(parameters: Parameters) -> RegionSlice | None:
    """Read where a tensor lies in shared memory; None when it does not."""
    if REGION not in parameters:
        return None
    region = parameters[REGION]
    if not isinstance(region, str):
        raise InvalidRequestError(f"parameter {REGION!r} is {region!r}; expected the name of a registered region")
    return RegionSlice(region, read_number(parameters, OFFSET), read_number(parameters, BYTE_SIZE))


def write_region(place: RegionSlice) -> dict[str, str | int]:
    """Write the parameters of a tensor that lies in shared memory."""
    return {REGION: place.region, BYTE_SIZE: place.byte_size, OFFSET: place.offset}


def read_output(name: str, parameters: Parameters) -> RequestedOutput:
    """Read a requested output."""
    return RequestedOutput(name, read_number(parameters, "classification"), read_region(parameters))


def refuse_sequences(parameters: Parameters) -> None:
    """Refuse a request that belongs to a sequence.

    Raises:
        InvalidRequestError: it does.
    """
    for name in _SEQUENCE:
        if parameters.get(name):
            raise InvalidRequestError(
                f"parameter {name!r} is for stateful models; classification keeps no state, so leave it out"
            )
