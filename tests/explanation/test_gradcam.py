from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from automata import SMALL, identities, lively, pictures
from torch import Tensor, nn

from leukonca.errors import SettingError
from leukonca.explanation.gradcam import convolutions, grad_cam
from leukonca.explanation.target import Target

TARGET = Target("rest", torch.tensor([0, 2, 1]))


class Convolutional(nn.Module):
    """Two convolutions, one of them coarse, and one that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first = nn.Conv2d(3, 6, 3, padding=1)
            self.last = nn.Conv2d(6, 4, 3, stride=4, padding=1)
            self.head = nn.Linear(4, 3)
            self.idle = nn.Conv2d(3, 3, 1)

    def forward(self, pictures: Tensor, images: Tensor, seed: int = 0) -> Tensor:
        found = self.last(self.first(pictures).relu_()).relu()
        return self.head(found.mean((2, 3)))


def test_grad_cam_is_that_of_captum(captum: Any) -> None:
    network, cells = Convolutional(), pictures(3, 16)
    found = grad_cam(network, cells, identities(3), TARGET, layer="last")

    def asked(inputs: Tensor, classes: Tensor) -> Tensor:
        return Target("rest", classes).value(network(inputs, classes))

    coarse = captum.LayerGradCam(asked, network.last).attribute(
        cells, additional_forward_args=(TARGET.classes,), relu_attributions=False
    )
    expected = captum.LayerAttribution.interpolate(coarse, (16, 16), "bilinear")[:, 0]
    torch.testing.assert_close(found, expected.detach())
    assert found.shape == (3, 16, 16)
    assert float(found.min()) < 0 < float(found.max())


def test_the_last_convolution_is_taken_where_none_is_named() -> None:
    network = Convolutional()
    del network.idle
    assert convolutions(network) == ["first", "last"]
    arguments = network, pictures(3, 16), identities(3), TARGET
    assert torch.equal(grad_cam(*arguments), grad_cam(*arguments, layer="last"))
    assert not torch.equal(grad_cam(*arguments), grad_cam(*arguments, layer="first"))


def test_what_works_in_place_afterwards_changes_nothing() -> None:
    network = Convolutional()
    leaf = pictures(3, 16)
    found = grad_cam(network, leaf, identities(3), TARGET, layer="first")
    before = network.first(leaf)
    after = network.head(network.last(before.relu()).relu().mean((2, 3)))
    gradient = torch.autograd.grad(TARGET.value(after).sum(), before)[0]
    expected = (gradient.mean((2, 3), keepdim=True) * before).sum(1)
    torch.testing.assert_close(found, expected.detach())


def test_nothing_stays_behind_in_the_network() -> None:
    network = Convolutional()
    grad_cam(network, pictures(3, 16), identities(3), TARGET, layer="last")
    assert not network.last._forward_hooks
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize(
    ("network", "layer", "words"),
    [
        (
            Convolutional(),
            "third",
            "layer='third' is no convolution of this network; it has first, last",
        ),
        (Convolutional(), "head", "layer='head' is no convolution"),
        (Convolutional(), "idle", "layer='idle' is not used by this network"),
        (lively(SMALL), None, "Grad-CAM needs a convolution, and a CellClassifier has none"),
    ],
)
def test_wrong_use_is_said(network: nn.Module, layer: str | None, words: str) -> None:
    with pytest.raises(SettingError, match=re.escape(words)):
        grad_cam(network, pictures(3, 16), identities(3), TARGET, layer=layer)
