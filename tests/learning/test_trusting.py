from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from learning.micro import CLASSES, picture, save
from leukonca.cells.decode import decode
from leukonca.cells.framing import Framing, frame
from leukonca.cells.manifest import Manifest
from leukonca.cells.scan import scan
from leukonca.errors import DataError, SettingError
from leukonca.learning.baselines import Baseline
from leukonca.learning.familiarity import Familiarity
from leukonca.learning.recognition import identities
from leukonca.learning.shapes import BaselineShape
from leukonca.learning.trained import TrainedModel
from leukonca.learning.trusting import calibrate
from leukonca.nca.architecture import Architecture
from leukonca.nca.classifier import CellClassifier
from reference.trust import averaged, negative_log_likelihood

PER_CLASS = 16
# Of each class 8 cells were trained on, and 7 chose the epoch; the last it has never seen.
TRAINED, CHOSEN = range(8), range(8, 15)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    folder = tmp_path_factory.mktemp("cells")
    for kind, name in enumerate(CLASSES):
        for number in range(PER_CLASS):
            save(folder / name / f"{number:02}.png", picture(number, kind))
    return scan([f"folder:{folder}"])


def numbers(manifest: Manifest) -> np.ndarray:
    return np.array([int(Path(path).stem) for path in manifest.frame["path"]])


@pytest.fixture(scope="module")
def model(manifest: Manifest) -> TrainedModel:
    """A network that was never trained, but says that it was: what it calls a cell does not matter here."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = CellClassifier(Architecture(size=16, channels=12, hidden=8, steps=3, head_hidden=6), 3)
        nn.init.normal_(network.rule.update_weight, std=0.5)
    ids, number = identities(manifest), numbers(manifest)
    seen = [np.sort(ids[np.isin(number, part)]) for part in (TRAINED, CHOSEN)]
    return TrainedModel(
        network,
        tuple(sorted(CLASSES)),
        Framing(16),
        "picture",
        None,
        "cross_entropy",
        seen_training=seen[0],
        seen_validation=seen[1],
    )


def observed(model: TrainedModel, manifest: Manifest, chosen: range, seeds: int) -> Any:
    """Logits, features and class numbers of the cells of these numbers, in the order of the manifest."""

    part = manifest.subset(np.isin(numbers(manifest), chosen))
    pictures = np.stack([frame(decode(path), model.framing) for path in part.frame["path"]])
    seen = model.observe(pictures, identities(part), seeds)
    return seen, np.array([model.classes.index(label) for label in part.frame["label"]])


def test_the_model_s_own_validation_cells_are_what_it_is_calibrated_on(
    model: TrainedModel, manifest: Manifest
) -> None:
    trust = calibrate(model, manifest, seeds=3).trust
    assert trust is not None
    seen, truth = observed(model, manifest, CHOSEN, 3)
    cost = {
        t: negative_log_likelihood(seen.logits, truth, t, "cross_entropy") + np.log(t) ** 2 / 2
        for t in (trust.temperature, trust.temperature * 1.02, trust.temperature / 1.02)
    }
    assert min(cost, key=cost.__getitem__) == trust.temperature
    probabilities = averaged(seen.logits, trust.temperature, "cross_entropy")
    expected = np.sort(1 - probabilities[np.arange(len(truth)), truth])
    np.testing.assert_allclose(trust.scores, expected, atol=1e-5)
    assert trust.fitted["cells"] == 21
    assert trust.fitted["seeds"] == 3
    assert trust.fitted["training_cells"] == 24
    assert trust.fitted["ece"].keys() == {"before", "after"}


def test_what_cells_are_like_is_learnt_from_the_training_cells_alone(
    model: TrainedModel, manifest: Manifest
) -> None:
    trust = calibrate(model, manifest, seeds=2).trust
    assert trust is not None
    assert trust.familiarity is not None
    known, labels = observed(model, manifest, TRAINED, 1)
    held_out, _ = observed(model, manifest, CHOSEN, 2)
    expected = Familiarity.fit(known.features[0], labels, held_out.features)
    np.testing.assert_allclose(trust.familiarity.distances, expected.distances, rtol=1e-3)


def test_neither_other_cells_nor_names_nor_order_matter(
    model: TrainedModel, manifest: Manifest, tmp_path: Path
) -> None:
    number = numbers(manifest)
    whole = calibrate(model, manifest, seeds=1)
    own = manifest.subset(np.flatnonzero(number < 15)[::-1])
    other = calibrate(model, own, seeds=1)
    assert whole.trust is not None
    assert other.trust is not None
    assert other.trust.temperature == pytest.approx(whole.trust.temperature, rel=1e-4)
    np.testing.assert_allclose(other.trust.scores, whole.trust.scores, atol=1e-5)
    np.testing.assert_array_equal(whole.seen_validation, model.seen_validation)
    assert whole.network is model.network


def test_a_second_calibration_replaces_the_first(model: TrainedModel, manifest: Manifest) -> None:
    first = calibrate(model, manifest, seeds=1)
    again = calibrate(first, manifest, seeds=1)
    assert first.trust is not None
    assert again.trust is not None
    assert again.trust.temperature == first.trust.temperature


def test_without_its_validation_cells_all_others_serve_and_are_remembered(
    model: TrainedModel, manifest: Manifest, caplog: pytest.LogCaptureFixture
) -> None:
    forgetful = replace(model, seen_validation=np.empty(0, np.int64))
    with caplog.at_level(logging.INFO, "leukonca"):
        found = calibrate(forgetful, manifest, seeds=1)
    assert found.trust is not None
    assert found.trust.fitted["cells"] == 24
    assert "24 cells (cells that the model was not trained on)" in caplog.text
    ids = identities(manifest)
    assert sorted(found.seen_validation) == sorted(ids[numbers(manifest) >= 8])


def test_test_cells_and_the_patients_of_training_cells_have_no_say(
    model: TrainedModel, manifest: Manifest
) -> None:
    forgetful = replace(model, seen_validation=np.empty(0, np.int64))
    number = numbers(manifest)
    split = np.where(number == 15, "test", np.where(number == 14, "val", ""))
    groups = np.where((number == 0) | (number == 13), "patient", "")
    given = manifest.with_column("split", split).with_column("group", groups)
    found = calibrate(forgetful, given, seeds=1)
    assert found.trust is not None
    assert found.trust.fitted["cells"] == 3 * len((8, 9, 10, 11, 12, 14))
    assert found.trust.familiarity is None  # 18 are too few
    only_test = given.subset((split == "test") | (number < 8))
    with pytest.raises(DataError, match="none of the 27 labelled cells can be calibrated on"):
        calibrate(forgetful, only_test)


def test_unreadable_files_and_foreign_labels_are_left_out(
    model: TrainedModel, manifest: Manifest, tmp_path: Path
) -> None:
    whole = calibrate(model, manifest, seeds=1)
    (tmp_path / "eosinophil").mkdir()
    (tmp_path / "eosinophil" / "broken.png").write_bytes(b"no picture")
    save(tmp_path / "platelet" / "0.png", picture(99))
    more = scan([f"folder:{tmp_path}"])
    both = Manifest(pd.concat([manifest.frame, more.frame], ignore_index=True))
    found = calibrate(model, both, seeds=1)
    assert whole.trust is not None
    assert found.trust is not None
    np.testing.assert_array_equal(found.trust.scores, whole.trust.scores)
    with pytest.raises(DataError, match="none of the 1 cells has a label among the model's classes"):
        calibrate(model, more.subset((more.frame["label"] == "platelet").to_numpy()))
    broken = more.subset((more.frame["label"] == "eosinophil").to_numpy()).with_column("hash", ["1" * 32])
    with pytest.raises(DataError, match="none of the 1 cells to calibrate on can be read"):
        calibrate(model, broken, seeds=1)


def test_finer_labels_count_as_the_model_s_coarser_classes(model: TrainedModel, manifest: Manifest) -> None:
    finer = manifest.frame["label"].replace("lymphocyte", "lymphocyte_typical")
    found, plain = (
        calibrate(model, given, seeds=1).trust for given in (manifest.with_column("label", finer), manifest)
    )
    assert found is not None
    assert plain is not None
    np.testing.assert_array_equal(found.scores, plain.scores)


class Plain(Baseline):
    """A network of another kind: the same with every seed."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.architecture, self.classes = BaselineShape("resnet18"), 3
        self.body = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 3))

    def forward(self, pictures: Tensor, images: Tensor, seed: int = 0) -> Tensor:
        assert seed == 0
        return self.body(pictures)


