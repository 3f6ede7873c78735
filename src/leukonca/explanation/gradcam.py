"""Grad-CAM: where the feature maps of a convolution speak for a class. For convolutional networks.

Selvaraju et al., ICCV 2017. An automaton has no such layer: its channels change at every step.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leukonca.errors import SettingError
from leukonca.explanation.target import Target

__all__ = ["convolutions", "grad_cam"]


def convolutions(network: nn.Module) -> list[str]:
    """Return the names of the two-dimensional convolutions of a network, in the order of its modules."""
    return [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]


def grad_cam(
    network: nn.Module,
    pictures: Tensor,
    images: Tensor,
    target: Target,
    *,
    layer: str | None = None,
) -> Tensor:
    """Return the Grad-CAM of a convolution, brought to the size of the picture: [B, S, S].

    Each feature map is weighted with the mean of the target's gradient over it. The publication then cuts
    negative values off; they are kept here, as all methods are compared by their signed maps.

    Args:
        network: Called as ``network(pictures, images)``; it must not mix the pictures of a batch (``eval``).
        pictures: float32 [B, 3, S, S], normalised.
        images: int64 [B], identities of the pictures.
        target: What is explained.
        layer: Name of the convolution; ``None`` takes the last one.

    Raises:
        SettingError: The network has no such convolution, or the logits do not depend on it.
    """
    names = convolutions(network)
    if not names:
        raise SettingError(
            f"Grad-CAM needs a convolution, and a {type(network).__name__} has none; "
            "for an automaton use its relevance"
        )
    if layer is not None and layer not in names:
        raise SettingError(f"layer={layer!r} is no convolution of this network; it has {_shortened(names)}")
    name = layer or names[-1]
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        kept.append(output)
        return output.clone()  # what follows may work in place

    handle = network.get_submodule(name).register_forward_hook(keep)
    try:
        with torch.enable_grad():
            leaf = pictures.detach().clone().requires_grad_(True)
            value = target.value(network(leaf, images)).sum()
            if not kept:
                raise SettingError(f"layer={name!r} is not used by this network; name another")
            gradient = torch.autograd.grad(value, kept[-1], allow_unused=True)[0]
    finally:
        handle.remove()
    if gradient is None:
        raise SettingError(f"layer={name!r}: the logits do not depend on it; name another")
    weights = gradient.mean((2, 3), keepdim=True)
    coarse = (weights * kept[-1].detach()).sum(1, keepdim=True)
    return F.interpolate(coarse, pictures.shape[2:], mode="bilinear", align_corners=False)[:, 0]


def _shortened(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 6 else ", ".join([*names[:2], "…", *names[-3:]])
