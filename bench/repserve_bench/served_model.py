"""Which model of a server a replay goes to, and what runs it there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from repserve_bench.errors import LoadError
from repserve_client.client import Client
from repserve_client.errors import ClientError
from repserve_client.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from repserve_client.results import ModelInfo

LIST_TIMEOUT = 10.0
A0_NAME = re.compile("repvgg[-_ ]?a0(?![0-9])", re.IGNORECASE)
IMAGENET_CROP, IMAGENET_CLASSES = 224, 1000
NO_LABELS = "not measured: no labels"


def list_models(address: str) -> list[ModelInfo]:
    """Return the models that a server lists.

    Raises:
        LoadError: The server does not answer.
    """
    try:
        with Client(address, timeout=LIST_TIMEOUT, retry=RetryPolicy(max_attempts=1)) as client:
            return client.models()
    except (ClientError, ValueError) as error:
        raise LoadError(
            f"the server at {address} does not list its models ({error}): "
            "start one with 'repserve serve', or name another with --server"
        ) from error


def choose_model(models: Sequence[ModelInfo], name: str = "", version: str = "") -> ModelInfo:
    """Find the model to replay to, as the server itself would choose it.

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
        raise LoadError(f"the server has no model {name!r} {version}".rstrip() + f"; it has: {listed}")
    if not ready:
        first = found[0]
        raise LoadError(f"the model {first.name} is not ready: {first.reason or 'the server gives no reason'}")
    if len({model.name for model in ready}) > 1:
        raise LoadError(f"several models are ready: name one with --model; the server lists: {listed}")
    return max(ready, key=lambda model: version_order(model.version))


def version_order(version: str) -> tuple[bool, int, str]:
    """Return what to sort versions by: 10 is after 9, and a number after anything else."""
    return (version.isdecimal(), int(version) if version.isdecimal() else 0, version)


def is_simulated(model: ModelInfo) -> bool:
    """Whether any of the model's workers makes its scores up, so that no accuracy can be measured."""
    return any(instance.simulated for instance in model.instances)


def accuracy_missing(model: ModelInfo, *, labelled: bool) -> str:
    """Return why no accuracy is reported; empty where one is."""
    if is_simulated(model):
        return "not measured: simulated"
    if model.caution:
        return f"not measured: {model.caution}"
    return "" if labelled else NO_LABELS


def describe_instances(model: ModelInfo) -> dict[str, list[str]]:
    """Return the distinct devices, backends and precisions of the model's workers, in their order."""
    return {
        f"{kind}s": list(dict.fromkeys(getattr(instance, kind) for instance in model.instances))
        for kind in ("device", "backend", "precision")
    }


def model_json(model: ModelInfo) -> dict[str, object]:
    """Return a model as reports have it."""
    return {
        "name": model.name,
        "version": model.version,
        "crop": model.crop,
        "classes": model.classes,
        "max_batch_size": model.max_batch_size,
        "simulated": is_simulated(model),
        "caution": model.caution,
        **describe_instances(model),
    }


def is_repvgg_a0(name: str, *, crop: int, classes: int) -> bool:
    """Whether a model is the guide's RepVGG-A0, judging by what a server reports.

    That is no architecture, so the name must hold it, in any spelling such as repvgg_a0 or RepVGG-A0, and the model
    must be an ImageNet one of 224 by 224 pixels: another network's figures must never stand in RepVGG's row.
    """
    return bool(A0_NAME.search(name)) and (crop, classes) == (IMAGENET_CROP, IMAGENET_CLASSES)


def fetch_class_names(address: str, model: ModelInfo) -> dict[int, str]:
    """Get the names of all classes from a RepServe server: the answer to a black image lists them.

    No other message of the protocol has them. The server counts the request like any other.

    Returns:
        The names by index; empty if the model has none, or the server is not RepServe.
    """
    try:
        with Client(address, timeout=LIST_TIMEOUT) as client:
            black = np.zeros((model.crop, model.crop, 3), np.uint8)
            found = client.classify(black, model=model.name, version=model.version, top_k=model.classes)
    except (ClientError, ValueError):
        return {}
    return {ranked.index: ranked.label for ranked in found.predictions[0].classes if ranked.label}
