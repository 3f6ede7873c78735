from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from automata import SMALL, identities, lively, pictures
from torch import Tensor

from leukonca.errors import SettingError
from leukonca.explanation.comparison import gradient_times_input, integrated_gradients, occlusion
from leukonca.explanation.removal import clear_field
from leukonca.explanation.target import Target

CHOSEN = torch.tensor([0, 1, 4])
TARGET = Target("rest", CHOSEN)
LOGIT = Target("logit", torch.tensor([0, 0]))


class Linear:
    """Logits that are weighted sums of the pixels, and how often it was asked with each seed."""

    def __init__(self, size: int, classes: int = 2) -> None:
        draw = torch.Generator().manual_seed(2)
        self.weight = torch.randn(classes, 3, size, size, generator=draw)

    def __call__(self, pictures: Tensor, images: Tensor, seed: int) -> Tensor:
        return torch.einsum("bchw,kchw->bk", pictures, self.weight) * (1 + seed)


def test_on_a_linear_network_all_gradients_say_the_same() -> None:
    network, cells = Linear(8), pictures(2, 8)
    expected = network.weight[0] * (cells - clear_field(cells))
    images = identities(2)
    torch.testing.assert_close(gradient_times_input(network, cells, images, LOGIT, seeds=1), expected)
    torch.testing.assert_close(integrated_gradients(network, cells, images, LOGIT, seeds=1), expected)
    # The mean of seeds 0 and 1, whose weights are one and two times these.
    found = gradient_times_input(network, cells, images, LOGIT, seeds=2)
    torch.testing.assert_close(found, expected * 1.5)


def test_on_a_linear_network_occlusion_is_the_mean_of_the_squares() -> None:
    network, cells = Linear(8), pictures(2, 8)
    each = (network.weight[0] * (cells - clear_field(cells))).sum(1).numpy()
    found = occlusion(network, cells, identities(2), LOGIT, window=4, stride=3, seeds=1).numpy()
    # Squares start at 0, 3 and, to end at the border, at 4.
    expected, covered = np.zeros_like(each), np.zeros((8, 8))
    for top in (0, 3, 4):
        for left in (0, 3, 4):
            inside = each[:, top : top + 4, left : left + 4].sum((1, 2))
            expected[:, top : top + 4, left : left + 4] += inside[:, None, None]
            covered[top : top + 4, left : left + 4] += 1
    np.testing.assert_allclose(found, expected / covered, rtol=1e-4, atol=1e-4)


def test_integrated_gradients_are_those_of_captum(captum: Any) -> None:
    network, cells, images = lively(SMALL), pictures(3, 16), identities(3)
    found = integrated_gradients(network, cells, images, TARGET, points=20, seeds=1)

    def asked(inputs: Tensor, ids: Tensor, classes: Tensor) -> Tensor:
        return Target("rest", classes).value(network(inputs, ids, 0))

    expected = captum.IntegratedGradients(asked).attribute(
        cells,
        baselines=clear_field(cells),
        additional_forward_args=(images, CHOSEN),
        n_steps=20,
        method="gausslegendre",
    )
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_gradient_is_that_of_the_target() -> None:
    network, cells, images = lively(SMALL), pictures(3, 16), identities(3)
    found = gradient_times_input(network, cells, images, TARGET, seeds=2)
    leaf = cells.clone().requires_grad_(True)
    sum(TARGET.value(network(leaf, images, seed)).sum() for seed in range(2)).backward()
    torch.testing.assert_close(found, leaf.grad / 2 * (cells - clear_field(cells)))


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        (gradient_times_input, {"seeds": 0}, "seeds=0 must be at least 1"),
        (integrated_gradients, {"points": 0}, "points=0 must be at least 1"),
        (occlusion, {"window": 9}, "window=9 px and stride=4 px: the square must fit into 8 × 8 px"),
        (occlusion, {"window": 3}, "window=3 px and stride=4 px"),
        (occlusion, {"window": 4, "stride": 0}, "stride=0 must be at least 1"),
    ],
)
def test_wrong_use_is_said(method: Any, options: dict[str, int], words: str) -> None:
    with pytest.raises(SettingError, match=re.escape(words)):
        method(Linear(8), pictures(2, 8), identities(2), LOGIT, **options)
