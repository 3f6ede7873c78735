"""The networks that the automaton is compared with, behind the same calls as the automaton."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Final

import torch
from torch import Tensor, nn

from leukonca.errors import SettingError
from leukonca.learning.shapes import BaselineKind, BaselineShape

__all__ = ["Baseline", "MissingMonaiError", "require_monai"]


class MissingMonaiError(SettingError):
    """A baseline is asked for, and MONAI, which builds it, is not installed."""


def require_monai(kind: str) -> None:
    """Find out without importing it whether MONAI is there.

    Raises:
        MissingMonaiError: It is not.
    """
    if find_spec("monai") is None:
        raise MissingMonaiError(
            f"the baseline {kind} needs MONAI, which is not installed; pip install 'leukonca[baselines]'"
        )


def _efficientnet_b0(nets: Any, classes: int) -> nn.Module:
    network: nn.Module = nets.EfficientNetBN(
        "efficientnet-b0",
        pretrained=False,
        spatial_dims=2,
        in_channels=3,
        num_classes=classes,
        # MONAI's momentum of 0.01 belongs to the very long training on ImageNet: after a hundred steps the
        # running statistics would still be a third of what they began with, and a short training look bad.
        norm=("batch", {"eps": 1e-3, "momentum": 0.1}),
    )
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            # As in the released code, where a depthwise kernel has one output. MONAI counts those of all
            # channels and begins with weights up to 34 times smaller, which is slow to learn from.
            nn.init.normal_(module.weight, std=math.sqrt(2 / math.prod(module.kernel_size)))
        elif isinstance(module, nn.Linear):
            # Published are weights within ±1/√classes: 0.03 for the 1,000 classes of ImageNet, but 0.35 for
            # eight, with which training begins at twice the loss of guessing. PyTorch's lie within ±1/√1280,
            # which is 0.03 again.
            module.reset_parameters()
    return network


# As MONAI has them, from random weights, except where MONAI differs from what was published. Each then has
# the published number of parameters.
_BUILDERS: Final[dict[BaselineKind, Callable[[Any, int], nn.Module]]] = {
    # MONAI's default is a stem without stride, made for volumes, and a bias before the batch normalisation
    # of a shortcut. He et al. have stride 2 and no such bias.
    "resnet18": lambda nets, classes: nets.resnet18(
        spatial_dims=2, n_input_channels=3, num_classes=classes, conv1_t_stride=2, bias_downsample=False
    ),
    "seresnext50": lambda nets, classes: nets.SEResNext50(
        spatial_dims=2, in_channels=3, num_classes=classes, pretrained=False
    ),
    "densenet121": lambda nets, classes: nets.DenseNet121(
        spatial_dims=2, in_channels=3, out_channels=classes, pretrained=False
    ),
    "efficientnet_b0": _efficientnet_b0,
}


class Baseline(nn.Module):
    """A convolutional network that names the cell of a picture.

    Its start weights are drawn from PyTorch's stream, nothing is downloaded.

    Args:
        architecture: Which network, and the size of its input.
        classes: Number of classes, at least 2.

    Raises:
        MissingMonaiError: MONAI is not installed.
        SettingError: Fewer than 2 classes.
    """

    def __init__(self, architecture: BaselineShape, classes: int) -> None:
        super().__init__()
        if classes < 2:
            raise SettingError(f"a classifier needs at least 2 classes, not {classes}")
        require_monai(architecture.kind)
        # Takes seconds, so only where it is needed.
        from monai.networks import nets

        self.architecture, self.classes = architecture, classes
        self.body = _BUILDERS[architecture.kind](nets, classes)

    @property
    def parameter_count(self) -> int:
        """Number of learned values."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(self, pictures: Tensor, images: Tensor, seed: int = 0) -> Tensor:
        """Return the logits, float32 [B, classes].

        In evaluation they depend on the picture alone. In training, batch normalisation looks at the whole
        batch, and what is dropped is drawn from ``seed``.

        Args:
            pictures: [B, 3, size, size], normalised.
            images: int64 [B], the identities that an automaton's firing needs; not used.
            seed: Decides in training on what is dropped.

        Raises:
            SettingError: The pictures have another shape.
        """
        size = self.architecture.size
        if pictures.dim() != 4 or list(pictures.shape[1:]) != [3, size, size]:
            raise SettingError(
                f"pictures of shape {list(pictures.shape)} do not fit; expected [B, 3, {size}, {size}]"
            )
        if not self.training:
            logits: Tensor = self.body(pictures)
            return logits.float()
        # The layers draw from PyTorch's streams, which are put back as they were.
        with torch.random.fork_rng(devices=[pictures.device] if pictures.is_cuda else []):
            torch.manual_seed(seed)
            logits = self.body(pictures)
        return logits.float()

    def logits_and_features(self, pictures: Tensor, images: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Return the logits, [B, classes], and what the last layer makes them of, float32 [B, F].

        Arguments as in :meth:`forward`.
        """
        last = [module for module in self.body.modules() if isinstance(module, nn.Linear)][-1]
        seen: list[Tensor] = []
        hook = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            logits = self(pictures, images, seed)
        finally:
            hook.remove()
        return logits, seen[0].float()
