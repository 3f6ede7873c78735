from __future__ import annotations

import logging
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import runs
from learning.micro import CLASSES, picture, save
from leukonca.cells.framing import Framing
from leukonca.cells.manifest import Manifest
from leukonca.cells.scan import scan
from leukonca.errors import DataError, ModelError, SettingError
from leukonca.learning import adaptation
from leukonca.learning.adaptation import adapt, can_adapt, describe, with_pooled_statistics
from leukonca.learning.bundle import load_bundle, save_bundle
from leukonca.learning.preparation import read_framed
from leukonca.learning.trained import TrainedModel
from leukonca.nca.architecture import Architecture
from leukonca.nca.classifier import CellClassifier
from leukonca.nca.firing import image_id

ELSEWHERE = 12


@cache
def elsewhere() -> Manifest:
    """Other cells of the same types in another light: pale, and green instead of red."""
    folder = runs._home() / "elsewhere"
    for kind, name in enumerate(CLASSES):
        for number in range(ELSEWHERE):
            pixels = picture(100 + number, kind)
            pale = (pixels * np.array([0.3, 0.5, 0.4]) + np.array([20, 120, 90])).astype(np.uint8)
            save(folder / name / f"{number:02}.png", pale)
    return scan([f"folder:{folder}"])


@cache
def model() -> TrainedModel:
    """A model that tells all cells at home apart."""
    from leukonca.learning.training import train

    settings = runs.settings(epochs=30, learning_rate=0.1)
    return train([f"folder:{runs.cells()}"], runs._home() / "certain", settings).model()


def named(trained: TrainedModel, manifest: Manifest) -> np.ndarray:
    cells = list(read_framed(manifest.frame["path"].tolist(), trained.framing))
    pictures = np.stack([framed for framed, _, _ in cells if framed is not None])
    images = np.array([image_id(hash_) for _, hash_, _ in cells])
    return np.array(trained.classes)[trained.probabilities(pictures, images, 0).argmax(1)]


def right(trained: TrainedModel, manifest: Manifest) -> float:
    return float((named(trained, manifest) == manifest.frame["label"].to_numpy()).mean())


def halves() -> tuple[Manifest, Manifest]:
    odd = np.arange(len(elsewhere())) % 2 == 1
    return elsewhere().subset(odd), elsewhere().subset(~odd)


def test_training_tells_what_the_features_are_like() -> None:
    run = runs.run()
    frame = run.manifest.frame
    manifest = run.manifest.subset((frame["split"] == "train").to_numpy())
    cells = list(read_framed(manifest.frame["path"].tolist(), runs.model().framing))
    pictures = torch.from_numpy(np.stack([framed for framed, _, _ in cells if framed is not None]))
    images = torch.tensor([image_id(hash_) for _, hash_, _ in cells])
    inputs = runs.model().normalised(pictures.numpy())
    with torch.inference_mode():
        both = [runs.model().network.rollout(inputs, images, seed=seed).pooled for seed in (0, 1)]
    features = torch.stack(both).double().numpy()
    found = runs.model().pooled
    assert found is not None
    np.testing.assert_allclose(found.mean, features.mean((0, 1)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.spread, features.std((0, 1)), rtol=1e-3, atol=1e-5)


def test_a_model_that_was_not_told_is_told_by_its_training_cells() -> None:
    untold = replace(runs.model(), pooled=None)
    with pytest.raises(ModelError, match="name the image set that it was trained on as the source"):
        adapt(untold, elsewhere())
    found = with_pooled_statistics(untold, runs.run().manifest).pooled
    expected = runs.model().pooled
    assert found is not None
    assert expected is not None
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.spread, expected.spread, rtol=1e-3, atol=1e-5)
    with pytest.raises(DataError, match="none of the 36 cells is one that the model was trained on"):
        with_pooled_statistics(untold, elsewhere())


def test_without_labels_the_statistics_alone_bring_most_cells_back() -> None:
    few, others = halves()
    before = right(model(), others)
    adapted = adapt(model(), few.with_column("label", [""] * len(few)), labels=0)
    assert before < 0.5 < 0.8 < right(adapted, others)
    note = adapted.provenance["adapted"][0]
    assert (note["cells"], note["labels"]) == (len(few), {})
    assert "penalty" not in note


def test_labels_bring_more() -> None:
    few, others = halves()
    adapted = adapt(model(), few, labels=5, seed=3, name="mine")
    assert right(adapted, others) > 0.9
    (note,) = adapted.provenance["adapted"]
    assert note["labels"] == dict.fromkeys(sorted(CLASSES), 5)
    assert note["parent"] == "mine"
    assert note["sources"] == few.frame["source"].unique().tolist()
    costs = {key: value for key, value in note["held_out_cost"].items() if key != "None"}
    assert str(note["penalty"]) == min(costs, key=costs.__getitem__)


def test_no_label_is_read_where_none_is_asked_for() -> None:
    few, _ = halves()
    wrong = few.with_column("label", few.frame["label"].to_numpy()[::-1])
    one, other = (adapt(runs.model(), manifest, labels=0) for manifest in (few, wrong))
    for name, tensor in one.network.state_dict().items():
        torch.testing.assert_close(other.network.state_dict()[name], tensor, rtol=0, atol=0)


