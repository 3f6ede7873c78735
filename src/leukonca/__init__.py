"""Neural cellular automata that tell white blood cells apart: lightweight, robust, explainable, reproducible.

>>> import leukonca
>>> training = leukonca.train("folder:my_cells", out="runs/mine")  # doctest: +SKIP
>>> training.model.evaluate(None, out="runs/mine/report")  # doctest: +SKIP
>>> leukonca.load("runs/mine").classify("new_cells").to_frame()  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leukonca._version import __version__
from leukonca.errors import LeukoncaError

if TYPE_CHECKING:
    from leukonca.api import Model, Training, evaluate, load, resume, train
    from leukonca.assessment.metrics import Metrics
    from leukonca.assessment.prediction import Predictions
    from leukonca.learning.settings import Settings

__all__ = [
    "LeukoncaError",
    "Metrics",
    "Model",
    "Predictions",
    "Settings",
    "Training",
    "__version__",
    "evaluate",
    "load",
    "resume",
    "train",
]

_HOME = {
    **dict.fromkeys(("Model", "Training", "evaluate", "load", "resume", "train"), "leukonca.api"),
    "Metrics": "leukonca.assessment.metrics",
    "Predictions": "leukonca.assessment.prediction",
    "Settings": "leukonca.learning.settings",
}


def __getattr__(name: str) -> Any:
    # PyTorch takes seconds to import; it comes with the first name that needs it.
    if name not in _HOME:
        raise AttributeError(f"module 'leukonca' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
