"""The pretext objectives: what a foundation model was trained with, and what MDS scores cases with.

Masks, seeds, partners and views are made here, never by the networks: the loss of a sample is a function of its crop
and its seed alone, so that a score never depends on who else is in the batch and can be reproduced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

import torch

from MedSeqFTLib.models.pretext.base import Pretext
from MedSeqFTLib.workspace.networks import NetworkSpec, PretextSpec

#: kind -> module and class
_CLASSES: Mapping[str, tuple[str, str]] = {
    "masked-reconstruction": ("masked", "MaskedReconstruction"),
    "swin-ssl": ("swin", "SwinPretext"),
    "voco": ("voco", "VoCo"),
    "token-mae": ("token_mae", "TokenMAE"),
}


def build_pretext(pretext: PretextSpec, network: NetworkSpec, seed: int) -> Pretext:
    """A freshly initialised pretext head for a network; the same seed gives the same weights."""
    module, name = _CLASSES[pretext.kind]
    made: Callable[[PretextSpec, NetworkSpec], Pretext] = getattr(import_module(f"{__name__}.{module}"), name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return made(pretext, network)
