"""ModelInfer of KServe v2: what the bench sends to RepServe, to Triton and to others that speak it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from google.protobuf.message import DecodeError

from repserve_bench.inference_messages import SERVICE, ModelInferRequest, ModelInferResponse
from repserve_client.errors import InternalError
from repserve_protos.v1 import classification_pb2 as pb

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from repserve_bench.payloads import Content, InputSettings

INFER_METHOD = f"/{SERVICE}/ModelInfer"
MEAN = np.array((0.485, 0.456, 0.406), np.float32)
STD = np.array((0.229, 0.224, 0.225), np.float32)
"""Of the RepVGG offline guide's normalisation, RGB, for pixels scaled to 0 to 1."""
WHITE = 255


def infer_request(content: Content, settings: InputSettings) -> bytes:
    """Serialises a ModelInferRequest with raw contents for one request's images."""
    tensor = settings.tensor
    assert tensor is not None  # noqa: S101 - for the type checker: this transport comes with one
    request = ModelInferRequest(model_name=settings.model, model_version=settings.version)
    if tensor.datatype == "BYTES":
        shape: tuple[int, ...] = (content.count,)
        raw = len(content.encoded).to_bytes(4, "little") + content.encoded
    else:
        side = settings.crop
        images: NDArray[np.generic] = np.frombuffer(content.pixels, np.uint8).reshape(content.count, side, side, 3)
        if tensor.datatype == "FP32":
            images = ((images.astype(np.float32) / WHITE) - MEAN) / STD
        if tensor.channels_first:
            images = images.transpose(0, 3, 1, 2)
        shape, raw = images.shape, np.ascontiguousarray(images).tobytes()
    if not tensor.batched:
        shape = shape[1:]
    request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=shape)
    request.raw_input_contents.append(raw)
    serialised: bytes = request.SerializeToString()
    return serialised


def read_scores(answer: bytes, top_k: int) -> pb.ClassifyResponse:
    """Ranks the classes of a ModelInferResponse by their scores, as repserve.v1 would list them.

    What stands for the probability is the score that the server sent, whatever it means.

    Raises:
        InternalError: The answer is not one FP32 tensor of scores in raw contents.
    """
    try:
        response = ModelInferResponse.FromString(answer)
    except DecodeError as error:
        raise InternalError(f"the server's answer cannot be parsed: {error}") from error
    raw = response.raw_output_contents
    if not raw or response.outputs[0].datatype != "FP32":
        kinds = ", ".join(f"{output.name} {output.datatype}" for output in response.outputs) or "none"
        raise InternalError(f"expected scores as FP32 in raw contents, the server sent: {kinds}")
    shape = response.outputs[0].shape
    classes = shape[-1]
    scores = np.frombuffer(raw[0], np.float32).reshape(-1, classes)
    found = pb.ClassifyResponse(model=response.model_name, version=response.model_version)
    for row in scores:
        prediction = found.predictions.add()
        if top_k < classes:
            best = np.argpartition(row, -top_k)[-top_k:]
            best = best[np.argsort(-row[best], kind="stable")]
        else:
            best = np.argsort(-row, kind="stable")
        for index in best:
            prediction.classes.add(index=int(index), probability=float(row[index]))
    return found
