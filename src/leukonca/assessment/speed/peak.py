"""The machine's own peak in matrix products, measured, to hold the automaton's speed against."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from leukonca.nca.engines import fused

__all__ = ["fused_peak", "torch_peak"]

_SIDES = (1024, 2048)
_SHAPES = ((384, 128), (128, 384), (384, 384))
_REPEATS = 2000


def _best(operations: float, run: Callable[[], object], seconds: float) -> float:
    """Return the most operations a second in runs of together about ``seconds``, at least three runs."""
    run()
    best, end, count = float("inf"), time.perf_counter() + seconds, 0
    while count < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
        count += 1
    return operations / best


def torch_peak(kind: torch.dtype, seconds: float = 0.5) -> float:
    """Return the most operations a second that PyTorch reaches in products of large square matrices."""

    def reached(side: int) -> float:
        one, other = torch.randn(side, side).to(kind), torch.randn(side, side).to(kind)
        with torch.inference_mode():
            return _best(2 * side**3, lambda: one @ other, seconds)

    return max(map(reached, _SIDES))


def fused_peak(*, half: bool, seconds: float = 0.5) -> float | None:
    """Return the most operations a second that the fused engine's own product reaches.

    It is that of a block of sites with weights of the size of the presets', both in cache. ``None`` where the
    engine does not run or has no such product.
    """
    library, threads = fused.status().library, torch.get_num_threads()
    if library is None or (half and not fused.status().level.half):
        return None

    def reached(depth: int, columns: int) -> float:
        operations = 2 * library.block * depth * columns * _REPEATS * threads
        return _best(operations, lambda: library.multiply(half, depth, columns, _REPEATS, threads), seconds)

    return max(reached(*shape) for shape in _SHAPES)
