from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from automata import SMALL, identities, lively, pictures
from torch import Tensor

from leukonca.errors import SettingError
from leukonca.explanation.comparison import gradient_times_input
from leukonca.explanation.faithfulness import (
    Curves,
    flip,
    inside,
    mean_areas,
    mean_differences,
    order_of,
    random_order,
)
from leukonca.explanation.removal import clear_field, spread_patches
from leukonca.explanation.target import Target

TARGET = Target("logit", torch.tensor([0, 0, 0]))


def weighted(pictures: Tensor, images: Tensor, seed: int) -> Tensor:
    """Logits [sum of the first rows weighted 1 … n, 0]: what each pixel is worth is known."""
    worth = torch.arange(1.0, pictures[0, 0].numel() + 1).reshape(pictures.shape[2:])
    value = (pictures.mean(1) * worth).sum((1, 2)) / worth.sum()
    return torch.stack((value, torch.zeros_like(value)), dim=1)


def dark(batch: int = 3, side: int = 8) -> Tensor:
    """Pictures of ones (clear) with zeros (cell) everywhere but in the first two rows."""
    cells = torch.zeros(batch, 3, side, side)
    cells[:, :, :2] = 1
    return cells


def test_curves_of_a_model_whose_answer_is_known() -> None:
    cells, images = dark(), identities(3)
    # 16 patches of 2 px: those of the first row are clear already.
    order = torch.arange(16).expand(3, 16)
    found = flip(weighted, cells, images, TARGET, order, loss="bce", patch=2, points=4)
    worth = np.arange(1, 65).reshape(8, 8) / np.arange(1, 65).sum()
    by_row = worth.reshape(4, 16).sum(1)
    expected = by_row[0] + np.concatenate(([0, 0], np.cumsum(by_row[1:])))
    np.testing.assert_allclose(found.value[1], expected, atol=1e-6)
    # A network of one class against 0 says sigmoid(value) : sigmoid(0).
    share = 1 / (1 + np.exp(-expected))
    np.testing.assert_allclose(found.probability[1], share / (share + 0.5), atol=1e-6)
    np.testing.assert_allclose(found.shares, [0, 0.25, 0.5, 0.75, 1])


def test_insertion_goes_the_other_way() -> None:
    cells, images = dark(), identities(3)
    order = torch.arange(16).expand(3, 16)
    away = flip(weighted, cells, images, TARGET, order, loss="cross_entropy", patch=2, points=4)
    back = flip(
        weighted, cells, images, TARGET, order.flip(1), loss="cross_entropy", patch=2, points=4, insert=True
    )
    # Putting back the last first shows the same pictures as taking away the first first, backwards.
    np.testing.assert_allclose(back.value, away.value[:, ::-1], atol=1e-6)
    np.testing.assert_allclose(back.probability_area, away.probability_area, atol=1e-6)


def test_the_right_order_is_the_best() -> None:
    images = identities(3)
    cells = pictures(3, 8)
    worth = torch.arange(1.0, 65).reshape(8, 8)
    right = worth * (cells - clear_field(cells)).mean(1)
    areas = {}
    for name, order in {
        "right": order_of(right, 2),
        "wrong": order_of(-right, 2),
        "random": random_order(images, 16),
    }.items():
        curves = flip(weighted, cells, images, TARGET, order, loss="cross_entropy", patch=2, points=16)
        areas[name] = curves.value_area
    assert (areas["right"] < areas["random"]).all()
    assert (areas["random"] < areas["wrong"]).all()


def test_curves_are_those_of_quantus(quantus: Any) -> None:
    draw = torch.Generator().manual_seed(3)
    grey = torch.rand(3, 1, 8, 8, generator=draw)
    grey[:, :, 0] = 1.0  # the clear field
    relevance = torch.randn(3, 8, 8, generator=draw)

    class Grey(torch.nn.Module):
        def forward(self, pictures: Tensor) -> Tensor:
            return weighted(pictures.expand(-1, 3, -1, -1), torch.zeros(0), 0) * 3

    measure = quantus.PixelFlipping(
        features_in_step=4,
        perturb_baseline=1.0,
        normalise=False,
        disable_warnings=True,
        display_progressbar=False,
    )
    expected = measure(
        model=Grey().eval(),
        x_batch=grey.numpy(),
        y_batch=np.zeros(3, dtype=int),
        a_batch=relevance[:, None].numpy(),
        channel_first=True,
        softmax=True,
    )

    def colourful(pictures: Tensor, images: Tensor, seed: int) -> Tensor:
        return weighted(pictures, images, seed) * 3

    found = flip(
        colourful,
        grey.expand(-1, 3, -1, -1),
        identities(3),
        TARGET,
        order_of(relevance, 1),
        loss="cross_entropy",
        patch=1,
        points=16,
    )
    np.testing.assert_allclose(found.probability[:, 1:], np.array(expected), atol=1e-6)


