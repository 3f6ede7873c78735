"""A cell in the pathologist's words, read from the automaton's channels by linear probes.

A probe is a logistic regression from the features of a cell (:mod:`leukonca.explanation.features`) to the
values of one attribute, such as the shape of the nucleus; :mod:`leukonca.explanation.probing` fits it. It
shows what the channels hold of an attribute. It does not show that the model uses it, so a reading also
tells how much each attribute *speaks for* the class:

    With *s* the log odds of the attribute's value under its probe, the pooled vector is moved along the
    pattern of *s* until *s* is what it is in the average cell, and the head is asked again. What the log odds
    of the class lose by that is what the attribute says for the class; below zero it speaks against it.

The pattern of *s* is how the pooled vector moves where *s* rises by one *among cells of one class*: the
regression of the pooled vector on *s*, both less the mean of their class. A probe's own weights would be no
such direction, for they also cancel what other channels say (Haufe et al., NeuroImage 87 (2014) 96).
Without holding the class fixed, every attribute that only goes along with a class would seem to speak for
it. The alternative, how often a value occurs in a class, says something about cells and nothing about the
model.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import logsumexp, softmax

from leukonca.errors import ModelError
from leukonca.explanation.automaton import automaton_of
from leukonca.explanation.features import vectors_of
from leukonca.explanation.storage import load_parts, require_same_model, save_parts
from leukonca.learning.trained import TrainedModel
from leukonca.vocabulary import project, resolve

__all__ = ["AttributeReading", "Morphology", "Probe", "Reading", "attribute_title", "log_odds"]

_KIND: Final = "probes of morphology"
# What the attributes of WBCAtt are called in a sentence: part of the cell, and how a value is said.
_PARTS: Final[dict[str, tuple[str, str]]] = {
    "cell_size": ("cell", "{}"),
    "cell_shape": ("cell", "{}"),
    "nucleus_shape": ("nucleus", "{}"),
    "nuclear_cytoplasmic_ratio": ("nuclear-cytoplasmic ratio", "{}"),
    "chromatin_density": ("chromatin", "{} packed"),
    "cytoplasm_colour": ("cytoplasm", "{}"),
    "cytoplasm_texture": ("cytoplasm", "{}"),
    "cytoplasm_vacuole": ("cytoplasm", "{} vacuoles"),
    "granularity": ("granules", "{}"),
    "granule_type": ("granules", "{}"),
    "granule_colour": ("granules", "{}"),
}

Floats = npt.NDArray[np.float64]


def attribute_title(attribute: str) -> str:
    """Return the name of an attribute for people, such as ``Nucleus shape``."""
    words = attribute.replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def log_odds(scores: Floats, chosen: npt.ArrayLike) -> Floats:
    """Return the log odds of a chosen column of each row under softmax.

    Args:
        scores: float64 [B, V], V at least 2.
        chosen: int [B], numbers of columns.
    """
    rows, columns = np.arange(len(scores)), np.asarray(chosen)
    others = scores.copy()
    others[rows, columns] = -np.inf
    odds: Floats = scores[rows, columns] - logsumexp(others, axis=1)
    return odds


@dataclass(frozen=True, eq=False)
class Probe:
    """One attribute.

    Attributes:
        attribute: Its name.
        values: Names of the V values.
        weight: float64 [V, F], of the standardised features.
        bias: float64 [V].
        patterns: float64 [V, P], how the pooled vector moves where the log odds of a value rise by one.
        centres: float64 [V], the log odds of each value in the average cell, every class counting alike.

    Raises:
        ModelError: The parts do not fit together, or a number is not finite.
    """

    attribute: str
    values: tuple[str, ...]
    weight: Floats
    bias: Floats
    patterns: Floats
    centres: Floats

    def __post_init__(self) -> None:
        count = len(self.values)
        shapes = [array.shape for array in (self.weight, self.patterns, self.bias, self.centres)]
        fit = [len(shape) for shape in shapes] == [2, 2, 1, 1] and {shape[0] for shape in shapes} == {count}
        if not fit or count < 2 or len(set(self.values)) != count:
            raise ModelError(
                f"the probe of {self.attribute!r} with {count} values has parts of shapes {shapes}"
            )
        if not all(
            np.isfinite(array).all() for array in (self.weight, self.patterns, self.bias, self.centres)
        ):
            raise ModelError(f"the probe of {self.attribute!r} holds numbers that are not finite")

    def scores(self, standardised: Floats) -> Floats:
        """Return the score of each value, float64 [B, V]; its softmax are the probabilities."""
        scores: Floats = standardised @ self.weight.T + self.bias
        return scores


@dataclass(frozen=True, slots=True)
class AttributeReading:
    """What is read of one attribute of one cell.

    Attributes:
        attribute: Its name.
        probabilities: Of each value, by name; they sum to 1.
        speaks: How much the most probable value speaks for the class: log odds of the class, natural
            logarithm; below zero against it.
    """

    attribute: str
    probabilities: Mapping[str, float]
    speaks: float

    @property
    def value(self) -> str:
        """The most probable value."""
        return max(self.probabilities, key=lambda value: self.probabilities[value])

    @property
    def probability(self) -> float:
        """Its probability."""
        return self.probabilities[self.value]


@dataclass(frozen=True, slots=True)
class Reading:
    """One cell in the pathologist's words.

    Attributes:
        class_name: The class that the attributes speak for or against.
        attributes: In the order of the probes.
    """

    class_name: str
    attributes: tuple[AttributeReading, ...]

    @property
    def text(self) -> str:
        """Such as ``nucleus: segmented-multilobed 0.97; granules: small 0.99, pink 0.98``."""
        parts: dict[str, list[str]] = {}
        none = any(one.attribute == "granularity" and one.value == "no" for one in self.attributes)
        granular = {one.attribute for one in self.attributes} >= {"granule_type", "granule_colour"}
        for one in self.attributes:
            part, said = _PARTS.get(one.attribute, (one.attribute.replace("_", " "), "{}"))
            # With granules their type and colour say enough; without them nothing is left to say.
            if part == "granules" and granular and (one.attribute == "granularity") != none:
                continue
            value = "none" if part == "granules" and none else one.value
            words = said.format(value).removeprefix("yes ")
            parts.setdefault(part, []).append(f"{words} {one.probability:.2f}")
        return "; ".join(f"{part}: {', '.join(values)}" for part, values in parts.items())

    def speaking(self) -> list[AttributeReading]:
        """Return the attributes from the one that speaks most for the class to the one most against it."""
        return sorted(self.attributes, key=lambda one: -one.speaks)


@dataclass(frozen=True, eq=False)
class Morphology:
    """The probes of one model.

    Attributes:
        probes: One for each attribute.
        mean: float64 [F], of the features of the training cells.
        spread: float64 [F], their standard deviation, above 0.
        seeds: Firing seeds that vectors are averaged over.
        model: Fingerprint of the model.
        provenance: What the probes were fitted on, and what was chosen. JSON values.

    Raises:
        ModelError: The parts do not fit together.
    """

    probes: tuple[Probe, ...]
    mean: Floats
    spread: Floats
    seeds: int
    model: str
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        width = len(self.mean)
        if self.mean.shape != self.spread.shape or any(one.weight.shape[1] != width for one in self.probes):
            raise ModelError(f"probes of {width} features do not all have so many weights")
        if not (np.isfinite(self.mean).all() and np.isfinite(self.spread).all() and (self.spread > 0).all()):
            raise ModelError("the mean or spread of a feature is not finite, or the spread is not above 0")
        if not self.probes:
            raise ModelError("there is no probe")

    @property
    def described(self) -> tuple[str, ...]:
        """The types of cells that the probes were fitted on, by the vocabulary's names where it has them."""
        return tuple(resolve(label) or label for label in self.provenance.get("labels", []))

    def describes(self, class_name: str) -> bool:
        """Whether cells of this type were among those that the probes were fitted on.

        Of others the probes say something, too, but nobody has looked whether it is true: a platelet has no
        nucleus whose shape could be read. Where the types are not known, all are taken to be among them.
        """
        return not self.described or project(class_name, self.described) is not None

    def standardised(self, features: npt.NDArray[np.float32]) -> Floats:
        """Return features as the probes take them, float64 [B, F]."""
        return (features.astype(np.float64) - self.mean) / self.spread

    def read(
        self,
        model: TrainedModel,
        pictures: npt.NDArray[np.uint8],
        images: npt.NDArray[np.int64],
        classes: npt.ArrayLike | None = None,
    ) -> list[Reading]:
        """Describe cells.

        Args:
            model: The model that the probes were fitted on.
            pictures: Framed, uint8 [B, S, S, 3].
            images: Their identities, int64 [B].
            classes: int [B], for or against which class the attributes are to speak; ``None``: the one that
                the head names for the pooled vector.

        Raises:
            ModelError: It is another model, or its head sees no pooled vector.
        """
        require_same_model(model, self.model, "the probes of morphology")
        vectors = vectors_of(model, pictures, images, seeds=self.seeds, purpose="morphology")
        pooled, features = vectors.pooled.astype(np.float64), self.standardised(vectors.features)
        logits = _head(model, pooled)
        wanted = logits.argmax(axis=1) if classes is None else np.asarray(classes)
        before, rows = log_odds(logits, wanted), np.arange(len(pooled))
        columns = []
        for probe in self.probes:
            scores = probe.scores(features)
            value = scores.argmax(axis=1)
            excess = log_odds(scores, value) - probe.centres[value]
            moved = _head(model, pooled - probe.patterns[value] * excess[:, None])
            columns.append((probe, softmax(scores, axis=1), before - log_odds(moved, wanted)))
        return [
            Reading(
                model.classes[wanted[row]],
                tuple(
                    AttributeReading(
                        probe.attribute,
                        dict(zip(probe.values, map(float, probabilities[row]), strict=True)),
                        float(speaks[row]),
                    )
                    for probe, probabilities, speaks in columns
                ),
            )
            for row in rows
        ]

    def save(self, file: str | os.PathLike[str]) -> None:
        """Write the probes as one safetensors file.

        Raises:
            DataError: It cannot be written.
        """
        arrays = {"mean": self.mean, "spread": self.spread}
        for number, probe in enumerate(self.probes):
            for name in ("weight", "bias", "patterns", "centres"):
                arrays[f"{number}.{name}"] = getattr(probe, name)
        note = {
            "model": self.model,
            "seeds": self.seeds,
            "provenance": self.provenance,
            "probes": [[probe.attribute, list(probe.values)] for probe in self.probes],
        }
        save_parts(file, _KIND, note, {name: array.astype(np.float32) for name, array in arrays.items()})

    @classmethod
    def load(cls, file: str | os.PathLike[str]) -> Morphology:
        """Read probes; nothing in the file is run.

        Raises:
            ModelError: The file is missing, foreign, damaged or newer than this version.
        """
        note, arrays = load_parts(file, _KIND, "a file of morphology probes")
        exact = {name: array.astype(np.float64) for name, array in arrays.items()}
        try:
            probes = tuple(
                Probe(
                    str(attribute),
                    tuple(map(str, values)),
                    *(exact[f"{number}.{name}"] for name in ("weight", "bias", "patterns", "centres")),
                )
                for number, (attribute, values) in enumerate(note["probes"])
            )
            return cls(
                probes,
                exact["mean"],
                exact["spread"],
                int(note["seeds"]),
                str(note["model"]),
                dict(note["provenance"]),
            )
        except (KeyError, TypeError, ValueError, IndexError, ModelError) as error:
            raise ModelError(
                f"{file}: not a file of morphology probes, or damaged ({error}); make it anew"
            ) from error


@torch.inference_mode()
def _head(model: TrainedModel, pooled: Floats) -> Floats:
    """The logits that the head gives for pooled vectors, float64 [B, K]."""
    network = automaton_of(model, "morphology")
    if not pooled.shape[1]:
        raise ModelError(
            "morphology asks the head about pooled channels, but this model's 'conv' head sees the grid; "
            "take a model with another head"
        )
    logits: Floats = network.head(torch.from_numpy(pooled).float().to(model.device)).double().cpu().numpy()
    return logits