def test_a_baseline_tells_foreign_pictures_by_what_its_last_layer_sees(
    model: TrainedModel, manifest: Manifest
) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        baseline = replace(model, network=Plain())
    found = calibrate(baseline, manifest, seeds=2).trust
    assert found is not None
    assert found.familiarity is not None
    assert len(found.familiarity.whitening) == 12


def test_what_training_varied_makes_a_picture_less_strange(model: TrainedModel, manifest: Manifest) -> None:
    taught = replace(model, provenance={"settings": {"augmentation": "laboratories"}})
    untaught = replace(model, provenance={"settings": {"augmentation": "paper"}})  # rotation alone
    plain, same, tolerant = (calibrate(one, manifest, seeds=1).trust for one in (model, untaught, taught))
    again = calibrate(taught, manifest.subset(np.arange(len(manifest))[::-1]), seeds=1).trust
    pictures = np.stack([frame(decode(path), model.framing) for path in manifest.frame["path"]])
    dark = (pictures.astype(float) ** 2 / 255).astype(np.uint8)
    features = model.observe(dark, identities(manifest), 1).features
    for trust in (plain, same, tolerant, again):
        assert trust is not None
        assert trust.familiarity is not None
    np.testing.assert_array_equal(plain.familiarity.distances, same.familiarity.distances)  # type: ignore[union-attr]
    assert tolerant.familiarity.of(features).mean() > plain.familiarity.of(features).mean()  # type: ignore[union-attr]
    np.testing.assert_allclose(
        again.familiarity.distances,  # type: ignore[union-attr]
        tolerant.familiarity.distances,  # type: ignore[union-attr]
        rtol=1e-2,
    )


def test_without_training_cells_nothing_is_known_of_them(model: TrainedModel, manifest: Manifest) -> None:
    found = calibrate(model, manifest.subset(numbers(manifest) >= 8), seeds=1).trust
    assert found is not None
    assert found.familiarity is None
    assert found.fitted["training_cells"] == 0


def test_seeds_must_be_at_least_1(model: TrainedModel, manifest: Manifest) -> None:
    with pytest.raises(SettingError, match="seeds=0"):
        calibrate(model, manifest, seeds=0)


def test_the_views_that_it_was_fitted_with_are_remembered(model: TrainedModel, manifest: Manifest) -> None:
    found = calibrate(model.with_views(2), manifest, seeds=1).trust
    plain = calibrate(model, manifest, seeds=1).trust
    assert found is not None
    assert plain is not None
    assert (found.views, plain.views) == (2, 1)
    assert "views" not in plain.fitted
    seen, truth = observed(model.with_views(2), manifest, CHOSEN, 1)
    probabilities = averaged(seen.logits, found.temperature, "cross_entropy")
    np.testing.assert_allclose(found.scores, np.sort(1 - probabilities[np.arange(21), truth]), atol=1e-5)