def test_curves_of_an_automaton_are_those_of_quantus(quantus: Any) -> None:
    network, images = lively(SMALL), identities(1)
    # Grey, as quantus counts the pixels of one channel only.
    cells, target = pictures(1, 16)[:, :1].expand(-1, 3, -1, -1), Target("logit", torch.tensor([2]))
    field, patch, at_once = clear_field(cells), 4, 2
    order = order_of(gradient_times_input(network, cells, images, target).sum(1), patch)
    found = flip(network, cells, images, target, order, loss="cross_entropy", patch=patch, points=8)

    class FromField(torch.nn.Module):
        def forward(self, differences: Tensor) -> Tensor:
            return network(differences.float() + field, images, 0)

    measure = quantus.PixelFlipping(
        features_in_step=patch**2 * at_once,
        perturb_baseline=0.0,  # the field, as it is given the difference from it
        normalise=False,
        disable_warnings=True,
        display_progressbar=False,
    )
    # All values of a patch are equal, and higher the earlier it goes.
    worth = torch.empty(1, 16).scatter_(1, order, torch.arange(16.0, 0, -1)[None])
    shown = spread_patches(worth, 16, 16, patch)[:, None]
    expected = measure(
        model=FromField().eval(),
        x_batch=(cells - field)[:, :1].numpy(),
        y_batch=np.array([2]),
        a_batch=shown.numpy(),
        channel_first=True,
        softmax=True,
    )
    np.testing.assert_allclose(found.probability[:, 1:], np.array(expected), atol=1e-5)


def test_curves_start_and_end_with_the_picture_and_the_field() -> None:
    network, cells, images = lively(SMALL), pictures(3, 16), identities(3)
    target = Target("rest", torch.tensor([0, 1, 4]))
    order = random_order(images, 16)
    found = flip(network, cells, images, target, order, loss="cross_entropy", points=3, seeds=2, batch=2)
    with torch.no_grad():
        for place, shown in ((0, cells), (-1, clear_field(cells))):
            expected = torch.stack([target.value(network(shown, images, seed)) for seed in range(2)]).mean(0)
            np.testing.assert_allclose(found.value[:, place], expected, atol=1e-5)


def test_orders() -> None:
    relevance = torch.zeros(1, 4, 4)
    relevance[0, 0, 3], relevance[0, 2, 0], relevance[0, 3, 3] = 2.0, -1.0, 5.0
    assert order_of(relevance, 2).tolist() == [[3, 1, 0, 2]]
    images = identities(3)
    order = random_order(images, 50)
    assert torch.equal(order.sort(dim=1).values, torch.arange(50).expand(3, 50))
    assert torch.equal(order[1:2], random_order(images[1:2], 50))
    assert not torch.equal(order, random_order(images, 50, draw=1))


def test_area_is_that_under_the_curve() -> None:
    curves = Curves(np.array([0, 0.5, 1]), np.array([[1, 0.5, 0], [0.2, 0.2, 0.2]]), np.ones((2, 3)) * 4)
    np.testing.assert_allclose(curves.probability_area, [0.5, 0.2])
    np.testing.assert_allclose(curves.value_area, [4, 4])


def test_means_have_intervals_and_differences_are_taken_cell_by_cell() -> None:
    numbers = np.random.default_rng(0)
    cells = numbers.normal(size=400)
    areas = {"a": cells, "b": cells + 0.1 + numbers.normal(size=400) * 0.01}
    means = mean_areas(areas)
    assert means["a"].value == pytest.approx(cells.mean())
    # The normal approximation: 1.96 standard errors to both sides.
    assert means["a"].high - means["a"].low == pytest.approx(2 * 1.96 * cells.std() / 20, rel=0.15)
    assert means["a"].high > means["b"].low  # cells differ more than methods
    difference = mean_differences(areas, "a")["b"]
    assert difference.low < -0.1 + 0.002
    assert difference.high < -0.09
    assert mean_areas(areas) == means
    together = mean_areas(areas, groups=["one"] * 200 + ["other"] * 200)
    assert together["a"] != means["a"]


def test_relevance_inside_a_mask() -> None:
    relevance = torch.tensor([[[1.0, 3.0], [-5.0, 0.0]], [[-1.0, -1.0], [0.0, 0.0]]])
    mask = torch.tensor([[[False, True], [True, False]]] * 2)
    found = inside(relevance, mask)
    assert float(found[0]) == 0.75
    assert math.isnan(float(found[1]))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: order_of(torch.zeros(1, 6, 6)), "patch=4 px does not divide a map of 6 × 6 px"),
        (lambda: order_of(torch.full((1, 4, 4), math.nan)), "values that are not numbers"),
        (
            lambda: flip(
                weighted, dark(), identities(3), TARGET, torch.zeros(3, 4, dtype=torch.int64), loss="bce"
            ),
            "an order of shape [3, 4] does not name each of the 4 patches of 3 pictures once",
        ),
        (
            lambda: flip(
                weighted, dark(), identities(3), TARGET, torch.zeros(3, 9, dtype=torch.int64), loss="bce"
            ),
            "an order of shape [3, 9]",
        ),
        (
            lambda: flip(
                weighted, dark(), identities(3), TARGET, random_order(identities(3), 4), loss="bce", points=0
            ),
            "points=0 must be at least 1",
        ),
        (lambda: mean_areas({"a": np.zeros(3), "b": np.zeros(2)}), "areas of [2, 3] cells"),
        (lambda: mean_areas({"a": np.zeros(0)}), "areas of [0] cells"),
        (lambda: mean_areas({"a": np.zeros(3)}, resamples=0), "resamples=0 must be at least 1"),
        (lambda: mean_differences({"a": np.zeros(3)}, "a"), "method 'a' cannot be held against others"),
        (lambda: mean_differences({"a": np.zeros(3), "b": np.zeros(2)}, "a"), "areas of [2, 3] cells"),
        (lambda: inside(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2)), "a mask of torch.float32 [1, 2, 2]"),
    ],
)
def test_wrong_use_is_said(call: Any, words: str) -> None:
    with pytest.raises(SettingError, match=re.escape(words)):
        call()
