"""The files beside a model file that explanations use: probes of morphology, and an index of cells.

Beside ``NAME.safetensors`` they are called ``NAME.probes.safetensors`` and ``NAME.cells.safetensors``. Both
know by a fingerprint which model they were made for. Where they are found there and not named, those of
another model (one that was trained again, say) are left alone with a note: an explanation without words is
better than none.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from leukonca.errors import ModelError
from leukonca.explanation.morphology import Morphology
from leukonca.explanation.similar import CellIndex
from leukonca.explanation.storage import require_same_model
from leukonca.learning.trained import TrainedModel

__all__ = ["find_index", "find_probes", "index_file", "probes_file"]

_LOG = logging.getLogger(__name__)
_PROBES: Final = ".probes"
_CELLS: Final = ".cells"
_SUFFIX: Final = ".safetensors"

PathLike = str | os.PathLike[str]
Kept = TypeVar("Kept", Morphology, CellIndex)


def probes_file(model: PathLike) -> Path:
    """Return where the probes of a model file are looked for."""
    return _beside(model, _PROBES)


def index_file(model: PathLike) -> Path:
    """Return where the index of a model file is looked for."""
    return _beside(model, _CELLS)


def _beside(model: PathLike, kind: str) -> Path:
    # Not with_suffix, which would take "v2" off a file called "model.v2".
    return Path(model).with_name(Path(model).name.removesuffix(_SUFFIX) + kind + _SUFFIX)


def find_probes(model: TrainedModel, file: Path | None, named: PathLike | None) -> Morphology | None:
    """Return the probes of a model.

    Args:
        model: The model.
        file: The model's file, beside which they are looked for; ``None``: nowhere.
        named: A file that was asked for.

    Returns:
        ``None`` where none were asked for, and there are none of this model beside its file.

    Raises:
        ModelError: The file that was asked for is missing, damaged, or made for another model.
    """
    beside = probes_file(file) if file else None
    return _find(model, beside, named, Morphology.load, "probes of morphology")


def find_index(model: TrainedModel, file: Path | None, named: PathLike | None) -> CellIndex | None:
    """Return the index of a model's cells; arguments, result and errors as for :func:`find_probes`."""
    beside = index_file(file) if file else None
    return _find(model, beside, named, CellIndex.load, "index of cells")


def _find(
    model: TrainedModel,
    beside: Path | None,
    named: PathLike | None,
    load: Callable[[PathLike], Kept],
    what: str,
) -> Kept | None:
    if named is not None:
        kept = load(named)
        require_same_model(model, kept.model, os.fspath(named))
        return kept
    if beside is None or not beside.is_file():
        return None
    try:
        kept = load(beside)
        require_same_model(model, kept.model, str(beside))
    except ModelError as error:
        _LOG.warning("without the %s: %s", what, error)
        return None
    return kept
