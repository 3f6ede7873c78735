"""The paper's released checkpoints as leukonca models."""

from __future__ import annotations

import os
from collections.abc import Sequence

from leukonca.cells.framing import Framing
from leukonca.errors import LeukoncaError, ModelError, SettingError
from leukonca.learning.bundle import save_bundle
from leukonca.learning.statistics import InputStatistics
from leukonca.learning.trained import TrainedModel
from leukonca.nca.published import PUBLISHED_CLASSES, from_state_dict, load_state_dict_file

__all__ = ["import_published"]


def import_published(
    state_dict: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    steps: int = 64,
    firing: float = 0.5,
    size: int = 64,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> TrainedModel:
    """Convert a released state dict and write it as a model file. No code in the file is run.

    Args:
        state_dict: The released file.
        out: The model file to write.
        steps: Steps that it was trained with.
        firing: Firing probability.
        size: Side of the input, px.
        mean: Mean of red, green and blue of its training pictures, in 0–1. Checkpoints do not hold it.
        std: Their standard deviation. Without both, each picture is normalised by itself.

    Raises:
        ModelError: The file is no such checkpoint, or ``out`` cannot be written.
        SettingError: Only one of ``mean`` and ``std`` is given, or a value is out of range.
    """
    if (mean is None) != (std is None):
        raise SettingError("mean and std belong together: give both or neither")
    statistics = None
    if mean is not None and std is not None:
        if len(mean) != 3 or len(std) != 3:
            raise SettingError(f"mean={list(mean)} and std={list(std)} must be three numbers each")
        statistics = InputStatistics((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))
    try:
        network = from_state_dict(load_state_dict_file(state_dict), steps=steps, firing=firing, size=size)
    except SettingError:
        raise
    except LeukoncaError as error:
        named = str(error) if os.fspath(state_dict) in str(error) else f"{os.fspath(state_dict)}: {error}"
        raise ModelError(named) from error
    model = TrainedModel(
        network=network,
        classes=PUBLISHED_CLASSES,
        # The released code resizes to a square whatever the proportions.
        framing=Framing(size, fit="stretch"),
        normalisation="picture" if statistics is None else "training",
        statistics=statistics,
        loss="bce",
        provenance={
            "citations": [
                "M. Deutges, A. Sadafi, N. Navab, C. Marr. Neural Cellular Automata for Lightweight, Robust "
                "and Explainable Classification of White Blood Cell Images. MICCAI 2024, arXiv:2404.05584"
            ],
            "imported_from": os.path.basename(os.fspath(state_dict)),
        },
    )
    save_bundle(model, out)
    return model
