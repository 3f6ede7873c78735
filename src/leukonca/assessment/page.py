"""From an evaluation to a page of HTML that needs nothing but itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from leukonca.assessment.figures import title_of
from leukonca.assessment.gallery import file_name
from leukonca.assessment.intervals import Estimate
from leukonca.writing import encode

__all__ = ["count", "decimal", "interval", "percent", "render", "spread"]

_OWN = "leukonca.assessment"
_UNKNOWN = "–"
_GAP = "\N{NO-BREAK SPACE}"  # a number never parts from its sign


def percent(value: float) -> str:
    """0.9134 as ``91.3 %``; NaN as a dash."""
    return _UNKNOWN if math.isnan(value) else f"{100 * value:.1f}{_GAP}%"


def decimal(value: float) -> str:
    """0.9134 as ``0.913``; NaN as a dash."""
    return _UNKNOWN if math.isnan(value) else f"{value:.3f}"


def interval(estimate: Estimate, kind: str = "decimal") -> str:
    """Bounds as ``90.3–92.2 %`` or ``0.903–0.922``; an interval that cannot be told as ``""``."""
    if math.isnan(estimate.low) or math.isnan(estimate.high):
        return ""
    if kind == "percent":
        return f"{100 * estimate.low:.1f}–{100 * estimate.high:.1f}{_GAP}%"
    return f"{estimate.low:.3f}–{estimate.high:.3f}"


def spread(entry: Mapping[str, float], kind: str = "decimal") -> str:
    """Mean and standard deviation as ``90.6 ± 0.2 %`` or ``0.880 ± 0.004``, without what is NaN."""
    mean, deviation = entry["mean"], entry["sd"]
    if math.isnan(mean):
        return _UNKNOWN
    scale, digits, unit = (100, 1, f"{_GAP}%") if kind == "percent" else (1, 3, "")
    around = "" if math.isnan(deviation) else f"{_GAP}±{_GAP}{scale * deviation:.{digits}f}"
    return f"{scale * mean:.{digits}f}{around}{unit}"


def count(number: int, one: str, many: str | None = None) -> str:
    """``1 cell``, ``1,204 cells``."""
    return f"{number:,}{_GAP}{one if number == 1 else many or one + 's'}"


def render(template: str, context: Mapping[str, Any], *, package: str = _OWN) -> bytes:
    """Return the page of a template; everything put into it is escaped.

    Args:
        template: File name below the ``templates/`` of ``package``.
        context: What the template names; a name that is missing is an error, not a gap in the page.
        package: Whose template it is. It can include those of this package, such as ``style.css``.
    """
    folders = dict.fromkeys((package, _OWN))
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(folder, "templates") for folder in folders]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "decimal": decimal,
        "interval": interval,
        "count": count,
        "spread": spread,
        "title_of": title_of,
        "file_name": file_name,
    }
    return encode(environment.get_template(template).render(context))
