"""The eager engine: plain PyTorch, on any device. It is the definition that other engines are held to.

It differs from :meth:`leukonca.nca.rule.Rule.forward` only in that perception and first layer are folded
into one dense convolution once for the whole rollout, which is the same function (a test compares both).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from leukonca.nca.firing import Firing
from leukonca.nca.rule import Rule

__all__ = ["march", "rollout", "too_large_to_store"]

# Above this estimate of stored activations the backward pass computes them again instead.
_STORE_LIMIT_BYTES = 2 * 1024**3


def _step(state: Tensor, fires: Tensor, kernel: Tensor, bias: Tensor, update: Tensor) -> Tensor:
    around = F.pad(state, (1, 1, 1, 1), mode="reflect")
    hidden = F.conv2d(around, kernel, bias).relu_()
    return state + F.conv2d(hidden, update) * fires


def too_large_to_store(rule: Rule, state: Tensor, steps: int) -> bool:
    """Say whether the activations of all steps would take more memory than a backward pass should keep."""
    # Kept for the backward pass of a step: padded state, hidden layer before and after ReLU, change.
    values = state.shape[0] * state.shape[2] * state.shape[3] * (2 * rule.channels + 2 * rule.hidden)
    return steps * values * 4 > _STORE_LIMIT_BYTES


def _stops(steps: int, recompute: bool) -> set[int]:
    # Of n steps √n states are stored, and while going backwards the activations of √n steps at a time.
    stride = max(1, math.isqrt(steps)) if recompute else max(1, steps)
    return {*range(stride, steps, stride), steps} - {0}


def march(
    one: Callable[..., Tensor],
    state: Tensor,
    weights: tuple[Tensor, ...],
    steps: range,
    record: frozenset[int],
    *,
    recompute: bool,
) -> tuple[Tensor, dict[int, Tensor]]:
    """Apply a step again and again; see :func:`rollout`.

    Args:
        one: From (state, number of the step, *weights) to the next state.
        state: [B, C, H, W].
        weights: What gradients are wanted of, besides the state.
        steps: The numbers of the steps.
        record: Numbers of finished steps after which the state is kept.
        recompute: Whether the backward pass computes activations again.
    """

    def run(state: Tensor, begin: int, end: int, *weights: Tensor) -> Tensor:
        for step in range(begin, end):
            state = one(state, step, *weights)
        return state

    kept = {steps.start: state} if steps.start in record else {}
    stops = {steps.start + stop for stop in _stops(len(steps), recompute)}
    stops |= {step for step in record if steps.start < step <= steps.stop}
    for begin, end in pairwise([steps.start, *sorted(stops)]):
        if recompute:
            state = checkpoint(
                run, state, begin, end, *weights, use_reentrant=False, preserve_rng_state=False
            )
        else:
            state = run(state, begin, end, *weights)
        if end in record:
            kept[end] = state
    return state, kept


def rollout(
    rule: Rule,
    state: Tensor,
    firing: Firing,
    steps: int,
    *,
    first: int = 0,
    record: frozenset[int] = frozenset(),
    recompute: bool | None = None,
) -> tuple[Tensor, dict[int, Tensor]]:
    """Apply the rule ``steps`` times.

    Args:
        rule: The rule.
        state: [B, C, H, W]; H and W at least 2.
        firing: Decides which sites fire.
        steps: Number of steps.
        first: How many steps the state has taken before; the firing goes on from there.
        record: Numbers of finished steps, those before ``first`` included, after which the state is kept;
            that of ``first`` itself is the start.
        recompute: Whether the backward pass computes activations again from a few stored states, which
            costs a second forward pass and saves most of the memory. ``None``: where storing them would
            take more than about 2 GB.

    Returns:
        The last state and the recorded ones by step.
    """
    kernel, bias = rule.folded()
    kernel = kernel.contiguous(memory_format=torch.channels_last)
    weights = (kernel, bias, rule.visible_update()[:, :, None, None])
    state = state.contiguous(memory_format=torch.channels_last)
    keys = firing.keys()

    def one(state: Tensor, step: int, *weights: Tensor) -> Tensor:
        fires = firing.at(keys, step, *state.shape[2:])[:, None].to(state.dtype)
        return _step(state, fires, *weights)

    if recompute is None:
        recompute = torch.is_grad_enabled() and too_large_to_store(rule, state, steps)
    return march(one, state, weights, range(first, first + steps), record, recompute=recompute)
