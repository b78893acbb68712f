"""Names of the arrays of a RepVGG file, by the reference implementation and by timm.

timm's names are those of ``RepVggBlock`` and ``ByobNet`` in its ``timm/models/byobnet.py`` (huggingface/
pytorch-image-models), and of the head in ``timm/layers/classifier.py``. The networks are the same: timm groups every
second block of a stage, and as all stages of the grouped variants but the last have an even number of blocks, these
are the blocks that the reference groups.
"""

from __future__ import annotations

import re

PARALLEL_PREFIX = "module."
"""Put before every name by torch's data-parallel training."""
TIMM_PARTS = {
    "conv_kxk": "rbr_dense",
    "conv_1x1": "rbr_1x1",
    "identity": "rbr_identity",
    "reparam_conv": "rbr_reparam",
}
"""Branches of a block, and its one convolution after ``reparameterize()``: timm's name, the reference's."""
REFERENCE_PARTS = {reference: timm for timm, reference in TIMM_PARTS.items()}

_TIMM_BLOCK = re.compile(r"(?:stem|stages\.(\d+)\.(\d+))\.(\w+)\.(.+)")
_REFERENCE_BLOCK = re.compile(r"(?:stage0|stage(\d+)\.(\d+))\.(\w+)\.(.+)")
_TIMM_HEAD, _REFERENCE_HEAD = "head.fc.", "linear."


def from_timm(name: str) -> str:
    """Return the reference implementation's name of an array that timm calls ``name``; any other name as it is."""
    if name.startswith(_TIMM_HEAD):
        return _REFERENCE_HEAD + name.removeprefix(_TIMM_HEAD)
    found = _TIMM_BLOCK.fullmatch(name)
    if found is None or found[3] not in TIMM_PARTS:
        return name
    # timm counts stages from 0 and has the stem apart; the reference's stage 0 is the stem.
    block = "stage0" if found[1] is None else f"stage{int(found[1]) + 1}.{found[2]}"
    return f"{block}.{TIMM_PARTS[found[3]]}.{found[4]}"


def to_timm(name: str) -> str:
    """Return timm's name of an array that the reference implementation calls ``name``; any other name as it is."""
    if name.startswith(_REFERENCE_HEAD):
        return _TIMM_HEAD + name.removeprefix(_REFERENCE_HEAD)
    found = _REFERENCE_BLOCK.fullmatch(name)
    if found is None or found[3] not in REFERENCE_PARTS:
        return name
    block = "stem" if found[1] is None else f"stages.{int(found[1]) - 1}.{found[2]}"
    return f"{block}.{REFERENCE_PARTS[found[3]]}.{found[4]}"
