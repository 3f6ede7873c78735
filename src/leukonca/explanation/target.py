"""What is explained: a class's logit, or why this class rather than another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from leukonca.errors import SettingError

__all__ = ["Target", "TargetKind"]

TargetKind = Literal["logit", "rest", "class"]

# Points and weights of a Gauss–Legendre quadrature on [0, 1]. The softmax along a straight line is smooth: at
# this order its mean is exact to rounding while logits move by less than some thirty.
_POINTS: Final = 64


@dataclass(frozen=True, eq=False)
class Target:
    """The number that an explanation takes apart, one for each picture.

    Attributes:
        kind: ``logit``: the logit of the class. ``rest``: that logit minus the log-sum-exp of all others,
            which is the log odds of the class for a model with softmax: why this class rather than any other.
            ``class``: that logit minus the logit of one other class: why this rather than that.
        classes: int64 [B], the class of each picture.
        others: int64 [B], for ``class`` only: the class that it is held against.

    Raises:
        SettingError: The kind is unknown, shapes disagree, or a class is held against itself.
    """

    kind: TargetKind
    classes: Tensor
    others: Tensor | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(TargetKind):
            raise SettingError(f"target {self.kind!r} is unknown; known: {', '.join(get_args(TargetKind))}")
        if (self.others is not None) != (self.kind == "class"):
            raise SettingError(f"target {self.kind!r}: others belong to 'class', and to no other kind")
        for name, numbers in (("classes", self.classes), ("others", self.others)):
            if numbers is None:
                continue
            if numbers.dtype != torch.int64 or numbers.shape != (len(self.classes),):
                raise SettingError(
                    f"target: {name} must be int64 [B], not {numbers.dtype} {list(numbers.shape)}"
                )
        if self.others is not None and bool((same := self.classes == self.others).any()):
            row = int(same.nonzero()[0, 0])
            raise SettingError(
                f"target: picture {row} holds class {int(self.classes[row])} against itself; name another"
            )

    def __len__(self) -> int:
        return len(self.classes)

    def rows(self, chosen: Tensor | slice) -> Target:
        """Return the target of some of the pictures, or of pictures repeated, by row numbers int64 [n]."""
        return Target(self.kind, self.classes[chosen], None if self.others is None else self.others[chosen])

    def value(self, logits: Tensor) -> Tensor:
        """Return the number that is explained, [B].

        Args:
            logits: float [B, K].

        Raises:
            SettingError: A class is not among the K, or there are not B of them.
        """
        self._check(logits)
        own = logits.gather(1, self.classes[:, None])[:, 0]
        if self.kind == "logit":
            return own
        if self.others is not None:
            return own - logits.gather(1, self.others[:, None])[:, 0]
        return own - self._without_own(logits).logsumexp(1)

    def weights(self, logits: Tensor, reference: Tensor | None = None) -> Tensor:
        """Return how the target is shared out among the logits: weights w, [B, K].

        Without reference they are the gradient at ``logits``. With it they are the mean gradient on the
        straight line from ``reference`` to ``logits``, so that ``(w · (logits - reference)).sum(1)`` is the
        difference of the two values (Aumann and Shapley, *Values of Non-Atomic Games*, 1974).

        Args:
            logits: float [B, K].
            reference: float [B, K] or ``None``.
        """
        self._check(logits)
        own = torch.zeros_like(logits).scatter_(1, self.classes[:, None], 1.0)
        if self.kind == "logit":
            return own
        if self.others is not None:
            return own.scatter_(1, self.others[:, None], -1.0)
        if reference is None:
            return own - self._without_own(logits).softmax(1)
        nodes, shares = np.polynomial.legendre.leggauss(_POINTS)
        for node, share in zip((nodes + 1) / 2, shares / 2, strict=True):
            between = reference + (logits - reference) * float(node)
            own -= self._without_own(between).softmax(1) * float(share)
        return own

    def _without_own(self, logits: Tensor) -> Tensor:
        return logits.scatter(1, self.classes[:, None], -torch.inf)

    def _check(self, logits: Tensor) -> None:
        if logits.dim() != 2 or len(logits) != len(self):
            raise SettingError(
                f"target of {len(self)} pictures does not fit logits of shape {list(logits.shape)}"
            )
        numbers = self.classes if self.others is None else torch.cat((self.classes, self.others))
        if numbers.numel() and not 0 <= int(numbers.min()) <= int(numbers.max()) < logits.shape[1]:
            raise SettingError(
                f"target: classes from {int(numbers.min())} to {int(numbers.max())}, but the model has "
                f"{logits.shape[1]}, numbered from 0"
            )
