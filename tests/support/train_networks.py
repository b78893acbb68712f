"""Train-time networks for the tests of conversion: random, but alive to the last layer, as trained ones are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from repserve_convert.random_weights import random_state

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from repserve_convert.architecture import Variant
    from repserve_convert.reparameterise import State
    from repserve_convert.train_network import RepVGG

CLASSES = 12


def state_with_random_statistics(variant: Variant, seed: int) -> State:
    """A train-time state dict whose batch normalisations are far from neutral.

    Kernels and the layers' gain are those of ``random_state``: with torch's own initialisation the image's share of
    the scores fades to 1e-6, and nothing that is done to the image would show.
    """
    state = random_state(variant, CLASSES, seed)
    generator = np.random.default_rng(seed)
    for name, array in state.items():
        if name.endswith("running_var"):
            state[name] = array * generator.uniform(0.5, 2, array.shape).astype(np.float32)
        elif name.endswith("running_mean") or (array.ndim == 1 and name.endswith(".bias")):
            state[name] = array + generator.normal(0, 0.3, array.shape).astype(np.float32)
    return state


def network_with_random_statistics(variant: Variant, seed: int) -> RepVGG:
    """The torch module with such weights, in evaluation mode."""
    import torch

    from repserve_convert.train_network import RepVGG

    network = RepVGG(variant, CLASSES)
    state = state_with_random_statistics(variant, seed)
    network.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()}, strict=False)
    network.eval()
    return network


def torch_logits(network: RepVGG, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores of normalised images [n, 3, height, width]."""
    import torch

    with torch.inference_mode():
        result: NDArray[np.float32] = network(torch.from_numpy(images)).numpy()
    return result
