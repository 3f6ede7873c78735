"""Batch normalisation of the pooled channels, in training only.

The channels that a rule grows begin near zero, beside those of the picture, and a head hardly sees them:
for many epochs an automaton learns next to nothing. So while it is trained, each pooled value is brought to
mean 0 and variance 1 over the batch (S. Ioffe and C. Szegedy, arXiv 1502.03167, 2015). With the running
statistics this is a linear map before a linear layer, and the model that is kept has it folded into that
layer: its architecture, its file and its explanations know nothing of it.
"""

from __future__ import annotations

from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leukonca.learning.networks import Network
from leukonca.nca.classifier import CellClassifier

__all__ = ["folded", "standardise"]


class _Standardised(nn.BatchNorm1d):
    """Batch normalisation that takes a batch of one, which has no variance, by the running statistics."""

    def forward(self, pooled: Tensor) -> Tensor:
        if self.training and len(pooled) < 2:
            mean, variance = self.running_mean, self.running_var
            return F.batch_norm(pooled, mean, variance, self.weight, self.bias, eps=self.eps)
        standardised: Tensor = super().forward(pooled)
        return standardised


def standardise(network: CellClassifier) -> None:
    """Put batch normalisation before the head of a network, which is changed; ``mlp`` heads only."""
    if not isinstance(network.head, nn.Sequential) or network.architecture.head != "mlp":
        raise TypeError(f"head={network.architecture.head!r} has no layer to fold a normalisation into")
    network.head = nn.Sequential(_Standardised(network.pooled_length), *network.head)


@torch.no_grad()
def folded(network: Network) -> Network:
    """Return a copy that gives the same answers without normalisation; the network itself, if it has none."""
    if not isinstance(network, CellClassifier) or not isinstance(network.head, nn.Sequential):
        return network
    if not isinstance(network.head[0], _Standardised):
        return network
    plain = deepcopy(network)
    norm, first, *rest = plain.head.children()
    assert isinstance(norm, _Standardised)
    assert isinstance(first, nn.Linear)
    assert isinstance(norm.running_mean, Tensor)
    assert isinstance(norm.running_var, Tensor)
    # In double precision: the error of the folding is then that of rounding its result.
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    shift = norm.bias.double() - norm.running_mean.double() * scale
    weight = first.weight.double()
    first.bias.copy_(first.bias.double() + weight @ shift)
    first.weight.copy_(weight * scale)
    plain.head = nn.Sequential(first, *rest)
    return plain
