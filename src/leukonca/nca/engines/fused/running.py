"""From tensors to the compiled engine and back, with gradients."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from leukonca.nca.engines.fused.library import Job, Library
from leukonca.nca.rule import Rule

__all__ = ["Weights", "run"]


# Of so many pieces of a rollout one at a time has its hidden layers kept, where memory is to be saved.
_PIECES: Final = 4
# Above this estimate of kept hidden layers memory is saved.
_TAPE_LIMIT_BYTES: Final = 1024**3


class _Room:
    """Memory for the hidden layers of a rollout (the tape), used again for the next one.

    The operating system clears what it hands out page by page, which can take a tenth of a training step.
    """

    _lock: ClassVar = threading.Lock()
    _kept: ClassVar[npt.NDArray[np.uint8] | None] = None

    @classmethod
    def take(cls, size: int) -> Tensor:
        """Return uint8 [at least ``size``], of any content, which nothing else uses as long as it is held."""
        with cls._lock:
            # A tensor holds the array that it is made of: with none left, the class and the call have it.
            free = cls._kept is not None and sys.getrefcount(cls._kept) == 2
            if cls._kept is None or not free or not size <= cls._kept.size <= 2 * size:
                # How many sites fire differs from step to step: a little more fits the next one, too.
                cls._kept = np.empty(size + size // 16, dtype=np.uint8)
            return torch.from_numpy(cls._kept)

    @classmethod
    def let_go(cls) -> None:
        """Keep nothing for a next time."""
        with cls._lock:
            cls._kept = None


@dataclass(frozen=True)
class Weights:
    """The rule as the compiled engine takes it: padded, and differentiable in the weights of the rule.

    Attributes:
        filters: [20, C]: nine weights of A and of B for each channel, bias of A, bias of B.
        hidden: [H, 3·C].
        bias: [H].
        update: [C, H].
    """

    filters: Tensor
    hidden: Tensor
    bias: Tensor
    update: Tensor

    @classmethod
    def of(cls, rule: Rule, library: Library) -> Weights:
        """Return those of a rule, channels and hidden units padded with zeros as the library wants them."""
        channels, hidden = -rule.channels % library.pad, -rule.hidden % library.hidden_pad
        filters = torch.cat(
            (
                rule.kernel_a.flatten(1).T,
                rule.kernel_b.flatten(1).T,
                rule.bias_a[None],
                rule.bias_b[None],
            )
        )
        seen = rule.hidden_weight.reshape(rule.hidden, 3, rule.channels)
        return cls(
            F.pad(filters, (0, channels)).contiguous(),
            F.pad(seen, (0, channels, 0, 0, 0, hidden)).flatten(1).contiguous(),
            F.pad(rule.hidden_bias, (0, hidden)).contiguous(),
            F.pad(rule.visible_update(), (0, hidden, 0, channels)).contiguous(),
        )


@dataclass(frozen=True)
class Span:
    """Which steps of which rollout.

    Attributes:
        library: The compiled engine.
        half: Whether products take bf16 numbers.
        keys: int32 [B], see :meth:`leukonca.nca.firing.Firing.keys`.
        threshold: Of the firing hash, in [0, 2²⁴].
        first: First step.
        last: The step after the last.
    """

    library: Library
    half: bool
    keys: Tensor
    threshold: int
    first: int
    last: int

    def job(self, state: Tensor, weights: Weights, **tensors: Tensor) -> Job:
        """Return the description of a call for a packed state; its tensors must outlive it."""
        job = Job()
        job.batch, job.rows, planes, job.columns, pad = state.shape
        job.channels = planes * pad
        job.hidden = weights.bias.numel()
        job.first, job.last, job.threshold = self.first, self.last, self.threshold
        # Within a parallel region of PyTorch there is no second one.
        job.threads = max(1, min(torch.get_num_threads(), job.batch * job.rows))
        job.keys, job.state = self.keys.data_ptr(), state.data_ptr()
        job.filters, job.hidden_weight = weights.filters.data_ptr(), weights.hidden.data_ptr()
        job.hidden_bias, job.update = weights.bias.data_ptr(), weights.update.data_ptr()
        for name, tensor in tensors.items():
            setattr(job, name, tensor.data_ptr())
        return job

    def tape(self, state: Tensor, weights: Weights) -> tuple[Tensor, Tensor]:
        """Return room for the hidden layers of all firing sites, and where each picture's part begins."""
        starts = torch.zeros(len(state) + 1, dtype=torch.int64)
        counts = torch.zeros(len(state), dtype=torch.int64)
        self.library.count_firing(self.job(state, weights), counts)
        starts[1:] = counts.cumsum(0)
        # The products read whole blocks, so that there has to be memory after the last.
        rows = int(starts[-1]) + self.library.block
        return _Room.take(rows * weights.bias.numel() * (2 if self.half else 4)), starts

    def tape_bytes(self, state: Tensor, weights: Weights) -> float:
        """Return about how much memory the hidden layers of a state [B, C, H, W] take in these steps."""
        sites = len(state) * state.shape[2] * state.shape[3] * self.threshold / (1 << 24)
        return (self.last - self.first) * sites * weights.bias.numel() * (2 if self.half else 4)

    def pieces(self, count: int) -> list[Span]:
        """Return the same steps in ``count`` pieces, in their order; fewer where there are fewer steps."""
        count = max(1, min(count, self.last - self.first))
        stops = [self.first + (self.last - self.first) * i // count for i in range(count + 1)]
        return [replace(self, first=first, last=last) for first, last in pairwise(stops)]


class _Rollout(torch.autograd.Function):
    """A span in pieces: the tape of the last is kept, those of the others are made again."""

    @staticmethod
    def forward(
        ctx: Any,
        pieces: list[Span],
        state: Tensor,
        filters: Tensor,
        hidden: Tensor,
        bias: Tensor,
        update: Tensor,
    ) -> Tensor:
        weights, library = Weights(filters, hidden, bias, update), pieces[0].library
        packed = library.pack(state)
        begins, taped = [], []
        for piece in pieces:
            if not any(ctx.needs_input_grad):
                library.forward(piece.job(packed, weights), piece.half)
            elif piece is not pieces[-1]:
                begins.append(packed.clone())
                library.forward(piece.job(packed, weights), piece.half)
            else:
                taped = _forward_with_tape(piece, packed, weights)
        last = library.unpack(packed, state.shape[1])
        # The last state is the caller's anyway, so that keeping it takes no memory.
        ctx.save_for_backward(last, *taped, filters, hidden, bias, update, *begins)
        ctx.pieces = pieces
        if not taped:
            _Room.let_go()  # no training step any more
        return last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        last, tape, starts, filters, hidden, bias, update = ctx.saved_tensors[:7]
        begins, library = ctx.saved_tensors[7:], ctx.pieces[0].library
        weights = Weights(filters, hidden, bias, update)
        sums = Weights(*(torch.zeros_like(weight) for weight in (filters, hidden, bias, update)))
        # Both are changed on the way back to the first step.
        state, packed = library.pack(last), library.pack(gradient)
        for number, piece in reversed(list(enumerate(ctx.pieces))):
            if piece is not ctx.pieces[-1]:
                state = begins[number].clone()
                del tape  # before the next one takes its memory
                tape, starts = _forward_with_tape(piece, state, weights)
            job = piece.job(
                state,
                weights,
                tape=tape,
                tape_starts=starts,
                gradient=packed,
                filters_gradient=sums.filters,
                hidden_weight_gradient=sums.hidden,
                hidden_bias_gradient=sums.bias,
                update_gradient=sums.update,
            )
            library.backward(job, piece.half)
        first = library.unpack(packed, last.shape[1]) if ctx.needs_input_grad[1] else None
        return None, first, sums.filters, sums.hidden, sums.bias, sums.update


def _forward_with_tape(span: Span, state: Tensor, weights: Weights) -> list[Tensor]:
    """Run the steps on a packed state, in place; return the tape and where each picture's part begins."""
    tape, starts = span.tape(state, weights)
    span.library.forward(span.job(state, weights, tape=tape, tape_starts=starts), span.half)
    return [tape, starts]


def run(span: Span, state: Tensor, weights: Weights, *, recompute: bool | None = None) -> Tensor:
    """Return the state after the steps of a span.

    Args:
        span: The steps.
        state: float32 [B, C, H, W].
        weights: Of the rule.
        recompute: Whether the backward pass runs most of the steps again instead of keeping the hidden layers
            of all; ``None``: where those take more than about 1 GB.
    """
    if recompute is None:
        recompute = span.tape_bytes(state, weights) > _TAPE_LIMIT_BYTES
    result: Tensor = _Rollout.apply(  # type: ignore[no-untyped-call]
        span.pieces(_PIECES if recompute else 1),
        state,
        weights.filters,
        weights.hidden,
        weights.bias,
        weights.update,
    )
    return result
