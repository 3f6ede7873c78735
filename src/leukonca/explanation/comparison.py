"""Established explanations, to compare with: gradient times input, integrated gradients, occlusion.

They ask a network nothing but its logits (and their gradient), so they serve automata and other networks
alike: whatever is called as ``network(pictures, images, seed)``. All take the clear field
(:func:`leukonca.explanation.removal.clear_field`) for the absence of a part, and all are means over the same
firing seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from torch import Tensor

from leukonca.errors import SettingError
from leukonca.explanation.removal import clear_field
from leukonca.explanation.target import Target

__all__ = ["LogitsOf", "gradient_times_input", "integrated_gradients", "occlusion", "require_at_least_one"]

LogitsOf = Callable[[Tensor, Tensor, int], Tensor]
"""``network(pictures [B, 3, S, S], images int64 [B], seed)`` gives logits [B, K]."""

_SEEDS: Final = 4


def gradient_times_input(
    network: LogitsOf,
    pictures: Tensor,
    images: Tensor,
    target: Target,
    *,
    seeds: int = _SEEDS,
    first_seed: int = 0,
) -> Tensor:
    """Return the target's gradient times how far the picture lies from the clear field, [B, 3, S, S].

    The input is taken from the clear field, as the zero of a normalised picture is nothing special.
    Shrikumar et al., arXiv 1605.01713.

    Args:
        network: What is explained.
        pictures: float32 [B, 3, S, S], normalised.
        images: int64 [B], identities of the pictures.
        target: What is explained.
        seeds: How many firing seeds to average over; 1 for a network that does not fire.
        first_seed: The first of them.
    """
    require_at_least_one(seeds=seeds)
    field = clear_field(pictures)
    return _mean_gradient(network, pictures, images, target, _range(seeds, first_seed)) * (pictures - field)


def integrated_gradients(
    network: LogitsOf,
    pictures: Tensor,
    images: Tensor,
    target: Target,
    *,
    points: int = 16,
    seeds: int = _SEEDS,
    first_seed: int = 0,
) -> Tensor:
    """Return integrated gradients from the clear field to the picture, [B, 3, S, S].

    Sundararajan et al., ICML 2017, by Gauss–Legendre quadrature on the straight line.

    Args:
        network: What is explained.
        pictures: float32 [B, 3, S, S], normalised.
        images: int64 [B], identities of the pictures.
        target: What is explained.
        points: Of the quadrature.
        seeds: See :func:`gradient_times_input`.
        first_seed: See there.
    """
    require_at_least_one(points=points, seeds=seeds)
    firing = _range(seeds, first_seed)
    way = pictures - (field := clear_field(pictures))
    nodes, shares = np.polynomial.legendre.leggauss(points)
    total = torch.zeros_like(pictures)
    for node, share in zip((nodes + 1) / 2, shares / 2, strict=True):
        gradient = _mean_gradient(network, field + way * float(node), images, target, firing)
        total += gradient * float(share)
    return total * way


def _mean_gradient(
    network: LogitsOf, pictures: Tensor, images: Tensor, target: Target, seeds: range
) -> Tensor:
    with torch.enable_grad():
        total = torch.zeros_like(pictures)
        for seed in seeds:
            leaf = pictures.detach().clone().requires_grad_(True)
            value = target.value(network(leaf, images, seed)).sum()
            total += torch.autograd.grad(value, leaf)[0]
    return total / len(seeds)


@torch.no_grad()
def occlusion(
    network: LogitsOf,
    pictures: Tensor,
    images: Tensor,
    target: Target,
    *,
    window: int = 16,
    stride: int = 4,
    seeds: int = _SEEDS,
    first_seed: int = 0,
) -> Tensor:
    """Return how much the target falls where a square is cleared, [B, S, S].

    A pixel has the mean of all squares that cover it. Zeiler and Fergus, ECCV 2014.

    Args:
        network: What is explained.
        pictures: float32 [B, 3, S, S], normalised.
        images: int64 [B], identities of the pictures.
        target: What is explained.
        window: Side of the square, px.
        stride: From one square to the next, px; the last ones end at the border.
        seeds: See :func:`gradient_times_input`.
        first_seed: See there.

    Raises:
        SettingError: The square is larger than the picture, or the stride than the square (which would
            leave pixels out).
    """
    require_at_least_one(window=window, stride=stride, seeds=seeds)
    height, width = pictures.shape[2:]
    if window > min(height, width) or stride > window:
        raise SettingError(
            f"window={window} px and stride={stride} px: the square must fit into {height} × {width} px, and "
            "the stride into the square"
        )
    field = clear_field(pictures)
    firing = _range(seeds, first_seed)
    whole = _mean_value(network, pictures, images, target, firing)
    total, covered = pictures.new_zeros(len(pictures), height, width), pictures.new_zeros(height, width)
    for top in _starts(height, window, stride):
        for left in _starts(width, window, stride):
            square = np.s_[..., top : top + window, left : left + window]
            without = pictures.clone()
            without[square] = field[square]
            fall = whole - _mean_value(network, without, images, target, firing)
            total[square] += fall[:, None, None]
            covered[square] += 1
    return total / covered


def _starts(length: int, window: int, stride: int) -> list[int]:
    return sorted({*range(0, length - window, stride), length - window})


def _mean_value(network: LogitsOf, pictures: Tensor, images: Tensor, target: Target, seeds: range) -> Tensor:
    return torch.stack([target.value(network(pictures, images, seed)) for seed in seeds]).mean(0)


def _range(seeds: int, first: int) -> range:
    return range(first, first + seeds)


def require_at_least_one(**values: int) -> None:
    """Refuse numbers below 1 by their names.

    Raises:
        SettingError: One of them is below 1.
    """
    for name, value in values.items():
        if value < 1:
            raise SettingError(f"{name}={value} must be at least 1")
