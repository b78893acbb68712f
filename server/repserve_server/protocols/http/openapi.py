"""The OpenAPI document of the HTTP protocol."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

_SUMMARIES = {
    "/v2": "The server's name, version and extensions",
    "/v2/health/live": "Whether the server answers",
    "/v2/health/ready": "Whether the server takes requests",
    "/v2/models/stats": "Statistics of all models",
    "/v2/models/{model}": "The tensors that a model takes and gives",
    "/v2/models/{model}/ready": "Whether a model answers",
    "/v2/models/{model}/config": "How a model is served",
    "/v2/models/{model}/stats": "Statistics of a model",
    "/v2/models/{model}/infer": "Classify images",
    "/v2/repository/index": "Every model version of the repository",
    "/v2/repository/models/{model}/load": "Load a model (model_control_mode explicit)",
    "/v2/repository/models/{model}/unload": "Unload a model (model_control_mode explicit)",
    "/v2/systemsharedmemory/status": "The registered shared-memory regions",
    "/v2/systemsharedmemory/region/{region}/status": "One registered region",
    "/v2/systemsharedmemory/region/{region}/register": "Register a region",
    "/v2/systemsharedmemory/region/{region}/unregister": "Forget a region",
    "/v2/systemsharedmemory/unregister": "Forget every region",
    "/v2/cudasharedmemory/status": "Empty: there is no CUDA memory here",
    "/v2/cudasharedmemory/region/{region}/status": "Empty: there is no CUDA memory here",
    "/v2/cudasharedmemory/region/{region}/register": "Refused: there is no CUDA memory here",
    "/v2/cudasharedmemory/region/{region}/unregister": "Nothing to forget",
    "/v2/cudasharedmemory/unregister": "Nothing to forget",
    "/v2/trace/setting": "Empty: there are no trace settings",
    "/v2/logging": "From which level the server logs",
}
_VERSION = "/versions/{version}"
_TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string", "examples": ["IMAGE", "INPUT"]},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "datatype": {"type": "string", "enum": ["BYTES", "UINT8", "FP32"]},
        "data": {"description": "Values, nested or flat; left out where the tensor is raw or in shared memory"},
        "parameters": {
            "type": "object",
            "properties": {
                "binary_data_size": {"type": "integer", "description": "Bytes of the raw tensor behind the JSON"},
                "content_type": {"type": "string", "description": "base64: the strings of data are base64"},
                "shared_memory_region": {"type": "string"},
                "shared_memory_offset": {"type": "integer"},
                "shared_memory_byte_size": {"type": "integer"},
            },
        },
    },
}
_REQUEST = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "inputs": {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}},
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string"},
                    "parameters": {
                        "type": "object",
                        "properties": {
                            "classification": {"type": "integer", "description": "So many best classes, not scores"},
                            "binary_data": {"type": "boolean"},
                        },
                    },
                },
            },
        },
        "parameters": {
            "type": "object",
            "properties": {
                "timeout": {"type": "integer", "description": "Microseconds until the answer is worth nothing"},
                "priority": {"type": "integer", "description": "1 goes first"},
                "binary_data_output": {"type": "boolean", "description": "Raw outputs, unless an output says else"},
            },
        },
    },
}
_RESPONSE = {
    "type": "object",
    "properties": {
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "id": {"type": "string"},
        "outputs": {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}},
    },
}
_ERROR = {"type": "object", "properties": {"error": {"type": "string"}}}
_STATUSES = {
    "400": "The request is wrong, or not allowed",
    "404": "There is no such model, version or region",
    "429": "The queue is full, or the deadline cannot be met; Retry-After says when to try again",
    "500": "The device or the server failed",
    "503": "The model or the server is not ready",
    "504": "The deadline passed",
}


def describe_routes(routes: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of these routes, given as method and path.

    Raises:
        KeyError: a path is not described here.
    """
    paths: dict[str, dict[str, Any]] = {}
    for method, path in routes:
        paths.setdefault(path, {})[method.lower()] = _describe(method, path)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "RepServe",
            "version": version("repserve"),
            "description": "Image classification over KServe v2 (the Open Inference Protocol)",
        },
        "paths": paths,
        "components": {
            "schemas": {"Tensor": _TENSOR, "InferRequest": _REQUEST, "InferResponse": _RESPONSE, "Error": _ERROR}
        },
    }


def _describe(method: str, path: str) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": _SUMMARIES[path.replace(_VERSION, "")],
        "responses": {"200": {"description": "OK"}, "default": _refer("Error", "See the statuses of infer")},
    }
    names = re.findall(r"{(\w+)}", path)
    if names:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
        ]
    if path.endswith("/infer"):
        operation["requestBody"] = {"required": True, **_refer("InferRequest", None)}
        answers = {status: _refer("Error", text) for status, text in _STATUSES.items()}
        operation["responses"] = {"200": _refer("InferResponse", "The scores, or the best classes"), **answers}
    elif method == "POST":
        operation["requestBody"] = {"required": False, "content": {"application/json": {"schema": {"type": "object"}}}}
    return operation


def _refer(schema: str, description: str | None) -> dict[str, Any]:
    content = {"content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}}
    return content if description is None else {"description": description, **content}
