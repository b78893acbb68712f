"""Our KServe v2 messages against those of NVIDIA's client: every number, type and label is the published one."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

DUMP = """
import importlib, json, sys
fields, methods, enums = {}, {}, {}
def walk(message):
    for field in message.fields:
        other = field.message_type or field.enum_type
        fields[f"{message.full_name}.{field.name}"] = [
            field.number, field.type, field.is_repeated, other.full_name if other else "",
        ]
    for nested in message.nested_types:
        walk(nested)
    for enum in message.enum_types:
        enums[enum.full_name] = {value.name: value.number for value in enum.values}
for name in sys.argv[1:]:
    descriptor = importlib.import_module(name).DESCRIPTOR
    for message in descriptor.message_types_by_name.values():
        walk(message)
    for enum in descriptor.enum_types_by_name.values():
        enums[enum.full_name] = {value.name: value.number for value in enum.values}
    for service in descriptor.services_by_name.values():
        for m in service.methods:
            methods[m.full_name] = [
                m.input_type.full_name, m.output_type.full_name, m.client_streaming, m.server_streaming,
            ]
print(json.dumps([fields, methods, enums]))
"""


def dump(*modules: str) -> list[dict[str, object]]:
    # In a process of its own: both register the same names.
    ended = subprocess.run(
        [sys.executable, "-c", DUMP, *modules], capture_output=True, text=True, check=True, timeout=60
    )
    tables: list[dict[str, object]] = json.loads(ended.stdout)
    return tables


@pytest.fixture(scope="module")
def both() -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    ours = dump(
        "repserve_protos.inference.grpc_service_pb2",
        "repserve_protos.inference.model_config_pb2",
    )
    return ours, dump("tritonclient.grpc.service_pb2", "tritonclient.grpc.model_config_pb2")


@pytest.mark.parametrize("table", [0, 1, 2], ids=["fields", "methods", "enums"])
def test_what_we_declare_is_as_published(
    both: tuple[list[dict[str, object]], list[dict[str, object]]], table: int
) -> None:
    ours, theirs = both[0][table], both[1][table]
    assert len(ours) > 10 or table == 2
    assert {name: value for name, value in ours.items() if theirs.get(name) != value} == {}


def test_we_declare_every_method(both: tuple[list[dict[str, object]], list[dict[str, object]]]) -> None:
    assert both[0][1] == both[1][1]
