"""The bundled digits model: its card, recomputed from the weights, and its ONNX file, converted anew."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from digits.card import Evaluation
    from digits.pictures import Picture

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")
pytestmark = pytest.mark.convert

FOLDER = Path(__file__).resolve().parents[2] / "model_repo" / "repvgg_digits"
WEIGHTS = FOLDER / "train" / "repvgg_digits.pth"
MODEL = FOLDER / "1" / "model.onnx"


@pytest.fixture(scope="module")
def card() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((FOLDER / "model_card.json").read_text())
    return content


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    """The shipped pictures with the shipped labels."""
    from digits.pictures import Picture

    lines = (line.split() for line in (FOLDER / "validation" / "val_label.txt").read_text().splitlines())
    images = FOLDER / "validation" / "images"
    return [Picture(name, int(label), (images / name).read_bytes()) for name, label in lines]


@pytest.fixture(scope="module")
def trained(pictures: list[Picture]) -> Evaluation:
    from digits.card import evaluate
    from digits.training import CLASSES, VARIANT
    from repserve_convert.train_network import RepVGG

    network = RepVGG(VARIANT, CLASSES)
    network.load_state_dict(torch.load(WEIGHTS, weights_only=True))
    return evaluate(network, pictures)


def test_the_card_tells_what_the_weights_do(card: dict[str, Any], trained: Evaluation) -> None:
    predictions = dict(zip(trained.names, trained.predictions.tolist(), strict=True))
    assert predictions == card["predictions"]
    assert card["images"] == len(trained.names)
    assert card["correct"] == trained.right
    assert card["top1"] == round(trained.top1, 6)
    assert card["top1"] >= 0.97


def test_no_prediction_is_a_near_tie(card: dict[str, Any], trained: Evaluation) -> None:
    assert trained.margins.min() == pytest.approx(card["smallest_margin"]["logits"], abs=1e-3)
    assert trained.margins.min() > 100 * card["onnx"]["largest_logit_difference"]


def test_the_shipped_model_is_the_converted_weights(trained: Evaluation, pictures: list[Picture]) -> None:
    from digits.card import evaluate_onnx

    shipped = evaluate_onnx(MODEL, pictures)
    np.testing.assert_array_equal(shipped.predictions, trained.predictions)
    np.testing.assert_allclose(shipped.logits, trained.logits, atol=1e-4)


def test_converting_the_weights_again_gives_the_shipped_model(tmp_path: Path, pictures: list[Picture]) -> None:
    from digits.card import evaluate_onnx
    from digits.training import VARIANT
    from repserve_convert.graph import build_model, save_model
    from repserve_convert.reparameterise import reparameterise
    from repserve_convert.weights import load_pth

    fresh = tmp_path / "model.onnx"
    save_model(build_model(reparameterise(load_pth(WEIGHTS), VARIANT), VARIANT), fresh)
    first, second = evaluate_onnx(MODEL, pictures), evaluate_onnx(fresh, pictures)
    np.testing.assert_array_equal(first.predictions, second.predictions)
    np.testing.assert_allclose(first.logits, second.logits, atol=1e-4)


def test_held_out_pictures_are_those_of_the_split(card: dict[str, Any], pictures: list[Picture]) -> None:
    from digits.pictures import load_pictures

    split = load_pictures(card["seed"])
    drawn = [(picture.name, picture.label) for picture in split.held_out]
    assert drawn == [(picture.name, picture.label) for picture in pictures]
    assert len(drawn) == card["images"] == 360
    assert not {picture.name for picture in split.training} & {picture.name for picture in split.held_out}


def test_the_folder_is_complete_and_small(pictures: list[Picture]) -> None:
    assert WEIGHTS.stat().st_size < 1_000_000
    images = sorted(path.name for path in (FOLDER / "validation" / "images").iterdir())
    assert images == sorted(picture.name for picture in pictures)
    assert sum(len(picture.jpeg) for picture in pictures) < 1_000_000
    assert len((FOLDER / "labels.txt").read_text().splitlines()) == 10
    assert tomllib.loads((FOLDER / "model.toml").read_text())["setup_command"] == "make digits"


def test_pictures_have_several_shapes(pictures: list[Picture]) -> None:
    """So that serving them exercises resizing and cropping in both directions."""
    images = FOLDER / "validation" / "images"
    shapes = set()
    for picture in pictures:
        with Image.open(images / picture.name) as image:
            shapes.add(image.size)
    assert any(width > height for width, height in shapes)
    assert any(width < height for width, height in shapes)
    assert any(width == height for width, height in shapes)
