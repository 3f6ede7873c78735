"""Whether a map depends on the model at all, and how much on chance.

*Randomisation* (Adebayo et al., NeurIPS 2018): the network's weights are shuffled part by part, from the
answer towards the picture. A map that stays as it was shows the picture, not the reasons. *Stability*: the
same cell explained with other firing seeds; what differs between the two maps is chance.

Maps are compared by Spearman's rank correlation of their patches, the numbers that the faithfulness measures
use.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor, nn

from leukonca.errors import SettingError
from leukonca.explanation.faithfulness import PATCH
from leukonca.explanation.removal import in_patches

__all__ = ["randomised", "similarity"]


def randomised(network: nn.Module, seed: int = 0) -> Iterator[tuple[str, nn.Module]]:
    """Yield copies of a network with more and more of its weights shuffled, the last part first.

    The parts are its children that have weights (of a lone child, the children of that): for an automaton
    head, (attention,) rule. Values are shuffled within each tensor, so that their scale stays and the
    automaton neither dies nor explodes for that alone.

    Args:
        network: Stays as it is.
        seed: Of the shuffling.

    Yields:
        Name of the part shuffled last, and a copy in which it and all before it are shuffled.

    Raises:
        SettingError: The network has no weights.
    """
    generator = torch.Generator().manual_seed(seed)
    parts = _parts(network, "")
    if not parts:
        raise SettingError(f"a {type(network).__name__} has no weights that could be shuffled")
    shuffled = copy.deepcopy(network)
    for name in reversed(parts):
        with torch.no_grad():
            for parameter in shuffled.get_submodule(name).parameters():
                places = torch.randperm(parameter.numel(), generator=generator)
                parameter.copy_(parameter.flatten()[places].reshape(parameter.shape))
        yield name, copy.deepcopy(shuffled)


def _parts(module: nn.Module, prefix: str) -> list[str]:
    parts = [name for name, child in module.named_children() if any(True for _ in child.parameters())]
    inner = _parts(module.get_submodule(parts[0]), f"{prefix}{parts[0]}.") if len(parts) == 1 else []
    return inner or [prefix + name for name in parts]


def similarity(one: Tensor, other: Tensor, patch: int = PATCH) -> npt.NDArray[np.float64]:
    """Return Spearman's rank correlation of two maps of each cell, float64 [B] in -1–1.

    NaN where a map is even.

    Args:
        one: Signed relevance, [B, S, S].
        other: The same cells' relevance by another model, method or seed.
        patch: Side of the patches whose sums are ranked, px.

    Raises:
        SettingError: Shapes disagree or do not consist of whole patches.
    """
    if one.shape != other.shape:
        raise SettingError(f"maps of shape {list(one.shape)} and {list(other.shape)} cannot be compared")
    # One column a cell; equal values share the mean of their ranks.
    ranks = [pd.DataFrame(in_patches(each, patch).T.double().numpy()).rank() for each in (one, other)]
    return np.array(ranks[0].corrwith(ranks[1]), dtype=np.float64)
