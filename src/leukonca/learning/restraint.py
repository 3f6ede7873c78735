"""What keeps the state of an automaton from growing without end in training."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["growth"]


def growth(state: Tensor, fixed: int, bound: float) -> Tensor:
    """Return log(1 + mean square / bound²) of the channels that the rule has grown, a number of at least 0.

    Where the pooled channels are normalised, nothing in the answer depends on the size of the state: a rule
    may multiply it at each step. Then the last step alone decides, earlier ones cannot be shown beside it,
    and float32 cannot undo the steps. Below the bound next to nothing is asked; above it the logarithm weighs
    each doubling alike, and it is doublings that such growth is made of. The overflow loss of E. Niklasson et
    al. (Self-organising textures, Distill 2021) is the same idea, of each value and linear.

    Args:
        state: After the last step, [B, C, rows, columns].
        fixed: How many leading channels hold the picture.
        bound: Root mean square from which on growth costs something.
    """
    return torch.log1p(state[:, fixed:].float().square().mean() / bound**2)
