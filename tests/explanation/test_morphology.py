from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from explanation.scenes import CLASSES, model, smear
from leukonca.cells.framing import Framing, frame
from leukonca.errors import ModelError
from leukonca.explanation.features import vectors_of
from leukonca.explanation.morphology import AttributeReading, Morphology, Probe, Reading, log_odds
from leukonca.explanation.storage import fingerprint, save_parts

PICTURES = np.stack([frame(smear(seed=seed, nucleus=0.4 + 0.2 * seed)[0], Framing(32)) for seed in range(3)])
IMAGES = np.array([1, 2, 3])
NAMES = (("nucleus_shape", ("round", "band", "lobed")), ("granularity", ("no", "yes")))


def morphology(**changes: Any) -> Morphology:
    """Probes with made-up weights, as the file keeps them: in single precision."""
    generator = np.random.default_rng(0)

    def drawn(*shape: int) -> np.ndarray:
        return generator.normal(size=shape).astype(np.float32).astype(np.float64)

    probes = tuple(
        Probe(
            name,
            values,
            drawn(len(values), 48),
            drawn(len(values)),
            drawn(len(values), 32),
            drawn(len(values)),
        )
        for name, values in NAMES
    )
    made = Morphology(probes, drawn(48), np.abs(drawn(48)) + 0.5, 2, fingerprint(model()), {"cells": 5})
    spread = made.spread.astype(np.float32).astype(np.float64)
    return replace(made, spread=spread, **changes)


def softmax(scores: np.ndarray) -> np.ndarray:
    raised = np.exp(scores - scores.max())
    return raised / raised.sum()


def odds_of(logits: np.ndarray, k: int) -> float:
    p = softmax(logits)[k]
    return float(np.log(p / (1 - p)))


def test_log_odds_are_those_of_the_softmax() -> None:
    scores = np.random.default_rng(1).normal(size=(5, 4))
    chosen = [0, 3, 2, 2, 1]
    expected = [odds_of(row, k) for row, k in zip(scores, chosen, strict=True)]
    assert log_odds(scores, chosen) == pytest.approx(expected)


def test_readings_follow_the_definition_cell_by_cell() -> None:
    trained, probes = model(), morphology()
    readings = probes.read(trained, PICTURES, IMAGES)
    vectors = vectors_of(trained, PICTURES, IMAGES, seeds=2)

    def logits_of(pooled: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return trained.network.head(torch.from_numpy(pooled).float()[None])[0].double().numpy()  # type: ignore[operator, union-attr]

    for row, reading in enumerate(readings):
        pooled = vectors.pooled[row].astype(np.float64)
        class_ = int(logits_of(pooled).argmax())
        assert reading.class_name == CLASSES[class_]
        standardised = (vectors.features[row] - probes.mean) / probes.spread
        for probe, one in zip(probes.probes, reading.attributes, strict=True):
            scores = np.array([weight @ standardised for weight in probe.weight]) + probe.bias
            best = int(scores.argmax())
            assert one.attribute == probe.attribute
            assert one.value == probe.values[best]
            assert list(one.probabilities) == list(probe.values)
            assert list(one.probabilities.values()) == pytest.approx(softmax(scores), abs=1e-6)
            excess = odds_of(scores, best) - probe.centres[best]
            moved = pooled - probe.patterns[best] * excess
            expected = odds_of(logits_of(pooled), class_) - odds_of(logits_of(moved), class_)
            assert one.speaks == pytest.approx(expected, abs=1e-4)


def test_another_class_can_be_asked_about() -> None:
    readings = morphology().read(model(), PICTURES, IMAGES, classes=[2, 0, 1])
    assert [reading.class_name for reading in readings] == [CLASSES[2], CLASSES[0], CLASSES[1]]
    own = morphology().read(model(), PICTURES, IMAGES)
    for one, other in zip(readings, own, strict=True):
        assert [a.probabilities for a in one.attributes] == [a.probabilities for a in other.attributes]


def test_probes_are_read_as_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "m.safetensors"
    morphology().save(file)
    found = Morphology.load(file)
    assert (found.seeds, found.model, found.provenance) == (2, fingerprint(model()), {"cells": 5})
    one, other = found.read(model(), PICTURES, IMAGES), morphology().read(model(), PICTURES, IMAGES)
    assert one == other


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "m.safetensors"
    with pytest.raises(ModelError, match="no such file; name a file of morphology probes"):
        Morphology.load(file)
    save_parts(file, "probes of morphology", {"probes": [["a", ["b", "c"]]]}, {"mean": np.zeros(3)})
    with pytest.raises(ModelError, match="not a file of morphology probes, or damaged"):
        Morphology.load(file)


def test_parts_that_do_not_fit_are_refused() -> None:
    whole = morphology()
    probe = whole.probes[0]
    for change in (
        {"values": ("round", "band")},
        {"values": ("round", "band", "band")},
        {"bias": np.zeros((3, 1))},
        {"patterns": np.full_like(probe.patterns, np.nan)},
    ):
        with pytest.raises(ModelError, match="the probe of 'nucleus_shape'"):
            replace(probe, **change)  # type: ignore[arg-type]
    for changes, said in (
        ({"mean": whole.mean[1:], "spread": whole.spread[1:]}, "probes of 47 features"),
        ({"spread": whole.spread * 0}, "the spread is not above 0"),
        ({"probes": ()}, "there is no probe"),
    ):
        with pytest.raises(ModelError, match=said):
            replace(whole, **changes)  # type: ignore[arg-type]


def test_other_models_are_refused() -> None:
    with pytest.raises(ModelError, match="the probes of morphology: made for another model"):
        morphology().read(model(seed=4), PICTURES, IMAGES)
    conv = model(head="conv", patch=2, steps=1)
    with pytest.raises(ModelError, match="'conv' head sees the grid"):
        morphology(model=fingerprint(conv)).read(conv, PICTURES, IMAGES)


def said(**values: str) -> Reading:
    """A reading in which each attribute has a value with the probability 0.9."""
    attributes = tuple(
        AttributeReading(name, {"other": 0.1, value: 0.9}, speaks=number - 1.0)
        for number, (name, value) in enumerate(values.items())
    )
    return Reading("neutrophil", attributes)


def test_words() -> None:
    whole = said(
        cell_size="big",
        cell_shape="round",
        nucleus_shape="segmented-multilobed",
        nuclear_cytoplasmic_ratio="low",
        chromatin_density="densely",
        cytoplasm_vacuole="no",
        cytoplasm_texture="clear",
        granule_type="small",
        granule_colour="pink",
        granularity="yes",
    )
    assert whole.text == (
        "cell: big 0.90, round 0.90; nucleus: segmented-multilobed 0.90; "
        "nuclear-cytoplasmic ratio: low 0.90; chromatin: densely packed 0.90; "
        "cytoplasm: no vacuoles 0.90, clear 0.90; granules: small 0.90, pink 0.90"
    )
    assert said(cytoplasm_vacuole="yes").text == "cytoplasm: vacuoles 0.90"
    without = said(granule_type="small", granule_colour="nil", granularity="no", nucleus_shape="round")
    assert without.text == "granules: none 0.90; nucleus: round 0.90"
    assert said(granularity="yes", auer_rods="two").text == "granules: yes 0.90; auer rods: two 0.90"


def test_attributes_speak_in_order() -> None:
    reading = said(a="1", b="2", c="3")
    assert [one.attribute for one in reading.speaking()] == ["c", "b", "a"]
    assert [one.speaks for one in reading.speaking()] == [1, 0, -1]
