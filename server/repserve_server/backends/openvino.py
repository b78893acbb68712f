"""OpenVINO on the CPU: the default, twice ONNX Runtime's speed where the CPU multiplies bfloat16."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from repserve_server.backends.base import (
    DEFAULT_OUTPUT_NAME,
    Backend,
    BackendError,
    BackendOptions,
    image_specs,
    power_sizes,
)
from repserve_server.backends.onnx_input import OnnxInput, read_input
from repserve_server.repository.model_files import find_onnx

_DTYPES = {"f32": "float32", "u8": "uint8"}


class OpenVinoBackend(Backend):
    """An ONNX model compiled for this CPU, taking uint8 NHWC images unless the options select its own input.

    The normalisation (guide: /255, -mean, /std) is compiled into the graph where the model does not bring it, so that
    slots take a quarter of the bytes. The batch dimension stays dynamic: every size up to the largest runs without
    padding, and measured as fast as a graph compiled for it.
    """

    name = "openvino"
    simulated = False
    any_size = True

    def __init__(self, options: BackendOptions) -> None:
        import openvino as ov

        core = ov.Core()
        path = find_onnx(options.path)
        try:
            model = core.read_model(path)
        except RuntimeError as error:
            raise BackendError(f"OpenVINO cannot read {path}: {_first_line(error)}") from error
        self.input, options = read_input(path, _inputs(model), options)
        model.reshape([-1, *self.input.shape])
        normalise = options.input == "pixels" and self.input.dtype == "float32"
        if normalise:
            _, self.input = image_specs(self.input.name, options.preprocessing)
        self.precision = _choose_precision(core, options)
        compiled = core.compile_model(
            _with_preprocessing(ov, model, options, normalise=normalise),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": self.precision,
                "INFERENCE_NUM_THREADS": str(options.threads),
                "NUM_STREAMS": "1",
                # Pinned threads would fight with the decoding threads of the frontends for the same cores.
                "ENABLE_CPU_PINNING": "NO",
            },
        )
        shape = compiled.output(0).partial_shape
        if shape.rank.get_length() < 2 or shape[1].is_dynamic:  # noqa: PLR2004
            raise BackendError(f"{path}: the output has shape {shape}, expected [batch, classes]")
        self.classes = int(shape[1].get_length())
        self.output_name = model.output(0).any_name if model.output(0).names else DEFAULT_OUTPUT_NAME
        self.batch_sizes = power_sizes(options.max_batch_size)
        self._request: Any = compiled.create_infer_request()

    @override
    def run(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        self._request.infer({0: batch}, share_inputs=True)
        scores: NDArray[np.float32] = self._request.get_output_tensor(0).data
        return scores.reshape(len(batch), self.classes)

    @override
    def close(self) -> None:
        self._request = None


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _choose_precision(core: Any, options: BackendOptions) -> str:  # noqa: ANN401 - openvino has no types
    fast_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if options.precision == "auto":
        return "bf16" if fast_bf16 else "f32"
    if options.precision == "bf16" and not fast_bf16:
        raise BackendError("precision = bf16, but this CPU has no bfloat16 arithmetic; use f32 or auto")
    return options.precision


def _inputs(model: Any) -> list[OnnxInput]:  # noqa: ANN401 - no types
    return [
        OnnxInput(
            port.any_name, _DTYPES.get(dtype := port.element_type.get_type_name(), dtype), _sides(port.partial_shape)
        )
        for port in model.inputs
    ]


def _sides(shape: Any) -> tuple[int | None, ...]:  # noqa: ANN401 - no types
    """Return the sides, None for an open one; all four are open where even their number is."""
    if shape.rank.is_dynamic:
        return (None,) * 4
    return tuple(None if side.is_dynamic else int(side.get_length()) for side in shape)


def _with_preprocessing(
    ov: Any,  # noqa: ANN401 - no types
    model: Any,  # noqa: ANN401
    options: BackendOptions,
    *,
    normalise: bool,
) -> Any:  # noqa: ANN401
    """Make the graph output float32 scores and, with ``normalise``, take uint8 NHWC images."""
    steps = ov.preprocess.PrePostProcessor(model)
    steps.output().tensor().set_element_type(ov.Type.f32)
    if normalise:
        preprocessing = options.preprocessing
        image = steps.input()
        image.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC")).set_shape(
            ov.PartialShape([-1, *preprocessing.shape])
        )
        mean, std = ([255.0 * value for value in values] for values in (preprocessing.mean, preprocessing.std))
        image.preprocess().convert_element_type(ov.Type.f32).mean(mean).scale(std)
        image.model().set_layout(ov.Layout("NCHW"))
    return steps.build()
