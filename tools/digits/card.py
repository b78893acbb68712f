"""The model card: what the trained network makes of every held-out picture, in torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from digits.preprocessing import crop_picture, normalise
from repserve_convert.errors import require

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from digits.pictures import Picture
    from repserve_convert.train_network import RepVGG

BATCH_SIZE = 60


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores of a set of pictures."""

    names: tuple[str, ...]
    labels: NDArray[np.int64]
    logits: NDArray[np.float32]
    """[pictures, classes]"""

    @property
    def predictions(self) -> NDArray[np.int64]:
        """The class of the highest score of each picture."""
        classes: NDArray[np.int64] = self.logits.argmax(axis=1)
        return classes

    @property
    def right(self) -> int:
        """How many predictions equal the label."""
        return int((self.predictions == self.labels).sum())

    @property
    def top1(self) -> float:
        """Part of the predictions that equal the label, 0 to 1."""
        return self.right / len(self.names)

    @property
    def margins(self) -> NDArray[np.float32]:
        """By how much each picture's highest score leads the second highest."""
        ranked = np.sort(self.logits, axis=1)
        return ranked[:, -1] - ranked[:, -2]


def evaluate(network: RepVGG, pictures: Sequence[Picture]) -> Evaluation:
    """Run the train-time network in evaluation mode.

    Args:
        network: the network with the weights of the .pth.
        pictures: JPEG files and their labels.
    """
    network.eval()
    with torch.inference_mode():
        logits = [network(torch.from_numpy(batch)).numpy() for batch in _batches(pictures)]
    return _evaluation(pictures, logits)


def evaluate_onnx(model: Path, pictures: Sequence[Picture]) -> Evaluation:
    """Run the deployed model with ONNX Runtime on the CPU, in float32.

    Args:
        model: the ONNX file.
        pictures: JPEG files and their labels.

    Raises:
        ConversionError: onnxruntime is not installed.
    """
    session = require("onnxruntime").InferenceSession(model, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    logits = [session.run(None, {name: batch})[0] for batch in _batches(pictures)]
    return _evaluation(pictures, logits)


def _batches(pictures: Sequence[Picture]) -> Iterator[NDArray[np.float32]]:
    for first in range(0, len(pictures), BATCH_SIZE):
        chosen = pictures[first : first + BATCH_SIZE]
        yield normalise(np.stack([crop_picture(picture.jpeg) for picture in chosen]))


def _evaluation(pictures: Sequence[Picture], logits: Sequence[NDArray[np.float32]]) -> Evaluation:
    names = tuple(picture.name for picture in pictures)
    return Evaluation(names, np.array([picture.label for picture in pictures]), np.concatenate(logits))


def model_card(trained: Evaluation, deployed: Evaluation, *, seed: int, epochs: int) -> dict[str, Any]:
    """Return the card as data, to be written as JSON.

    Args:
        trained: the train-time .pth in torch.
        deployed: the re-parameterised ONNX model on the same pictures.
        seed: of the split and of training.
        epochs: of training.
    """
    closest = int(trained.margins.argmin())
    return {
        "model": "repvgg_digits",
        "dataset": "UCI Optical Recognition of Handwritten Digits, the 1,797 in scikit-learn",
        "split": f"20 % held out, stratified by digit, seed {seed}",
        "seed": seed,
        "epochs": epochs,
        "torch": torch.__version__.partition("+")[0],
        "images": len(trained.names),
        "correct": trained.right,
        "top1": round(trained.top1, 6),
        "smallest_margin": {
            "image": trained.names[closest],
            "logits": round(float(trained.margins[closest]), 4),
        },
        "onnx": {
            "top1": round(deployed.top1, 6),
            "equal_predictions": int((trained.predictions == deployed.predictions).sum()),
            "largest_logit_difference": float(f"{np.abs(trained.logits - deployed.logits).max():.2g}"),
        },
        "predictions": dict(zip(trained.names, trained.predictions.tolist(), strict=True)),
    }


def card_text(card: dict[str, Any]) -> str:
    """Write the card for people, in Markdown."""
    mistakes = card["images"] - card["correct"]
    return f"""# repvgg_digits

A small RepVGG that reads handwritten digits. It is here so that a real accuracy can be served and checked on
any machine; it is not meant for other pictures.

| | |
|---|---|
| Network | RepVGG, stem 8, stages of 1, 2, 3, 1 blocks with 8, 16, 32, 64 channels, 10 classes |
| Input | the RepVGG guide's: shorter side 256, centre crop 224, ImageNet mean and standard deviation |
| Data | {card["dataset"]} |
| Split | {card["split"]}; training never sees the held-out pictures |
| Pictures | 8 x 8 cells drawn at 80 x 80 pixels, dark on white; grey JPEGs, 96 to 139 pixels a side |
| Training | {card["epochs"]} epochs on the CPU, torch {card["torch"]}, seed {card["seed"]} |
| Top-1 of `train/repvgg_digits.pth` in torch | {card["top1"]:.2%}, {mistakes} of {card["images"]} wrong |
| Top-1 of `1/model.onnx` in ONNX Runtime | {card["onnx"]["top1"]:.2%}, \
{card["onnx"]["equal_predictions"]} of {card["images"]} predictions equal |
| Largest difference of a logit between the two | {card["onnx"]["largest_logit_difference"]:.2g} |
| Smallest lead of a first over a second logit | {card["smallest_margin"]["logits"]:.4f} \
({card["smallest_margin"]["image"]}) |

`model_card.json` holds the prediction of the .pth for each picture of `validation/images`; the model served
in float32 must give the same ones. The data set is by E. Alpaydin and C. Kaynak (UCI Machine Learning
Repository, 1998, <https://doi.org/10.24432/C50P49>, CC BY 4.0).

To make this folder anew: `make digits`
"""
