from __future__ import annotations

import pytest
import torch

from leukonca.assessment.speed.straightforward import Straightforward
from leukonca.nca.architecture import Architecture
from leukonca.nca.classifier import CellClassifier
from leukonca.nca.firing import Firing, fires


@pytest.mark.parametrize(
    "shape",
    [
        Architecture(size=10, channels=9, hidden=12, steps=6, head_hidden=7),
        Architecture(size=12, patch=2, channels=20, hidden=8, steps=5, pooling="max_mean", head_hidden=7),
    ],
    ids=["max", "max_mean"],
)
def test_it_computes_what_the_automaton_does(shape: Architecture) -> None:
    torch.manual_seed(0)
    ours, theirs = CellClassifier(shape, 4), Straightforward(shape, 4)
    ours.engine = "eager"
    torch.nn.init.normal_(ours.rule.update_weight, std=0.2)
    names = {
        "p0.weight": "rule.kernel_a",
        "p0.bias": "rule.bias_a",
        "p1.weight": "rule.kernel_b",
        "p1.bias": "rule.bias_b",
        "fc0.weight": "rule.hidden_weight",
        "fc0.bias": "rule.hidden_bias",
        "fc1.weight": "rule.update_weight",
        "fc2.weight": "head.0.weight",
        "fc2.bias": "head.0.bias",
        "fc3.weight": "head.2.weight",
        "fc3.bias": "head.2.bias",
    }
    weights = ours.state_dict()
    shapes = {name: value.shape for name, value in theirs.state_dict().items()}
    theirs.load_state_dict({name: weights[other].view(shapes[name]) for name, other in names.items()})
    pictures, images = torch.randn(3, 3, shape.size, shape.size), torch.tensor([4, 5, 6])
    firing = Firing(9, images, shape.firing)
    with torch.inference_mode():
        found = theirs(pictures, lambda step: fires(firing, step, shape.grid, shape.grid))
        torch.testing.assert_close(found, ours(pictures, images, 9), rtol=0, atol=1e-4)
        assert not torch.equal(theirs(pictures), theirs(pictures))
