"""What training minimises, and how the logits of a model so trained become probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leukonca.errors import SettingError
from leukonca.learning.settings import LossName

__all__ = [
    "BinaryCrossEntropy",
    "CrossEntropy",
    "Focal",
    "Loss",
    "LossName",
    "make_loss",
    "probabilities",
]


class Loss(nn.Module):
    """Base of the losses: ``loss(logits [B, K], target int64 [B])`` is a scalar, a mean over the pictures.

    With class weights it is the weighted mean: every picture counts with the weight of its true class, and
    the sum is divided by the sum of these weights, as ``torch.nn.functional.cross_entropy`` does.

    Attributes:
        class_weights: float32 [K] or ``None``. A constant of the run, not part of the model's weights.
    """

    class_weights: Tensor | None

    def __init__(self, class_weights: Sequence[float] | Tensor | None = None) -> None:
        super().__init__()
        weights = None if class_weights is None else torch.as_tensor(class_weights, dtype=torch.float32)
        if weights is not None and not (
            weights.ndim == 1 and bool(torch.isfinite(weights).all()) and bool((weights > 0).all())
        ):
            raise SettingError(
                f"class_weights = {weights.tolist()}: must be one finite number above 0 for each class"
            )
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the scalar loss; ``logits`` float [B, K], ``target`` int64 [B] of class numbers."""
        raise NotImplementedError

    def _mean(self, each: Tensor, target: Tensor) -> Tensor:
        """Return the mean of ``each`` [B], weighted by true class."""
        if self.class_weights is None:
            return each.mean()
        weights = self.class_weights[target]
        return (weights * each).sum() / weights.sum()


class BinaryCrossEntropy(Loss):
    """The paper's loss: sigmoid and binary cross-entropy on one-hot labels, mean over all B × K entries.

    Deutges et al., MICCAI 2024 (arXiv 2404.05584).
    """

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:  # noqa: D102 (the base's contract)
        one_hot = F.one_hot(target, logits.shape[1]).to(logits.dtype)
        entries = F.binary_cross_entropy_with_logits(logits, one_hot, reduction="none")
        return self._mean(entries.mean(1), target)


class CrossEntropy(Loss):
    """Softmax cross-entropy.

    Args:
        class_weights: float [K] or ``None``.
        label_smoothing: Share of the target spread evenly over all classes, in [0, 1).
    """

    def __init__(
        self, class_weights: Sequence[float] | Tensor | None = None, label_smoothing: float = 0.0
    ) -> None:
        super().__init__(class_weights)
        if not 0 <= label_smoothing < 1:
            raise SettingError(f"label_smoothing = {label_smoothing!r}: must be at least 0 and below 1")
        self.label_smoothing = float(label_smoothing)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:  # noqa: D102 (the base's contract)
        return F.cross_entropy(
            logits, target, weight=self.class_weights, label_smoothing=self.label_smoothing
        )


class Focal(Loss):
    """Focal loss of several classes, -(1 - p)^gamma · log p with p the softmax probability of the truth.

    T.-Y. Lin et al., "Focal loss for dense object detection", ICCV 2017; their alpha is ``class_weights``.

    Args:
        class_weights: float [K] or ``None``.
        gamma: How little pictures count that are already right; 0 is cross-entropy. Finite, ≥ 0.
    """

    def __init__(self, class_weights: Sequence[float] | Tensor | None = None, gamma: float = 2.0) -> None:
        super().__init__(class_weights)
        if not (math.isfinite(gamma) and gamma >= 0):
            raise SettingError(f"gamma = {gamma!r}: must be a finite number of at least 0")
        self.gamma = float(gamma)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:  # noqa: D102 (the base's contract)
        log_p = F.log_softmax(logits, 1).gather(1, target[:, None]).squeeze(1)
        # With gamma < 1 the derivative of the power is infinite at p = 1; below the floor it is 0 instead.
        missing = (-torch.expm1(log_p)).clamp(min=1e-12)
        return self._mean(-(missing**self.gamma) * log_p, target)


def make_loss(
    name: LossName,
    *,
    class_weights: Sequence[float] | Tensor | None = None,
    label_smoothing: float = 0.0,
    gamma: float = 2.0,
) -> Loss:
    """Return the loss called ``name``.

    Args:
        name: ``bce`` (the paper's), ``cross_entropy`` or ``focal``.
        class_weights: One weight above 0 for each class, or ``None``; see ``balance.class_weights``.
        label_smoothing: For ``cross_entropy``; the others take no notice.
        gamma: For ``focal``; the others take no notice.

    Raises:
        SettingError: The name is unknown or a value is outside its range.
    """
    if name == "bce":
        return BinaryCrossEntropy(class_weights)
    if name == "cross_entropy":
        return CrossEntropy(class_weights, label_smoothing)
    if name == "focal":
        return Focal(class_weights, gamma)
    raise _unknown(name)


def probabilities(logits: Tensor, loss_name: LossName) -> Tensor:
    """Return the class probabilities that a model trained with this loss states.

    ``cross_entropy`` and ``focal``: softmax. ``bce``: the K sigmoid scores divided by their sum. The paper
    takes the class of the highest score, which the division leaves the highest; the sum of one makes the
    rows comparable with those of the other losses.

    Computed in float64 (where the device has it): sigmoids of logits above 17 would all be 1 in float32.

    Args:
        logits: float [..., K].
        loss_name: The loss that the model was trained with.

    Returns:
        float64 [..., K] (float32 on Apple's mps); rows sum to 1 and rank the classes as the logits do.
        Logits that are NaN give rows of NaN.
    """
    exact = logits.to(torch.float32 if logits.device.type == "mps" else torch.float64)
    if loss_name == "bce":
        # sigmoid / sum(sigmoid), written so that scores which all underflow do not become 0 / 0.
        return F.logsigmoid(exact).softmax(-1)
    if loss_name in ("cross_entropy", "focal"):
        return exact.softmax(-1)
    raise _unknown(loss_name)


def _unknown(name: str) -> SettingError:
    return SettingError(f"loss = {name!r}: unknown; known: {', '.join(get_args(LossName))}")
