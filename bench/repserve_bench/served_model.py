"""Which model of a server a replay goes to, and what runs it there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from repserve_bench.load import LoadError
from repserve_client.channels import channel_options
from repserve_client.errors import from_rpc_error
from repserve_client.results import ModelInfo
from repserve_protos.v1 import classification_pb2, classification_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Sequence

LIST_TIMEOUT = 10.0
NO_LABELS = "not measured: no labels"


def list_models(address: str) -> list[ModelInfo]:
    """Asks a server for its models.

    Raises:
        LoadError: The server does not answer.
    """
    with grpc.insecure_channel(address, options=channel_options(address)) as channel:
        stub = classification_pb2_grpc.ClassificationStub(channel)
        try:
            response = stub.ListModels(classification_pb2.ListModelsRequest(), timeout=LIST_TIMEOUT)
        except grpc.RpcError as error:
            reason = from_rpc_error(error)
            raise LoadError(
                f"the server at {address} does not list its models ({reason}): "
                "start one with 'repserve serve', or name another with --server"
            ) from error
    return [ModelInfo.from_message(model) for model in response.models]


def choose_model(models: Sequence[ModelInfo], name: str = "", version: str = "") -> ModelInfo:
    """Finds the model to replay to, as the server itself would choose it.

    Args:
        models: What the server lists.
        name: Name of the model; may be empty when only one is ready.
        version: Version, or empty for the one that is ready.

    Raises:
        LoadError: There is no such model, it is not ready, or several are and none was named.
    """
    found = [m for m in models if (not name or m.name == name) and (not version or m.version == version)]
    ready = [model for model in found if model.ready]
    listed = ", ".join(f"{m.name} {m.version}".strip() for m in models) or "none"
    if not found:
        raise LoadError(f"the server has no model {name!r} {version}".rstrip() + f"; it lists: {listed}")
    if not ready:
        first = found[0]
        raise LoadError(f"the model {first.name} is not ready: {first.reason or 'the server gives no reason'}")
    if len({model.name for model in ready}) > 1:
        raise LoadError(f"several models are ready: name one with --model; the server lists: {listed}")
    return max(ready, key=lambda model: version_order(model.version))


def version_order(version: str) -> tuple[bool, int, str]:
    """Returns what to sort versions by: 10 is after 9, and a number after anything else."""
    return (version.isdecimal(), int(version) if version.isdecimal() else 0, version)


def is_simulated(model: ModelInfo) -> bool:
    """Whether any of the model's workers makes its scores up, so that no accuracy can be measured."""
    return any(instance.simulated for instance in model.instances)


def accuracy_missing(model: ModelInfo, *, labelled: bool) -> str:
    """Says why no accuracy is told; empty where one is."""
    if is_simulated(model):
        return "not measured: simulated"
    if model.caution:
        return f"not measured: {model.caution}"
    return "" if labelled else NO_LABELS


def describe_instances(model: ModelInfo) -> dict[str, list[str]]:
    """Returns the distinct devices, backends and precisions of the model's workers, in their order."""
    return {
        "devices": list(dict.fromkeys(instance.device for instance in model.instances)),
        "backends": list(dict.fromkeys(instance.backend for instance in model.instances)),
        "precisions": list(dict.fromkeys(instance.precision for instance in model.instances)),
    }
