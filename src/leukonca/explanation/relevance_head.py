"""Relevance from the target back to the last state: through the head's layers and the pooling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leukonca.errors import SettingError
from leukonca.explanation.rules import maximum_shares, per_picture, relu_slope, scale_of, stabilised
from leukonca.explanation.target import Target
from leukonca.nca.classifier import CellClassifier
from leukonca.nca.pooling import AttentionPooling, MaxMeanPooling, MaxPooling, MeanPooling

__all__ = ["Absorption", "back_through_head", "back_through_pooling", "require_explainable"]

# On how many points of the way from reference to value the highest sites of attention pooling are looked up.
_POINTS: Final = 32


@dataclass
class Absorption:
    """What a part of the network kept for itself, each float [B]."""

    bias: Tensor
    stabiliser: Tensor
    remainder: Tensor

    @classmethod
    def none(cls, like: Tensor) -> Absorption:
        """Nothing yet, for as many pictures as ``like`` [B, …] has."""
        return cls(*(like.new_zeros(len(like)) for _ in range(3)))

    def __add__(self, other: Absorption) -> Absorption:
        return Absorption(
            self.bias + other.bias, self.stabiliser + other.stabiliser, self.remainder + other.remainder
        )


def require_explainable(network: nn.Module) -> None:
    """Refuse what relevance cannot be computed through.

    Raises:
        SettingError: The network is no automaton, or has the ``conv`` head.
    """
    if not isinstance(network, CellClassifier):
        raise SettingError(
            f"a {type(network).__name__} is no cellular automaton, and relevance goes backwards through an "
            "automaton's steps; for other networks use Grad-CAM, integrated gradients or occlusion"
        )
    if network.architecture.head == "conv":
        raise SettingError(
            "head='conv': relevance goes through the heads 'mlp' and 'channels' only; "
            "for this one use integrated gradients or occlusion"
        )


def back_through_head(
    network: CellClassifier,
    target: Target,
    pooled: Tensor,
    reference: Tensor | None,
    *,
    epsilon: float = 0.0,
    relative: bool = True,
) -> tuple[Tensor, Absorption]:
    """Return the multiplier of the pooled vector, [B, P], and what was absorbed on the way.

    Args:
        network: With an ``mlp`` or a ``channels`` head.
        target: What is explained.
        pooled: [B, P].
        reference: [B, P], or ``None`` for the classical rules.
        epsilon: Of the epsilon rule; 0 with a reference.
        relative: Whether epsilon is in units of the root mean square of the values of a layer.
    """
    head = network.head
    logits = head(pooled)
    absorbed = Absorption.none(pooled)
    at_reference = None if reference is None else head(reference)
    multiplier = target.weights(logits, at_reference)
    # What the weights do not cover: the entropy of the other classes (without reference), or the error of a
    # quadrature.
    covered = per_picture(multiplier * _difference(logits, at_reference))
    absorbed.remainder += target.value(logits) - covered
    if at_reference is not None:
        absorbed.remainder -= target.value(at_reference)
    if network.architecture.head == "channels":
        fixed = network.architecture.inputs
        return F.pad(multiplier, (fixed, pooled.shape[1] - fixed - network.classes)), absorbed
    first, _, second = cast(list[nn.Linear], list(head.children()))
    hidden = first(pooled)
    multiplier = _back_through_linear(second, logits, multiplier, reference, epsilon, relative, absorbed)
    multiplier = multiplier * relu_slope(hidden, None if reference is None else first(reference))
    return _back_through_linear(first, hidden, multiplier, reference, epsilon, relative, absorbed), absorbed


def _back_through_linear(
    layer: nn.Linear,
    output: Tensor,
    multiplier: Tensor,
    reference: Tensor | None,
    epsilon: float,
    relative: bool,
    absorbed: Absorption,
) -> Tensor:
    if reference is None:
        size = epsilon * scale_of(output) if relative else epsilon
        multiplier, lost = stabilised(multiplier, output, size)
        absorbed.stabiliser += lost
        absorbed.bias += multiplier @ layer.bias
    return multiplier @ layer.weight


def back_through_pooling(
    pool: nn.Module,
    multiplier: Tensor,
    state: Tensor,
    reference: Tensor | None,
    *,
    epsilon: float = 0.0,
) -> tuple[Tensor, Absorption]:
    """Return the multiplier of the last state, [B, C, H, W], and what was absorbed on the way.

    The mean is a linear layer. A maximum is shared out by
    :func:`leukonca.explanation.rules.maximum_shares`. Attention pooling averages the highest products of
    state and attention: those sites share it, and a product is taken apart as
    ``Δ(s·w) = mean(w)·Δs + mean(s)·Δw``; without reference the attention is a gate that takes no relevance
    itself (Arras et al., arXiv 1706.07206).

    Args:
        pool: The pooling.
        multiplier: Of the pooled vector, [B, P].
        state: [B, C, H, W].
        reference: [B, C, H, W], or ``None`` for the classical rules.
        epsilon: Of the epsilon rule for the mean, relative to the root mean square of the means.
    """
    channels = state.shape[1]
    sites, at_reference = state.flatten(2), None if reference is None else reference.flatten(2)
    absorbed = Absorption.none(state)
    if isinstance(pool, MaxPooling):
        result = multiplier[:, :, None] * maximum_shares(sites, at_reference)
    elif isinstance(pool, MeanPooling):
        result = _back_through_mean(multiplier, sites, at_reference, epsilon, absorbed)
    elif isinstance(pool, MaxMeanPooling):
        result = multiplier[:, :channels, None] * maximum_shares(sites, at_reference)
        result = result + _back_through_mean(multiplier[:, channels:], sites, at_reference, epsilon, absorbed)
    elif isinstance(pool, AttentionPooling):
        result = _back_through_attention(pool, multiplier, state, reference, absorbed)
    else:
        raise SettingError(f"relevance through a {type(pool).__name__} is not defined")
    return result.reshape(state.shape), absorbed


def _back_through_mean(
    multiplier: Tensor, sites: Tensor, reference: Tensor | None, epsilon: float, absorbed: Absorption
) -> Tensor:
    if reference is None:
        means = sites.mean(2)
        multiplier, lost = stabilised(multiplier, means, epsilon * scale_of(means))
        absorbed.stabiliser += lost
    return (multiplier / sites.shape[2])[:, :, None].expand_as(sites)


def _back_through_attention(
    pool: AttentionPooling, multiplier: Tensor, state: Tensor, reference: Tensor | None, absorbed: Absorption
) -> Tensor:
    gate = pool.weights(state)
    attended = (state * gate).flatten(2)
    if reference is None:
        shares = _highest(pool, attended)
        return (multiplier[:, :, None] * shares).reshape(state.shape) * gate
    gate_before = pool.weights(reference)
    before = (reference * gate_before).flatten(2)
    way = attended - before
    # The highest sites change along the way; the mean over its points leaves an error, which is accounted.
    shares = (
        sum(
            (_highest(pool, before + way * ((k + 0.5) / _POINTS)) for k in range(_POINTS)),
            start=torch.zeros_like(way),
        )
        / _POINTS
    )
    pooled = (attended * _highest(pool, attended) - before * _highest(pool, before)).sum(2)
    absorbed.remainder += per_picture(multiplier * (pooled - (way * shares).sum(2)))
    of_product = (multiplier[:, :, None] * shares).reshape(state.shape)
    of_gate = (of_product * (state + reference) / 2).sum(1, keepdim=True)
    score, score_before = pool.attention(state), pool.attention(reference)
    change = score - score_before
    level = change.abs() < 1e-6
    slope = torch.where(level, gate * (1 - gate), (gate - gate_before) / torch.where(level, 1.0, change))
    through_gate = of_gate * slope * pool.attention.weight[0]
    return of_product * (gate + gate_before) / 2 + through_gate


def _highest(pool: AttentionPooling, attended: Tensor) -> Tensor:
    count = max(1, round(pool.share * attended.shape[2]))
    places = attended.topk(count, dim=2).indices
    return torch.zeros_like(attended).scatter_(2, places, 1 / count)


def _difference(value: Tensor, reference: Tensor | None) -> Tensor:
    return value if reference is None else value - reference
