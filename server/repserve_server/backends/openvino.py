"""OpenVINO on the CPU: the default, twice ONNX Runtime's speed where the CPU multiplies bfloat16."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from repserve_server.backends.base import BackendError, BackendOptions, TensorSpec, find_onnx, power_sizes

if TYPE_CHECKING:
    from numpy.typing import NDArray


class OpenVinoBackend:
    """An ONNX model compiled for this CPU, taking uint8 NHWC images.

    The model's own normalisation step (guide: /255, -mean, /std) is compiled into the graph, so that slots hold a
    quarter of the bytes. The batch dimension stays dynamic: every size up to the largest runs without padding, and
    measured as fast as a graph compiled for it.
    """

    name = "openvino"
    simulated = False
    any_size = True

    def __init__(self, options: BackendOptions) -> None:
        import openvino as ov

        core = ov.Core()
        path = find_onnx(options.folder)
        try:
            model = core.read_model(path)
        except RuntimeError as error:
            raise BackendError(f"OpenVINO cannot read {path}: {_first_line(error)}") from error
        self.input = _check_input(ov, model, options)
        model.reshape([-1, 3, options.preprocessing.crop, options.preprocessing.crop])
        self.precision = _choose_precision(core, options)
        compiled = core.compile_model(
            _with_preprocessing(ov, model, options),
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
        self.batch_sizes = power_sizes(options.max_batch)
        self._request: Any = compiled.create_infer_request()

    def run(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        """See ``Backend.run``."""
        self._request.infer({0: batch}, share_inputs=True)
        scores: NDArray[np.float32] = self._request.get_output_tensor(0).data
        return scores.reshape(len(batch), self.classes)

    def figures(self) -> dict[str, float]:
        """See ``Backend.figures``."""
        return {}

    def close(self) -> None:
        """See ``Backend.close``."""
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


def _check_input(ov: Any, model: Any, options: BackendOptions) -> TensorSpec:  # noqa: ANN401 - openvino has no types
    crop = options.preprocessing.crop
    if len(model.inputs) != 1:
        raise BackendError(f"{options.folder}: the model has {len(model.inputs)} inputs, expected one image")
    port = model.input(0)
    shape = port.partial_shape
    takes_crop = shape.compatible(ov.PartialShape([-1, 3, crop, crop]))
    if port.element_type.get_type_name() != "f32" or not takes_crop:
        raise BackendError(
            f"{options.folder}: the model's input is {port.element_type.get_type_name()} {shape}, expected f32 "
            f"[batch,3,{crop},{crop}]; set crop in model.toml if the model takes another size"
        )
    return TensorSpec(port.any_name, "uint8", options.preprocessing.shape, "NHWC")


def _with_preprocessing(ov: Any, model: Any, options: BackendOptions) -> Any:  # noqa: ANN401 - openvino has no types
    """Fold the normalisation in: uint8 NHWC in, float32 NCHW for the model."""
    preprocessing = options.preprocessing
    steps = ov.preprocess.PrePostProcessor(model)
    image = steps.input()
    image.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC")).set_shape(
        ov.PartialShape([-1, *preprocessing.shape])
    )
    image.preprocess().convert_element_type(ov.Type.f32).mean([255.0 * value for value in preprocessing.mean]).scale(
        [255.0 * value for value in preprocessing.std]
    )
    image.model().set_layout(ov.Layout("NCHW"))
    steps.output().tensor().set_element_type(ov.Type.f32)
    return steps.build()
