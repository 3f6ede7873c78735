from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from leukonca.cells.framing import Framing
from leukonca.errors import SettingError
from leukonca.learning.losses import LossName
from leukonca.learning.statistics import InputStatistics, Normalisation
from leukonca.learning.trained import TrainedModel
from leukonca.learning.trust import Trust
from leukonca.nca.architecture import Architecture
from leukonca.nca.classifier import CellClassifier
from leukonca.nca.firing import derive_seed
from reference.trust import averaged

ARCHITECTURE = Architecture(size=16, patch=2, channels=16, hidden=8, steps=4, head_hidden=8)
STATISTICS = InputStatistics((0.5, 0.4, 0.6), (0.2, 0.1, 0.3))


def model(loss: LossName = "cross_entropy", normalisation: Normalisation = "training") -> TrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = CellClassifier(ARCHITECTURE, 3)
        torch.nn.init.normal_(network.rule.update_weight, std=0.3)
    statistics = STATISTICS if normalisation == "training" else None
    return TrainedModel(network, ("a", "b", "c"), Framing(16), normalisation, statistics, loss)


def cells(count: int = 6) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(1)
    return chance.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8), np.arange(count, dtype=np.int64) * 7


def test_the_input_is_what_training_saw() -> None:
    pictures, _ = cells()
    expected = (pictures / 255 - np.array(STATISTICS.mean)) / np.array(STATISTICS.std)
    found = model().normalised(pictures)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected.transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", ["cross_entropy", "bce", "focal"])
def test_probabilities_sum_to_one_and_need_no_gradient(loss: LossName) -> None:
    found = model(loss).probabilities(*cells(), seed=0)
    assert (found.shape, found.dtype) == ((6, 3), np.float64)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
    assert (found > 0).all()


def test_a_probability_depends_on_neither_batch_nor_order() -> None:
    trained, (pictures, images) = model(), cells()
    together = trained.probabilities(pictures, images, 5)
    order = [4, 0, 3]
    np.testing.assert_allclose(
        trained.probabilities(pictures[order], images[order], 5), together[order], atol=1e-6
    )
    for row in range(len(pictures)):
        alone = trained.probabilities(pictures[row : row + 1], images[row : row + 1], 5)
        np.testing.assert_allclose(alone[0], together[row], atol=1e-6)


def test_the_seed_and_the_image_decide_on_the_firing() -> None:
    trained, (pictures, images) = model(), cells()
    first = trained.probabilities(pictures, images, 0)
    np.testing.assert_array_equal(trained.probabilities(pictures, images, 0), first)
    assert not np.allclose(trained.probabilities(pictures, images, 1), first)
    assert not np.allclose(trained.probabilities(pictures, images + 1, 0), first)


def test_a_network_in_training_is_used_as_for_evaluation() -> None:
    trained = model()
    trained.network.train()
    trained.probabilities(*cells(), seed=0)
    assert not trained.network.training


def test_strided_pictures_work() -> None:
    trained, (pictures, images) = model(), cells()
    flipped = trained.probabilities(pictures[:, ::-1], images, 0)
    np.testing.assert_array_equal(trained.probabilities(pictures[:, ::-1].copy(), images, 0), flipped)


def test_other_statistics_make_another_model_and_leave_the_first() -> None:
    trained = model(normalisation="none")
    other = trained.with_statistics(STATISTICS)
    assert (trained.statistics, trained.normalisation) == (None, "none")
    assert (other.statistics, other.normalisation) == (STATISTICS, "training")
    assert other.network is trained.network


def test_pictures_of_another_size_are_refused() -> None:
    with pytest.raises(SettingError, match="do not fit"):
        model().probabilities(np.zeros((1, 17, 17, 3), np.uint8), np.zeros(1, np.int64), 0)