def test_an_adapted_model_is_a_model_file_that_knows_its_cells(tmp_path: Path) -> None:
    few, others = halves()
    adapted = adapt(runs.model(), few, labels=5)
    save_bundle(adapted, tmp_path / "adapted.safetensors")
    again = load_bundle(tmp_path / "adapted.safetensors")
    assert again.provenance == adapted.provenance
    np.testing.assert_array_equal(named(again, others), named(adapted, others))
    assert len(again.seen_training) == len(runs.model().seen_training) + 15
    assert set(runs.model().seen_training) < set(again.seen_training)
    assert again.pooled is not None
    # What was fitted to the parent does not hold for the child.
    assert runs.model().trust is not None
    assert again.trust is None
    # The parent is as it was, and a child can be a parent.
    assert "adapted" not in runs.model().provenance
    child = adapt(again, others, labels=0)
    assert [note["cells"] for note in child.provenance["adapted"]] == [15, len(others)]


def test_the_same_cells_and_seed_give_the_same_model() -> None:
    few, _ = halves()
    one, same, other = (adapt(runs.model(), few, labels=5, seed=seed) for seed in (1, 1, 2))
    for name, tensor in one.network.state_dict().items():
        torch.testing.assert_close(same.network.state_dict()[name], tensor, rtol=0, atol=0)
    assert not np.array_equal(one.seen_training, other.seen_training)


def test_only_the_head_changes() -> None:
    adapted = adapt(runs.model(), elsewhere(), labels=5).network.state_dict()
    changed = [
        name
        for name, tensor in runs.model().network.state_dict().items()
        if not torch.equal(adapted[name], tensor)
    ]
    assert changed == ["head.0.weight", "head.0.bias", "head.2.weight", "head.2.bias"]


def test_labels_may_be_coarser_or_finer_than_the_classes(caplog: pytest.LogCaptureFixture) -> None:
    assert adaptation._expressions(
        "neutrophil", ("neutrophil_banded", "monocyte", "neutrophil_segmented")
    ) == [
        "neutrophil_banded",
        "neutrophil_segmented",
    ]
    assert adaptation._expressions("neutrophil_banded", ("neutrophil", "monocyte")) == ["neutrophil"]
    assert adaptation._expressions("platelet", ("neutrophil", "monocyte")) == []
    few, others = halves()
    finer = few.frame["label"].replace({"lymphocyte": "lymphocyte_atypical", "monocyte": "platelet"})
    with caplog.at_level(logging.WARNING):
        adapted = adapt(model(), few.with_column("label", finer))
    assert "6 cells labelled 'platelet' left out: the model has no class for them" in caplog.text
    assert adapted.provenance["adapted"][0]["labels"] == {"eosinophil": 6, "lymphocyte_atypical": 6}
    known = others.subset((others.frame["label"] != "monocyte").to_numpy())
    assert right(adapted, known) > 0.8


def test_copies_count_once_and_broken_files_not_at_all(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    few, _ = halves()
    copy = runs.copy_as(few.frame["path"][0], tmp_path / "copy.bmp")
    (tmp_path / "broken.png").write_bytes(b"broken")
    more = pd.DataFrame({"path": [copy, str(tmp_path / "broken.png")], "label": few.frame["label"][0]})
    adapted = adapt(runs.model(), Manifest(pd.concat([few.frame, more])), labels=0)
    assert adapted.provenance["adapted"][0]["cells"] == len(few)
    assert "left out: " in caplog.text
    assert "broken.png" in caplog.text


def test_folds_hold_groups_together_and_every_label() -> None:
    frame = pd.DataFrame({"path": [str(i) for i in range(40)], "label": ["a", "b"] * 20})
    frame["group"] = [f"slide {i // 2 % 7}" if i < 28 else "" for i in range(40)]
    folds = adaptation._folds(Manifest(frame), np.arange(40) * 97 % 41)
    assert set(folds) == set(range(5))
    assert len(set(zip(frame["group"][:28], folds[:28], strict=True))) == frame["group"][:28].nunique()
    single = frame.assign(fold=folds)[28:].groupby("label")["fold"].nunique()
    assert (single >= 3).all()


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"labels": 4}, SettingError, "labels=4 must be 0, or at least 5 a type"),
        ({"labels": -1}, SettingError, "labels=-1 must be"),
        ({"seed": -1}, SettingError, "seed=-1 must be at least 0"),
    ],
)
def test_impossible_settings_are_refused(options: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        adapt(runs.model(), elsewhere(), **options)


def test_too_few_cells_are_refused() -> None:
    one = elsewhere().subset([0])
    with pytest.raises(DataError, match="1 readable cells are too few"):
        adapt(runs.model(), one, labels=0)
    with pytest.raises(DataError, match=r"at least 2 types that the model knows .* have eosinophil"):
        adapt(runs.model(), elsewhere().subset([0, 1, 2]))
    with pytest.raises(DataError, match="have none"):
        adapt(runs.model(), elsewhere().with_column("label", [""] * 36))


@pytest.mark.parametrize("head", ["channels", "conv"])
def test_other_heads_cannot_be_adapted(head: Any) -> None:
    shape = Architecture(size=32, patch=2, channels=16, hidden=8, steps=1, head=head)
    with torch.random.fork_rng(devices=[]):
        network = CellClassifier(shape, 3)
    other = replace(runs.model(), network=network, framing=Framing(32), pooled=None)
    assert not can_adapt(other)
    with pytest.raises(ModelError, match="cannot be adapted: only an automaton can whose head is 'mlp'"):
        adapt(other, elsewhere())


def test_statistics_of_many_cells_are_those_of_all_batches() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (70, 16, 16, 3), dtype=np.uint8)
    images = np.arange(70, dtype=np.int64)
    found = describe(runs.model(), pictures, images)
    parts = [describe(runs.model(), pictures[part], images[part]).mean for part in (slice(35), slice(35, 70))]
    np.testing.assert_allclose(found.mean, np.mean(parts, axis=0), rtol=1e-5, atol=1e-6)
