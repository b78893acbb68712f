"""The protocol as it was promised: nothing that old clients and servers rely on may change.

``repserve_v1_contract.json`` beside this file records every service, method, message and field. A field or method
that was removed, renumbered or given another type breaks peers that are in use. Additions are fine, and are recorded
with ``python tests/unit/protos/test_wire_compatibility.py --record``, which refuses to record a breaking change.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, FileDescriptor, ServiceDescriptor

from repserve_protos.v1 import classification_pb2

RECORD = Path(__file__).with_name("repserve_v1_contract.json")
HOW_TO_RECORD = "record additions with: python tests/unit/protos/test_wire_compatibility.py --record"
Contract = dict[str, Any]

_TYPES = {
    getattr(FieldDescriptor, name): name.removeprefix("TYPE_").lower()
    for name in dir(FieldDescriptor)
    if name.startswith("TYPE_")
}


def describe(file: FileDescriptor) -> Contract:
    """The contract of a .proto file as plain data."""
    messages: Contract = {}
    for message in file.message_types_by_name.values():
        _describe_message(message, messages)
    return {
        "package": file.package,
        "services": {service.full_name: _describe_service(service) for service in file.services_by_name.values()},
        "messages": messages,
        "enums": {enum.full_name: _describe_enum(enum) for enum in file.enum_types_by_name.values()},
    }


def _describe_service(service: ServiceDescriptor) -> Contract:
    return {
        method.name: {
            "input": method.input_type.full_name,
            "output": method.output_type.full_name,
            "client_streaming": method.client_streaming,
            "server_streaming": method.server_streaming,
        }
        for method in service.methods
    }


def _describe_message(message: Descriptor, messages: Contract) -> None:
    messages[message.full_name] = {field.name: _describe_field(field) for field in message.fields}
    for nested in message.nested_types:
        _describe_message(nested, messages)


def _describe_field(field: FieldDescriptor) -> Contract:
    kind = field.message_type or field.enum_type
    return {
        "number": field.number,
        "type": _TYPES[field.type] if kind is None else f"{_TYPES[field.type]} {kind.full_name}",
        "label": "repeated" if field.is_repeated else "singular",
        "oneof": field.containing_oneof.name if field.containing_oneof else None,
    }


def _describe_enum(enum: EnumDescriptor) -> Contract:
    return {value.name: value.number for value in enum.values}


def breaking_changes(recorded: Contract, live: Contract, path: str = "") -> list[str]:
    """What the record has and the live contract has not, or has otherwise."""
    changes = []
    for key, value in recorded.items():
        place = f"{path}/{key}"
        if key not in live:
            changes.append(f"{place} is gone")
        elif isinstance(value, dict):
            changes += breaking_changes(value, live[key], place)
        elif live[key] != value:
            changes.append(f"{place} was {value!r} and is {live[key]!r}")
    return changes


def read_record() -> Contract:
    contract: Contract = json.loads(RECORD.read_text(encoding="utf-8"))
    return contract


def test_nothing_that_was_promised_has_changed() -> None:
    changes = breaking_changes(read_record(), describe(classification_pb2.DESCRIPTOR))
    assert not changes, "these changes break clients and servers in use: " + "; ".join(changes)


def test_additions_are_recorded() -> None:
    live = describe(classification_pb2.DESCRIPTOR)
    additions = breaking_changes(live, read_record())
    assert not additions, f"not in the record: {'; '.join(additions)}. {HOW_TO_RECORD}"


def _remove_field(contract: Contract) -> None:
    del contract["messages"]["repserve.v1.ClassifyRequest"]["top_k"]


def _renumber_field(contract: Contract) -> None:
    contract["messages"]["repserve.v1.ClassifyRequest"]["top_k"]["number"] = 9


def _retype_field(contract: Contract) -> None:
    contract["messages"]["repserve.v1.RankedClass"]["probability"]["type"] = "double"


def _repeat_field(contract: Contract) -> None:
    contract["messages"]["repserve.v1.ClassifyResponse"]["model"]["label"] = "repeated"


def _move_out_of_oneof(contract: Contract) -> None:
    contract["messages"]["repserve.v1.ClassifyRequest"]["pixels"]["oneof"] = None


def _remove_method(contract: Contract) -> None:
    del contract["services"]["repserve.v1.Classification"]["Classify"]


def _stream_method(contract: Contract) -> None:
    contract["services"]["repserve.v1.Classification"]["Classify"]["server_streaming"] = True


def _rename_package(contract: Contract) -> None:
    contract["package"] = "repserve.v2"


@pytest.mark.parametrize(
    "change",
    [
        _remove_field,
        _renumber_field,
        _retype_field,
        _repeat_field,
        _move_out_of_oneof,
        _remove_method,
        _stream_method,
        _rename_package,
    ],
)
def test_a_breaking_change_is_found(change: Callable[[Contract], None]) -> None:
    changed = copy.deepcopy(read_record())
    change(changed)
    assert len(breaking_changes(read_record(), changed)) == 1


def test_an_addition_is_no_breaking_change() -> None:
    changed = copy.deepcopy(read_record())
    changed["messages"]["repserve.v1.ClassifyRequest"]["urgency"] = {"number": 99, "type": "uint32"}
    assert breaking_changes(read_record(), changed) == []
    assert breaking_changes(changed, read_record()) == ["/messages/repserve.v1.ClassifyRequest/urgency is gone"]


def record() -> int:
    """Write the live contract down, unless it breaks the one that was written down before."""
    live = describe(classification_pb2.DESCRIPTOR)
    changes = breaking_changes(read_record(), live) if RECORD.exists() else []
    if changes:
        sys.stderr.write("refused, these changes break clients and servers in use:\n" + "\n".join(changes) + "\n")
        return 1
    RECORD.write_text(json.dumps(live, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    if sys.argv[1:] != ["--record"]:
        sys.exit(HOW_TO_RECORD)
    sys.exit(record())