@pytest.mark.parametrize("loss", ["cross_entropy", "bce"])
def test_a_calibrated_model_divides_its_logits_by_the_temperature(loss: LossName) -> None:
    plain, (pictures, images) = model(loss), cells()
    calibrated = replace(plain, trust=Trust(0.4, np.zeros(1, np.float32)))
    for seed in (0, 2):
        logits = plain.network(plain.normalised(pictures), torch.from_numpy(images), seed)
        values = logits.detach().double().numpy()[None]
        for trained, temperature in ((plain, 1.0), (calibrated, 0.4)):
            found = trained.probabilities(pictures, images, seed)
            np.testing.assert_allclose(found, averaged(values, temperature, loss), atol=1e-7)


def test_an_observation_is_a_run_of_each_firing_seed() -> None:
    trained, (pictures, images) = model(), cells()
    seen = trained.observe(pictures, images, 3)
    assert (seen.logits.shape, seen.logits.dtype) == ((3, 6, 3), np.float64)
    inputs, ids = trained.normalised(pictures), torch.from_numpy(images)
    runs = [trained.network.logits_and_features(inputs, ids, seed) for seed in range(3)]
    for seed in range(3):
        np.testing.assert_array_equal(seen.logits[seed], runs[seed][0].detach().numpy())
        stated = trained.stated(seen.logits)[seed]
        np.testing.assert_allclose(stated, trained.probabilities(pictures, images, seed), atol=1e-6)
    assert seen.features is not None
    mean = np.mean([features.detach().numpy() for _, features in runs], axis=0)
    np.testing.assert_allclose(seen.features, [mean], atol=1e-6)
    np.testing.assert_array_equal(trained.stated(seen.logits, temperature=1.0), trained.stated(seen.logits))


def test_views_are_the_orientations_each_with_firing_of_its_own() -> None:
    trained, (pictures, images) = model(normalisation="picture"), cells()
    seen = trained.with_views(8).observe(pictures, images, 2)
    turned = [np.rot90(way, turn, (1, 2)) for way in (pictures, pictures[:, :, ::-1]) for turn in range(4)]
    logits, features = [], []
    for view, part in enumerate(turned):
        inputs = trained.normalised(part)
        for seed in (0, 1):
            key = derive_seed(seed, view) if view else seed
            found = trained.network.logits_and_features(inputs, torch.from_numpy(images), key)
            logits.append(found[0].detach().numpy())
            features.append(found[1].detach().numpy())
    assert seen.logits.shape == (16, 6, 3)
    np.testing.assert_allclose(seen.logits, logits, atol=1e-5)
    each = np.reshape(features, (8, 2, *features[0].shape)).mean(axis=1)
    np.testing.assert_allclose(seen.features, each, atol=1e-5)
    np.testing.assert_array_equal(
        trained.with_views(1).observe(pictures, images, 2).logits, trained.observe(pictures, images, 2).logits
    )


@pytest.mark.parametrize("views", [0, 9, -1])
def test_a_square_has_eight_orientations(views: int) -> None:
    with pytest.raises(SettingError, match=f"views={views} must be 1 to 8"):
        model().with_views(views)


def test_where_every_site_fires_one_run_says_all() -> None:
    chance, pictures, images = model(), *cells()
    assert list(chance.firing_seeds(3)) == [0, 1, 2]
    assert len(chance.observe(pictures, images, 3).logits) == 3
    every = replace(chance, network=CellClassifier(replace(ARCHITECTURE, firing=1.0), 3))
    every.network.load_state_dict(chance.network.state_dict())
    assert list(every.firing_seeds(3)) == [0]
    assert every.views == 1  # of the model that it was made from
    once = every.observe(pictures, images, 3).logits
    assert once.shape == (1, 6, 3)
    # Not even the pictures' identities matter, which decide on nothing but firing.
    np.testing.assert_array_equal(once, every.observe(pictures, images + 1, 1).logits)
    # Views still differ, so that there is something to average and a spread; a new model has four.
    new = replace(every, views=0)
    assert new.views == 4
    found = new.observe(pictures, images, 3).logits
    np.testing.assert_array_equal(found, every.with_views(4).observe(pictures, images, 1).logits)
    assert (np.ptp(found, axis=0) > 1e-4).all()
