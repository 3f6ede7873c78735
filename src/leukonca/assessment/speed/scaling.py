"""How the time grows with sites, steps, pictures and threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from leukonca.assessment.speed.timing import interleaved
from leukonca.nca.architecture import preset
from leukonca.nca.engines import engine
from leukonca.nca.firing import Firing
from leukonca.nca.rule import Rule

__all__ = ["scaling"]

_SIDES = (16, 32, 64, 128, 256)
_STEPS = (8, 16, 32, 64, 128)
_PICTURES = (1, 2, 4, 8, 16)
_FEW_SIDES, _FEW_STEPS, _FEW_PICTURES = (16, 32, 64), (8, 16), (1, 4)


def scaling(rounds: int, threads: int, *, quick: bool = False) -> Iterator[list[dict[str, Any]]]:
    """Measure rollouts of the preset ``base``'s rule by the engine that ``auto`` takes, without gradients.

    Gives for each number of threads (1, and ``threads``) the rows of all grids and steps for one picture, and
    those of several pictures of 32 × 32 sites and 16 steps.

    Args:
        rounds: How often each is measured.
        threads: Most threads.
        quick: Take fewer sizes.
    """
    sides, steps = (_FEW_SIDES, _FEW_STEPS) if quick else (_SIDES, _STEPS)
    sizes = [(side, count, 1) for side in sides for count in steps]
    sizes += [(32, 16, count) for count in (_FEW_PICTURES if quick else _PICTURES) if count > 1]
    for used in sorted({1, threads}):
        torch.set_num_threads(used)
        try:
            jobs = {str(size): _rollout(*size) for size in sizes}
            timings = interleaved(jobs, rounds=rounds, least=0.02)
        finally:
            torch.set_num_threads(threads)
        yield [
            {
                "threads": used,
                "sites_a_side": side,
                "steps": count,
                "pictures": pictures,
                "seconds": float(f"{timing.seconds:.4g}"),
                "nanoseconds_per_site_and_step": round(
                    1e9 * timing.seconds / (side**2 * count * pictures), 2
                ),
            }
            for (side, count, pictures), timing in zip(sizes, timings.values(), strict=True)
        ]


def _rollout(side: int, steps: int, pictures: int) -> Callable[[], None]:
    shape = preset("base")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        rule = Rule(shape.channels, shape.hidden, shape.inputs)
        with torch.no_grad():
            rule.update_weight.uniform_(-0.05, 0.05)
        state = torch.randn(pictures, shape.channels, side, side)
    firing = Firing(0, torch.arange(pictures), shape.firing)
    run = engine("auto")

    def work() -> None:
        with torch.inference_mode():
            run(rule, state, firing, steps)

    return work
