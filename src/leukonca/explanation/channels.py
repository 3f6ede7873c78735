"""The paper's explanation: which channels speak for a class, and what they look like.

Deutges et al., MICCAI 2024 (arXiv 2404.05584): relevance of the target logit is propagated through the two
layers of the head to the pooled channels by LRP (*EpsilonPlus*, whose rule for linear layers is the epsilon
rule), channels are ranked by it, and their maps are shown through sigmoid(x - 5) after 0, 1, 2, 4, 8, 16, 32
and 64 steps, with a mask where a channel lies above its own 0.98 quantile. It says nothing of why a channel
is as it is; for that see :mod:`leukonca.explanation.relevance`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from leukonca.errors import SettingError
from leukonca.explanation.relevance_head import back_through_head, require_explainable
from leukonca.explanation.target import Target
from leukonca.nca.classifier import CellClassifier

__all__ = ["QUANTILE", "STEPS", "ChannelExplanation", "explain_channels", "rank", "shown"]

STEPS: Final = (0, 1, 2, 4, 8, 16, 32, 64)
"""After how many finished steps the paper shows a channel."""

QUANTILE: Final = 0.98
"""Of a channel's values over the grid; its mask is what lies above."""

_EPSILON: Final = 1e-6  # absolute, as in zennit, which the paper used


@dataclass(frozen=True, eq=False)
class ChannelExplanation:
    """The channels that a decision rests on, for B pictures.

    Attributes:
        value: [B], the explained logit (or contrast).
        pooled: [B, P], relevance of each pooled value.
        relevance: [B, C], relevance of each channel; where a channel is pooled twice the sum of both.
        order: int64 [B, C], channels from the most to the least relevant.
        steps: The n steps at which the maps are shown: those of the paper that the model has, and its last.
        maps: [B, top, n, H, W] in (0, 1), the first channels of ``order`` through sigmoid(x - 5).
        masks: bool [B, top, H, W], where such a channel lies above its own 0.98 quantile after the last step.
    """

    value: Tensor
    pooled: Tensor
    relevance: Tensor
    order: Tensor
    steps: tuple[int, ...]
    maps: Tensor
    masks: Tensor


def shown(state: Tensor) -> Tensor:
    """Return values as the paper shows them, sigmoid(x - 5), in (0, 1)."""
    return torch.sigmoid(state - 5)


def rank(relevance: Tensor) -> Tensor:
    """Return channel numbers from the most to the least relevant, int64 [B, C]; of equals the lower first."""
    return relevance.argsort(dim=1, descending=True, stable=True)


@torch.no_grad()
def explain_channels(
    network: CellClassifier,
    pictures: Tensor,
    images: Tensor,
    target: Target,
    *,
    top: int = 8,
    steps: Iterable[int] = STEPS,
    seed: int = 0,
) -> ChannelExplanation:
    """Return which channels speak for a class, as in the paper.

    Args:
        network: The automaton, with an ``mlp`` or a ``channels`` head.
        pictures: float32 [B, 3, S, S], normalised.
        images: int64 [B], their identities.
        target: What is explained; the paper explains logits.
        top: How many channels to show, 1 to C.
        steps: After how many finished steps; more than the model has are left out, its last is added.
        seed: Firing seed.

    Raises:
        SettingError: The network is no automaton or has the ``conv`` head, or ``top`` or a step is out of
            its range.
    """
    require_explainable(network)
    shape = network.architecture
    if not 1 <= top <= shape.channels:
        raise SettingError(f"top={top}: the automaton has {shape.channels} channels; show 1 to all of them")
    chosen = sorted({step for step in steps if step <= shape.steps} | {shape.steps})
    if chosen[0] < 0:
        raise SettingError(f"steps hold {chosen[0]}; a state is shown after 0 or more finished steps")
    run = network.rollout(pictures, images, seed=seed, record=frozenset(chosen))
    multiplier, _ = back_through_head(network, target, run.pooled, None, epsilon=_EPSILON, relative=False)
    pooled = multiplier * run.pooled
    # Poolings lie side by side, so what is pooled twice appears once in each block of C.
    relevance = pooled.reshape(len(pooled), -1, shape.channels).sum(1)
    order = rank(relevance)
    first = order[:, :top, None, None].expand(-1, -1, *run.state.shape[2:])
    states = [run.states[step].gather(1, first) for step in chosen]
    last = states[-1].flatten(2)
    masks = last > last.quantile(QUANTILE, dim=2, keepdim=True)
    return ChannelExplanation(
        value=target.value(run.logits),
        pooled=pooled,
        relevance=relevance,
        order=order,
        steps=tuple(chosen),
        maps=shown(torch.stack(states, dim=2)),
        masks=masks.reshape(states[-1].shape),
    )
