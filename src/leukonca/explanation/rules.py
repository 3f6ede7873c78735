"""How relevance is shared out at each kind of layer.

Layer-wise relevance propagation (LRP; Bach et al., PLoS ONE 10 (2015) e0130140) goes backwards through a
network and shares out the relevance of each value among the values it was computed from. Here every value
carries a *multiplier*, and its relevance is that multiplier times how far the value lies from a reference:
``R = M · (z - z₀)``. What a layer does to multipliers has then no division by small sums:

==================  ==================================================================================
layer               multiplier of its input
==================  ==================================================================================
linear, residual    the transposed layer applied to the multiplier of its output. Since differences of
                    linear layers hold no bias, nothing is lost (the LRP-0 rule of differences).
ReLU                multiplier of its output times ``(relu z - relu z₀) / (z - z₀)``, which is exact: the
                    Rescale rule of DeepLIFT (Shrikumar et al., ICML 2017).
maximum             shared among the places that hold the maximum on the way from reference to picture
                    (Aumann and Shapley 1974); exact as well, see :func:`maximum_shares`.
==================  ==================================================================================

With all reference values zero (of the picture *and* of every layer) these are the classical rules: LRP-0 for
linear layers, relevance handed through the ReLU, the winner takes all at a maximum. Biases then take a share
of their own, and the epsilon rule (Bach et al. 2015, equation 58) takes another where a sum is nearly zero:
:func:`stabilised`. A residual addition hands the multiplier to both branches, so that each takes a share in
proportion to what it adds: relevance is split there, never doubled.

Multipliers of LRP without reference: M. Ancona et al., ICLR 2018 (arXiv 1711.06104), proposition 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["maximum_shares", "per_picture", "relu_slope", "scale_of", "stabilised"]


def per_picture(relevance: Tensor) -> Tensor:
    """Return the sum over all but the first dimension, [B]."""
    return relevance.flatten(1).sum(1)


def relu_slope(value: Tensor, reference: Tensor | None) -> Tensor:
    """Return by what the multiplier of a ReLU's output becomes that of its input.

    Args:
        value: Input of the ReLU, any shape.
        reference: Its reference, of the same shape; ``None`` stands for zero.

    Returns:
        In [0, 1], of the same shape.
    """
    if reference is None:
        return (value > 0).to(value.dtype)
    # Of the two the upper one as a share of their distance, within [0, 1]: 1 where both lie above zero, 0
    # where both lie below, and between them what the difference quotient is. Nothing cancels.
    upper, distance = torch.maximum(value, reference), (value - reference).abs_()
    return upper.div_(distance.clamp_(min=torch.finfo(value.dtype).tiny)).clamp_(0, 1)


def scale_of(value: Tensor) -> Tensor:
    """Return the root mean square of each picture's values, [B, 1, …], which epsilon is relative to."""
    axes = tuple(range(1, value.dim()))
    return value.square().mean(axes, keepdim=True).sqrt()


def stabilised(multiplier: Tensor, value: Tensor, epsilon: Tensor | float) -> tuple[Tensor, Tensor]:
    """Apply the epsilon rule to the output of a linear layer (reference zero).

    The relevance ``R = multiplier · value`` is divided among the inputs by ``R / (value ± epsilon)``.

    Args:
        multiplier: Of the layer's output, [B, …].
        value: The layer's output.
        epsilon: At least 0; broadcasts to ``value``.

    Returns:
        The multiplier for the summands of ``value``, and the relevance [B] that epsilon took.
    """
    size = value.abs()
    total = size + epsilon
    kept = torch.where(total > 0, size / torch.where(total > 0, total, 1.0), 1.0)
    damped = multiplier * kept
    return damped, per_picture((multiplier - damped) * value)


def maximum_shares(value: Tensor, reference: Tensor | None) -> Tensor:
    """Return how a maximum's multiplier is shared out among the places, so that nothing is lost.

    On the straight line from reference to value every place changes evenly and the maximum moves from place
    to place. The share of a place is the part of the way on which it holds the maximum. The sum of shares
    times differences is then the difference of the two maxima.

    Args:
        value: [B, C, N].
        reference: [B, C, N]; ``None`` stands for zero, and the place of the maximum takes all.

    Returns:
        [B, C, N], at least 0, with sum 1 over the places.
    """
    holder = value.argmax(2, keepdim=True)
    if reference is None:
        return torch.zeros_like(value).scatter_(2, holder, 1.0)
    shares = torch.zeros_like(value)
    slope = value - reference
    # From the start: who holds the maximum there, of equals the one that rises fastest.
    start = reference.amax(2, keepdim=True)
    holder = torch.where(reference == start, slope, -torch.inf).argmax(2, keepdim=True)
    now = torch.zeros_like(start)
    while bool((now < 1).any()):
        faster = slope - slope.gather(2, holder)
        behind = reference.gather(2, holder) - reference
        # Only who rises faster than the holder can overtake it; the first to do so is the next holder.
        meeting = torch.where(faster > 0, behind / torch.where(faster > 0, faster, 1.0), torch.inf)
        until = meeting.amin(2, keepdim=True).clamp(min=now, max=torch.ones_like(now))
        shares.scatter_add_(2, holder, until - now)
        first = meeting == meeting.amin(2, keepdim=True)
        holder = torch.where(until < 1, torch.where(first, slope, -torch.inf).argmax(2, keepdim=True), holder)
        now = until
    return shares
