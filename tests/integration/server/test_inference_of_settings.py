"""A folder with one ONNX file and labels is enough: the crop is the model's own."""

from __future__ import annotations

import io
import json
import urllib.request
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from repserve_protos.v1 import classification_pb2 as pb
from support.harness import RunningServer

COLOURS = {"red": (200, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 200)}


def make_colour_model(model: Path, side: int | str, name: str = "colours.onnx") -> None:
    """A network that answers the strongest of three colours: the mean of each channel."""
    (model / "1").mkdir(parents=True)
    (model / "labels.txt").write_text("\n".join(COLOURS), encoding="utf-8")
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, side, side])
    scores = helper.make_tensor_value_info("means", TensorProto.FLOAT, ["batch", 3])
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["means"]),
    ]
    graph = helper.make_graph(nodes, "colours", [image], [scores])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(made, model / "1" / name)


def picture(colour: tuple[int, int, int]) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (120, 90), colour).save(data, "PNG")
    return data.getvalue()


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_a_model_of_another_size_needs_no_model_toml(tmp_path: Path, runtime: str) -> None:
    make_colour_model(tmp_path / "colours", 64)
    with RunningServer("--runtime", runtime, "--precision", "f32", repository=tmp_path) as server:
        (model,) = server.stub().ListModels(pb.ListModelsRequest()).models
        assert (model.crop, model.resize, model.classes) == (64, 73, 3)
        with urllib.request.urlopen(f"{server.http_url}/v2/models/colours", timeout=10) as reply:  # noqa: S310 - our own
            metadata = json.loads(reply.read())
        assert metadata["inputs"][1]["shape"] == [-1, 64, 64, 3]
        assert metadata["outputs"] == [{"name": "means", "datatype": "FP32", "shape": [-1, 3]}]
        for name, colour in COLOURS.items():
            answer = server.stub().Classify(pb.ClassifyRequest(encoded_image=picture(colour)), timeout=10)
            assert answer.predictions[0].classes[0].label == name


def test_a_crop_that_model_toml_names_is_kept_and_one_that_does_not_fit_is_told(tmp_path: Path) -> None:
    make_colour_model(tmp_path / "open", "side")
    (tmp_path / "open" / "model.toml").write_text("[preprocessing]\ncrop = 32\nresize = 40\n", encoding="utf-8")
    make_colour_model(tmp_path / "fixed", 64)
    (tmp_path / "fixed" / "model.toml").write_text("[preprocessing]\ncrop = 32\nresize = 40\n", encoding="utf-8")
    with RunningServer(repository=tmp_path) as server:
        models = {model.name: model for model in server.stub().ListModels(pb.ListModelsRequest()).models}
        assert (models["open"].ready, models["open"].crop) == (True, 32)
        assert "set crop in model.toml" in models["fixed"].reason


def test_two_files_without_a_usual_name_are_too_many(tmp_path: Path) -> None:
    make_colour_model(tmp_path / "one", 64)
    make_colour_model(tmp_path / "two", 64, "a.onnx")
    (tmp_path / "two" / "1" / "b.onnx").write_bytes(b"")
    with RunningServer(repository=tmp_path) as server:
        models = {model.name: model for model in server.stub().ListModels(pb.ListModelsRequest()).models}
        assert models["one"].ready
        assert "holds no model.onnx (found: a.onnx, b.onnx)" in models["two"].reason
