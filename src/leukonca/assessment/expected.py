"""Probabilities where it is known how often each type occurs.

A classifier learns how often its training showed each type and answers accordingly. In the blood of a
healthy person neutrophils are twenty times as frequent as eosinophils; in a collection of pictures they are
not. Where the shares at the place of use are known, Bayes' rule exchanges one for the other: every
probability is multiplied by the share expected there and divided by the share learnt from (M. Saerens, P.
Latinne and C. Decaestecker, "Adjusting the outputs of a classifier to new a priori probabilities", Neural
Computation 14 (2002) 21).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np

from leukonca.assessment.prediction import Predictions
from leukonca.errors import ModelError, SettingError
from leukonca.learning.balance import shares_shown
from leukonca.learning.trained import TrainedModel
from leukonca.vocabulary import project, resolve

__all__ = ["BLOOD", "expectation", "expecting", "learnt_shares", "shares_of"]

BLOOD: Final[Mapping[str, float]] = {
    "neutrophil": 0.500,
    "lymphocyte": 0.300,
    "monocyte": 0.050,
    "eosinophil": 0.025,
    "basophil": 0.0075,
}
"""What is usual in the blood of adults: the middles of the reference intervals that MedlinePlus gives for the
differential count (40–60, 20–40, 2–8, 1–4 and 0.5–1 %). Only their proportions matter."""


def shares_of(text: str) -> dict[str, float]:
    """Return the shares that a text names: ``blood``, or as ``neutrophil=60,eosinophil=3``.

    Raises:
        SettingError: It is neither, a type comes twice, or a share is no number above 0.
    """
    if text.strip().lower() == "blood":
        return dict(BLOOD)
    shares: dict[str, float] = {}
    for entry in text.split(","):
        label, _, number = entry.partition("=")
        name = resolve(label) or label.strip()
        if name in shares:
            raise SettingError(f"expect={text!r}: {name} comes twice; give every type one share")
        try:
            shares[name] = float(number)
        except ValueError:
            raise SettingError(
                f"expect={text!r}: {entry.strip()!r} is not TYPE=SHARE; give 'blood', or two types or more "
                "as in neutrophil=60,lymphocyte=30,eosinophil=3"
            ) from None
    return shares


def learnt_shares(model: TrainedModel) -> dict[str, float]:
    """Return the share of each class in what a model learnt from, of sum 1.

    Raises:
        ModelError: It does not say, or has learnt from another laboratory's labels since.
    """
    provenance = model.provenance
    if any(note["labels"] for note in provenance.get("adapted", [])):
        raise ModelError(
            "this model was adapted with labels, and has learnt how often each type occurs among them: it "
            "cannot be told what else to expect; use the model that it was adapted from"
        )
    settings: dict[str, Any] = provenance.get("settings", {})
    counts: dict[str, int] = provenance.get("cells", {}).get("train", {})
    if "balance" not in settings or not set(model.classes) <= set(counts):
        raise ModelError(
            "the model file does not say how often its training showed each type, so that it cannot be told "
            "what to expect instead; train it anew with this version"
        )
    cells = np.array([counts[name] for name in model.classes], dtype=np.int64)
    shown = shares_shown(cells, settings["balance"], scheme=settings["weight_scheme"])
    return dict(zip(model.classes, shown.tolist(), strict=True))


def expectation(shares: Mapping[str, float], model: TrainedModel) -> Callable[[Predictions], Predictions]:
    """Return :func:`expecting` for a model, once it is known that it can be told these shares.

    Raises:
        ModelError: See :func:`learnt_shares`.
        SettingError: See :func:`expecting`.
    """
    _places(shares, model.classes)
    return partial(expecting, shares=shares, learnt=learnt_shares(model))


def _places(shares: Mapping[str, float], classes: Sequence[str]) -> list[str | None]:
    """Check shares, and return which of them each of a model's classes belongs to; ``None``: to none.

    Raises:
        SettingError: Fewer than two types have a share, one is not positive, or the model does not know it.
    """
    for name, share in shares.items():
        if not (math.isfinite(share) and share > 0):
            raise SettingError(f"expect: the share of {name}, {share:g}, must be a number above 0")
    places = [project(name, shares) for name in classes]
    if unknown := [name for name in shares if name not in places]:
        raise SettingError(
            f"expect: the model does not know {', '.join(unknown)}; its classes are {', '.join(classes)}"
        )
    if len(shares) < 2:
        raise SettingError("expect: one share says nothing; give those of two types or more")
    return places


def expecting(
    predictions: Predictions, shares: Mapping[str, float], learnt: Mapping[str, float]
) -> Predictions:
    """Return what a model says where some types are known to occur in certain shares.

    The probability that a cell is one of these types at all stays as the model gave it, and so do those of
    all other classes: that neutrophils are twenty times as frequent as eosinophils says nothing about
    platelets. A share of a coarse type holds for all its kinds together, which keep their proportions.

    Args:
        predictions: What the model said of N cells.
        shares: The share of each type at the place of use, above 0. Only their proportions matter.
        learnt: The share of each class in what the model learnt from; see :func:`learnt_shares`.

    Returns:
        The predictions with new probabilities. ``spread`` is NaN, and ``sets`` and ``uncalibrated`` are
        ``None``: they are known for the shares of the training only.

    Raises:
        SettingError: Fewer than two types have a share, one is not positive, or the model does not know it.
    """
    places = _places(shares, predictions.classes)
    kinds = dict.fromkeys(shares, 0.0)
    for place, name in zip(places, predictions.classes, strict=True):
        if place is not None:
            kinds[place] += learnt[name]
    named = np.array([place is not None for place in places])
    factors = np.array([shares[place] / kinds[place] for place in places if place is not None])
    probabilities = predictions.probabilities.copy()
    together = probabilities[:, named].sum(axis=1, keepdims=True)
    weighed = probabilities[:, named] * factors
    # A floor instead of 0 / 0 where everything was given to the others.
    weighed /= np.maximum(weighed.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    probabilities[:, named] = together * weighed
    return replace(
        predictions,
        probabilities=probabilities,
        spread=np.full(len(predictions), np.nan),
        sets=None,
        uncalibrated=None,
    )
