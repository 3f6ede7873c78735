"""The paper's formulation as one would write it down, to be measured against; independent of the engines.

Deutges et al., MICCAI 2024 (arXiv 2404.05584), section 2: at every step every site is computed, and a mask
drawn from PyTorch's stream says which changes count. The two layers are written as 1×1 convolutions, the same
function: PyTorch runs ``base`` half as fast again with them as with linear layers on a moved channel axis.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leukonca.nca.architecture import Architecture

__all__ = ["Straightforward"]


class Straightforward(nn.Module):
    """The automaton of an architecture with the ``mlp`` head and pooling ``max`` or ``max_mean``.

    Args:
        shape: Its architecture.
        classes: Number of classes.
    """

    def __init__(self, shape: Architecture, classes: int) -> None:
        super().__init__()
        self.shape = shape
        channels, pooled = shape.channels, shape.channels * (2 if shape.pooling == "max_mean" else 1)
        around = {"padding": 1, "padding_mode": "reflect", "groups": channels}
        self.p0 = nn.Conv2d(channels, channels, 3, **around)  # type: ignore[arg-type]
        self.p1 = nn.Conv2d(channels, channels, 3, **around)  # type: ignore[arg-type]
        self.fc0 = nn.Conv2d(3 * channels, shape.hidden, 1)
        self.fc1 = nn.Conv2d(shape.hidden, channels, 1, bias=False)
        nn.init.zeros_(self.fc1.weight)
        self.fc2 = nn.Linear(pooled, shape.head_hidden)
        self.fc3 = nn.Linear(shape.head_hidden, classes)

    def forward(self, pictures: Tensor, draw: Callable[[int], Tensor] | None = None) -> Tensor:
        """Return the logits, [B, classes].

        Args:
            pictures: [B, 3, size, size], normalised.
            draw: From the number of a step to the sites that fire, bool [B, rows, columns]; by default each
                fires by chance.
        """
        picture = F.pixel_unshuffle(pictures, self.shape.patch)
        batch, inputs, rows, columns = picture.shape
        channels = self.shape.channels
        state = torch.cat((picture, picture.new_zeros(batch, channels - inputs, rows, columns)), dim=1)
        changes = (torch.arange(channels) >= inputs)[:, None, None, None]  # the picture's channels do not
        for step in range(self.shape.steps):
            seen = torch.cat((state, self.p0(state), self.p1(state)), dim=1)
            change = F.conv2d(F.relu(self.fc0(seen)), self.fc1.weight * changes)
            fires = draw(step) if draw else torch.rand(batch, rows, columns) < self.shape.firing
            state = state + change * fires[:, None]
        pooled = state.amax(dim=(2, 3))
        if self.shape.pooling == "max_mean":
            pooled = torch.cat((pooled, state.mean(dim=(2, 3))), dim=1)
        logits: Tensor = self.fc3(F.relu(self.fc2(pooled)))
        return logits
