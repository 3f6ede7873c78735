"""Learning from the answers of larger models beside the labels.

G. Hinton, O. Vinyals and J. Dean, "Distilling the knowledge in a neural network", arXiv 1503.02531 (2015):
the student is also asked for the probabilities that its teachers give to the same varied picture, softened by
a temperature, so that it learns which mistakes are near.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from leukonca.cells.framing import Framing
from leukonca.errors import SettingError
from leukonca.learning.bundle import load_bundle
from leukonca.learning.statistics import normalise
from leukonca.learning.trained import TrainedModel

__all__ = ["Teachers", "described", "distance", "load_teachers"]


class Teachers:
    """Trained models that answer together, with the mean of their probabilities.

    Args:
        models: Of the same classes and, but for the size, the same framing; at least one.
        temperature: What their logits are divided by, above 0.
    """

    def __init__(self, models: Sequence[TrainedModel], temperature: float) -> None:
        self.models, self.temperature = tuple(models), temperature
        for model in self.models:
            model.network.eval().requires_grad_(False)

    @torch.no_grad()
    def answer(self, pictures: Tensor, images: Tensor, seed: int) -> Tensor:
        """Return softened probabilities, float32 [B, K].

        Args:
            pictures: As the student sees them, before any normalisation, float32 [B, 3, S, S] in [0, 1]; a
                teacher of another size gets them resized.
            images: Identities of the pictures, int64 [B].
            seed: Firing seed, for teachers that are automata.
        """
        answers = []
        for model in self.models:
            network, size = model.network.to(pictures.device), model.framing.size
            seen = pictures
            if size != pictures.shape[-1]:
                seen = F.interpolate(pictures, (size, size), mode="bilinear", antialias=True)
            logits = network(normalise(seen, model.normalisation, model.statistics), images, seed)
            answers.append(F.softmax(logits.float() / self.temperature, dim=1))
        return torch.stack(answers).mean(0)


def distance(logits: Tensor, answer: Tensor, temperature: float) -> Tensor:
    """Return temperature² times the mean Kullback–Leibler divergence of a student from its teachers.

    The square keeps the size of the gradients whatever the temperature.

    Args:
        logits: The student's, float [B, K].
        answer: The teachers' softened probabilities, float [B, K].
        temperature: With which they were softened.
    """
    student = F.log_softmax(logits.float() / temperature, dim=1)
    return temperature**2 * F.kl_div(student, answer, reduction="batchmean")


def load_teachers(
    files: Sequence[str],
    temperature: float,
    *,
    classes: tuple[str, ...],
    framing: Framing,
    held_out: npt.NDArray[np.int64],
) -> Teachers | None:
    """Return the teachers of a run; ``None`` where there are none.

    Args:
        files: Model files.
        temperature: See :class:`Teachers`.
        classes: The student's.
        framing: The student's: teachers see the same part of the same pictures.
        held_out: Identities of the student's validation and test cells, int64 [n]. A teacher that was trained
            on one of them would pass on what it knows of it.

    Raises:
        SettingError: A teacher cannot be read, has other classes or another framing, was trained with another
            kind of loss, or has seen cells that the student holds out.
    """
    models = []
    for file in files:
        if not Path(file).is_file():
            raise SettingError(f"teachers: {file}: is not a file; name the model file of a trained model")
        model = load_bundle(file)
        if model.classes != classes:
            raise SettingError(
                f"teachers: {file} knows the classes {', '.join(model.classes)}, the student is to learn "
                f"{', '.join(classes)}; train the teacher on the same classes"
            )
        if replace(model.framing, size=framing.size) != framing:
            raise SettingError(
                f"teachers: {file} sees its pictures as {model.framing}, the student as {framing}; train the "
                "teacher with the student's fit, crop, reach and colour"
            )
        if model.loss == "bce":
            raise SettingError(f"teachers: {file} was trained with loss='bce', and gives no distribution")
        seen = int(np.isin(held_out, model.seen_training).sum())
        if seen:
            raise SettingError(
                f"teachers: {file} was trained on {seen} of the {len(held_out)} cells that this run holds "
                "out for validation and test; train it with the same data, seed and fractions or folds"
            )
        models.append(model)
    return Teachers(models, temperature) if models else None


def described(teachers: Teachers | None) -> list[dict[str, Any]]:
    """Return where the teachers come from, as JSON values."""
    if teachers is None:
        return []
    return [
        {
            "preset": model.provenance.get("settings", {}).get("preset", ""),
            "epoch": model.provenance.get("epoch"),
            "validation": model.provenance.get("validation", {}),
            "parameters": model.network.parameter_count,
        }
        for model in teachers.models
    ]
