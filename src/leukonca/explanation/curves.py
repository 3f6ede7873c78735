"""Probabilities over the steps, as the numbers of an SVG drawing.

Drawn as SVG and not as a picture: its lines and letters take the colours of the page, light or dark.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from leukonca.explanation.evolution import Evolution
from leukonca.explanation.film import colour_of, named_classes

__all__ = ["HEIGHT", "WIDTH", "Curve", "Line", "curve_of"]

WIDTH: Final = 600
HEIGHT: Final = 200
"""Of the field of the drawing."""

# Lines differ in dash as well as in colour.
_DASHES: Final = ("none", "9 4", "2 4", "9 3 2 3")


@dataclass(frozen=True, slots=True)
class Line:
    """One class.

    Attributes:
        name: Its name; ``""`` for classes that never matter.
        points: Of the mean over the firing seeds, ``x,y x,y …``.
        band: Of the area between the least and the greatest of them, the same way round.
        colour: ``#rrggbb``.
        dash: SVG's ``stroke-dasharray``.
        last: The probability after the last step.
    """

    name: str
    points: str
    band: str
    colour: str
    dash: str
    last: float


@dataclass(frozen=True, slots=True)
class Curve:
    """The drawing.

    Attributes:
        named: Lines of the classes that matter, the most probable first.
        others: Lines of all others.
        ticks: Steps and where they lie.
        decided: Where that step lies.
        settled: Where that step lies.
    """

    named: tuple[Line, ...]
    others: tuple[Line, ...]
    ticks: tuple[tuple[int, float], ...]
    decided: float
    settled: float


def curve_of(evolution: Evolution) -> Curve:
    """Return the probabilities of an evolution as a drawing of :data:`WIDTH` by :data:`HEIGHT`."""
    steps, mean = evolution.steps, evolution.mean
    across = np.arange(steps + 1, dtype=np.float64) * (WIDTH / max(1, steps))
    named = named_classes(mean)
    low, high = evolution.probabilities.min(axis=0), evolution.probabilities.max(axis=0)
    lines = {}
    for number, name in enumerate(evolution.classes):
        matters = number in named
        around = np.concatenate((high[:, number], low[::-1, number]))
        lines[number] = Line(
            name=name if matters else "",
            points=_points(across, mean[:, number]),
            band=_points(np.concatenate((across, across[::-1])), around) if matters else "",
            colour=colour_of(name, number),
            dash=_DASHES[named.index(number)] if matters else _DASHES[0],
            last=float(mean[-1, number]),
        )
    every = max(1, -(-steps // 8))
    ticks = sorted(
        {*range(0, steps + 1, every), steps} - ({steps // every * every} if steps % every else set())
    )
    return Curve(
        named=tuple(lines[number] for number in sorted(named, key=lambda number: -lines[number].last)),
        others=tuple(line for number, line in lines.items() if number not in named),
        ticks=tuple((step, float(across[step])) for step in ticks),
        decided=float(across[evolution.decided]),
        settled=float(across[evolution.settled]),
    )


def _points(across: npt.NDArray[np.float64], probabilities: npt.NDArray[np.float64]) -> str:
    down = HEIGHT * (1 - probabilities)
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down, strict=True))
