from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leukonca.cells.framing import Framing
from leukonca.errors import SettingError
from leukonca.learning import baselines
from leukonca.learning.baselines import Baseline
from leukonca.learning.networks import build
from leukonca.learning.shapes import BASELINES, BaselineShape, shape_of
from leukonca.learning.trained import TrainedModel
from leukonca.nca.settling import Settling

# Parameters for the 1,000 classes of ImageNet: He et al. 2016, Hu et al. 2018 (SE-ResNeXt-50 32×4d), Huang
# et al. 2017 and Tan and Le 2019, as torchvision and timm count them in their reference implementations.
PUBLISHED = {
    "resnet18": 11_689_512,
    "seresnext50": 27_559_896,
    "densenet121": 7_978_856,
    "efficientnet_b0": 5_288_548,
}
IMAGES = torch.arange(4)


def made(kind: Any, classes: int = 8, seed: int = 1) -> Baseline:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build(BaselineShape(kind), classes)
    assert isinstance(network, Baseline)
    return network


def pictures(count: int = 4, size: int = 64) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def efficientnet() -> Baseline:
    """The one that drops values and whole blocks in training."""
    return made("efficientnet_b0")


@pytest.mark.parametrize("kind", BASELINES)
def test_a_baseline_has_the_published_number_of_parameters(kind: Any) -> None:
    with torch.device("meta"):
        assert Baseline(BaselineShape(kind), 1000).parameter_count == PUBLISHED[kind]


def test_the_documentation_gives_the_right_numbers() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "compare-baselines.md"
    said = dict(re.findall(r"^\| `(\w+)` \| .* \| ([\d,]+) \|$", page.read_text("utf-8"), re.MULTILINE))
    with torch.device("meta"):
        counts = {name: build(shape_of(name, {}), 8).parameter_count for name in (*BASELINES, "base")}
    assert said == {name: f"{count:,}" for name, count in counts.items()}


@pytest.mark.parametrize("kind", BASELINES)
def test_a_step_of_training_begins_with_a_guess_and_reaches_every_weight(kind: Any) -> None:
    network, labels = made(kind), torch.tensor([0, 5, 2, 7])
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(pictures(), IMAGES, 3)
    assert (logits.shape, logits.dtype) == ((4, 8), torch.float32)
    loss = F.cross_entropy(logits, labels)
    assert loss.item() < math.log(8) + 1
    loss.backward()
    for name, parameter in network.named_parameters():
        assert parameter.dtype == torch.float32
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_the_start_weights_of_efficientnet_are_those_for_many_classes(efficientnet: Baseline) -> None:
    # Tan and Le's released code: depthwise kernels as if each had one output; a last layer as for 1,000
    # classes, whatever their number.
    depthwise = [m for m in efficientnet.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert len(depthwise) == 16
    for convolution in depthwise:
        expected = math.sqrt(2 / math.prod(convolution.kernel_size))
        assert convolution.weight.std().item() == pytest.approx(expected, rel=0.15)
    (last,) = (module for module in efficientnet.modules() if isinstance(module, nn.Linear))
    assert last.weight.abs().max().item() <= 1 / math.sqrt(1280)


def test_start_weights_come_from_the_stream() -> None:
    one, same, other = (made("densenet121", 3, seed) for seed in (1, 1, 2))
    for parameter, twin in zip(one.parameters(), same.parameters(), strict=True):
        assert torch.equal(parameter, twin)
    assert not torch.equal(next(one.parameters()), next(other.parameters()))


def test_what_is_dropped_depends_on_the_seed_alone(efficientnet: Baseline) -> None:
    efficientnet.train()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with torch.no_grad():
        first = efficientnet(pictures(), IMAGES, 1)
        assert torch.equal(torch.get_rng_state(), before)
        torch.rand(9)
        assert torch.equal(efficientnet(pictures(), IMAGES, 1), first)
        assert not torch.allclose(efficientnet(pictures(), IMAGES, 2), first, atol=1e-3)


def test_an_answer_depends_on_the_picture_alone(efficientnet: Baseline) -> None:
    efficientnet.eval()
    with torch.no_grad():
        together = efficientnet(pictures(), IMAGES, 1)
        assert torch.equal(efficientnet(pictures(), IMAGES + 9, 2), together)
        for row in range(4):
            alone = efficientnet(pictures()[row : row + 1], IMAGES[:1], 0)
            torch.testing.assert_close(alone[0], together[row], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(4, 3, 65, 64), (4, 3, 32, 32), (4, 1, 64, 64), (3, 64, 64)])
def test_pictures_of_another_shape_are_refused(efficientnet: Baseline, shape: tuple[int, ...]) -> None:
    with pytest.raises(SettingError, match=r"do not fit; expected \[B, 3, 64, 64\]"):
        efficientnet(torch.zeros(shape), IMAGES)


def test_a_larger_size_is_another_input_of_the_same_network() -> None:
    with torch.device("meta"):
        small, large = (Baseline(BaselineShape("efficientnet_b0", size), 3) for size in (64, 128))
    assert {name: tensor.shape for name, tensor in small.state_dict().items()} == {
        name: tensor.shape for name, tensor in large.state_dict().items()
    }
    assert large.eval()(torch.empty(2, 3, 128, 128, device="meta"), IMAGES[:2]).shape == (2, 3)


def test_one_class_is_refused() -> None:
    with pytest.raises(SettingError, match="at least 2 classes, not 1"):
        Baseline(BaselineShape("resnet18"), 1)


def test_settling_is_refused() -> None:
    model = TrainedModel(made("resnet18", 2), ("a", "b"), Framing(64), "training", None, "cross_entropy")
    assert model.with_settling(None).settling is None
    with pytest.raises(SettingError, match=r"settle=0\.1: the baseline resnet18 takes no steps"):
        model.with_settling(Settling(0.1))


def test_without_monai_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "find_spec", lambda name: None)
    with pytest.raises(SettingError, match=r"needs MONAI.*pip install 'leukonca\[baselines\]'"):
        Baseline(BaselineShape("resnet18"), 2)


def test_every_baseline_normalises_by_running_statistics() -> None:
    # What the moving average and the model file have to carry beside the weights.
    for kind in BASELINES:
        with torch.device("meta"):
            network = Baseline(BaselineShape(kind), 2)
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        assert len(norms) >= 20
        assert {norm.momentum for norm in norms} == {0.1}
        assert len(list(network.buffers())) == 3 * len(norms)


@pytest.mark.parametrize("kind", BASELINES)
def test_features_are_what_the_last_layer_makes_logits_of(kind: Any) -> None:
    network = made(kind, 3).eval()
    with torch.no_grad():
        logits, features = network.logits_and_features(pictures(2), IMAGES[:2])
        assert torch.equal(logits, network(pictures(2), IMAGES[:2]))
        last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
        torch.testing.assert_close(last(features), logits)
    assert not last._forward_pre_hooks
