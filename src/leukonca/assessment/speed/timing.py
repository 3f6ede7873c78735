"""Timing several things side by side, so that what else the machine does meets all of them alike."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["Timing", "best_batch", "interleaved"]


Key = TypeVar("Key")


@dataclass(frozen=True)
class Timing:
    """How long a job takes, over several rounds.

    Attributes:
        seconds: Median of the time that passed.
        work: Median of the time that the processor worked, over all threads. Its ratios hold longer on a busy
            machine than those of the time that passed.
        rounds: How often it was measured.
    """

    seconds: float
    work: float
    rounds: int


def _once(job: Callable[[], None], times: int = 1) -> tuple[float, float]:
    seconds, work = time.perf_counter(), time.process_time()
    for _ in range(times):
        job()
    return (time.perf_counter() - seconds) / times, (time.process_time() - work) / times


def interleaved(
    jobs: Mapping[Key, Callable[[], None]], *, rounds: int, least: float = 0.2
) -> dict[Key, Timing]:
    """Measure jobs in turn, ``rounds`` times each.

    Args:
        jobs: By name, or whatever else tells them apart.
        rounds: At least 1.
        least: Seconds that one measurement lasts at least: a job that takes less is repeated.
    """
    times = {}
    for name, job in jobs.items():
        _once(job)  # compiles kernels, takes memory
        times[name] = max(1, math.ceil(least / max(_once(job)[0], 1e-9)))
    taken: dict[Key, list[tuple[float, float]]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            taken[name].append(_once(job, times[name]))
    return {
        name: Timing(
            statistics.median(seconds for seconds, _ in rows),
            statistics.median(work for _, work in rows),
            rounds,
        )
        for name, rows in taken.items()
    }


def best_batch(
    make: Callable[[int], Callable[[], None]], sizes: Sequence[int], fits: Callable[[int], bool]
) -> tuple[int, Callable[[], None]] | None:
    """Return the batch size with the most pictures a second, and its job; ``None`` where none fits.

    Args:
        make: From a batch size to the job.
        sizes: To choose from, ascending.
        fits: Whether the memory is enough for a batch size.
    """
    best: tuple[float, int, Callable[[], None]] | None = None
    for size in sizes:
        if not fits(size):
            break
        try:
            job = make(size)
            _once(job)
            speed = size / min(_once(job)[0] for _ in range(2))
        except (MemoryError, RuntimeError) as error:
            if not isinstance(error, MemoryError) and "memory" not in str(error):
                raise
            break
        if best is None or speed > best[0]:
            best = speed, size, job
    return None if best is None else best[1:]
