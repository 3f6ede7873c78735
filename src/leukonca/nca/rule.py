"""The rule of the automaton: perceive, update, fire. Pure functions of the state.

Deutges et al., MICCAI 2024 (arXiv 2404.05584), section 2: every site sees its own state and two
learned depthwise 3×3 convolutions of it, a two-layer network turns that into a change of the state,
and the change is applied where the site fires. The channels of the input stay as they are.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Rule"]


def _uniform(fan_in: int, *shape: int) -> nn.Parameter:
    bound = fan_in**-0.5
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


class Rule(nn.Module):
    """One step of the automaton.

    Parameters are ``kernel_a``, ``kernel_b`` [channels, 1, 3, 3] with ``bias_a``, ``bias_b`` [channels];
    ``hidden_weight`` [hidden, 3·channels] with ``hidden_bias`` [hidden]; ``update_weight``
    [channels, hidden], which starts at zero: an untrained automaton leaves its state alone.

    Args:
        channels: Channels of the state, the fixed ones included.
        hidden: Width of the hidden layer.
        inputs: How many leading channels hold the picture and never change.
    """

    def __init__(self, channels: int, hidden: int, inputs: int) -> None:
        super().__init__()
        self.channels, self.hidden, self.inputs = channels, hidden, inputs
        # Every layer starts as PyTorch starts it: uniform in ±1/sqrt(inputs of one output).
        self.kernel_a, self.bias_a = _uniform(9, channels, 1, 3, 3), _uniform(9, channels)
        self.kernel_b, self.bias_b = _uniform(9, channels, 1, 3, 3), _uniform(9, channels)
        self.hidden_weight = _uniform(3 * channels, hidden, 3 * channels)
        self.hidden_bias = _uniform(3 * channels, hidden)
        self.update_weight = nn.Parameter(torch.zeros(channels, hidden))
        self.changes: Tensor
        self.register_buffer("changes", (torch.arange(channels) >= inputs).float(), persistent=False)

    def stir(self) -> None:
        """Start ``update_weight`` like the other layers: an untrained automaton then changes its state."""
        with torch.no_grad():
            self.update_weight.copy_(_uniform(self.hidden, self.channels, self.hidden))

    def perceive(self, state: Tensor) -> Tensor:
        """Return what each site sees: [own state, convolution A, convolution B].

        Args:
            state: [B, C, H, W].

        Returns:
            [B, 3·C, H, W].
        """
        around = F.pad(state, (1, 1, 1, 1), mode="reflect")
        a = F.conv2d(around, self.kernel_a, self.bias_a, groups=self.channels)
        b = F.conv2d(around, self.kernel_b, self.bias_b, groups=self.channels)
        return torch.cat((state, a, b), dim=1)

    def update(self, perception: Tensor) -> Tensor:
        """Return the change of each site, [B, C, H, W]; zero in the channels of the input."""
        hidden = F.conv2d(perception, self.hidden_weight[:, :, None, None], self.hidden_bias).relu()
        return F.conv2d(hidden, self.visible_update()[:, :, None, None])

    def visible_update(self) -> Tensor:
        """Return ``update_weight`` with the rows of the fixed channels at zero, [channels, hidden]."""
        return self.update_weight * self.changes[:, None]

    def forward(self, state: Tensor, fires: Tensor) -> Tensor:
        """Return the state one step later.

        Args:
            state: [B, C, H, W].
            fires: bool [B, H, W].
        """
        return state + self.update(self.perceive(state)) * fires[:, None]

    def folded(self) -> tuple[Tensor, Tensor]:
        """Return perception and first layer as one dense 3×3 convolution.

        Both are linear, so their product is: the same function with fewer passes over memory.

        Returns:
            Kernel [hidden, channels, 3, 3] and bias [hidden].
        """
        own, a, b = torch.split(self.hidden_weight, self.channels, dim=1)
        kernel = a[:, :, None, None] * self.kernel_a[:, 0] + b[:, :, None, None] * self.kernel_b[:, 0]
        centre = F.pad(own[:, :, None, None], (1, 1, 1, 1))
        return kernel + centre, self.hidden_bias + a @ self.bias_a + b @ self.bias_b
