from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from leukonca.errors import SettingError
from leukonca.nca.architecture import PRESETS, Architecture
from leukonca.nca.classifier import CellClassifier

SMALL = Architecture(size=16, channels=12, hidden=10, steps=6, head_hidden=8)

VARIANTS = {
    "max": SMALL,
    "max_mean": replace(SMALL, pooling="max_mean"),
    "attention": replace(SMALL, pooling="attention"),
    "channels": replace(SMALL, pooling="mean", head="channels"),
    "conv": replace(SMALL, size=32, head="conv"),
    "patch": replace(SMALL, patch=2, channels=20),
}


def lively(architecture: Architecture, classes: int = 5) -> CellClassifier:
    """A classifier whose automaton does something, as after training."""
    draw = torch.Generator().manual_seed(0)
    classifier = CellClassifier(architecture, classes)
    with torch.no_grad():
        for parameter in classifier.parameters():
            bound = max(1, parameter[0].numel()) ** -0.5 if parameter.dim() > 1 else 0.1
            parameter.uniform_(-bound, bound, generator=draw)
    return classifier


def pictures(batch: int, size: int) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("paper", 86_413),  # as published
        ("paper_simple", 68_224),  # p0, p1, fc0, fc1 of the released code
        ("paper_conv", 2_544_461),  # and its conv1..3, fc2, fc3 for 64 channels
    ],
)
def test_published_shapes_have_the_published_number_of_parameters(name: str, count: int) -> None:
    assert CellClassifier(PRESETS[name], 13).parameter_count == count


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_runs(name: str) -> None:
    architecture = PRESETS[name]
    classifier = CellClassifier(architecture, 8)
    with torch.no_grad():
        found = classifier.rollout(pictures(1, architecture.size), torch.tensor([3]))
    assert found.logits.shape == (1, 8)
    assert found.state.shape == (1, architecture.channels, architecture.grid, architecture.grid)
    assert bool(found.logits.isfinite().all())


@pytest.mark.parametrize("variant", VARIANTS)
def test_prediction_depends_neither_on_its_batch_nor_on_the_order(variant: str) -> None:
    classifier = lively(VARIANTS[variant])
    cells, images = pictures(7, VARIANTS[variant].size), torch.tensor([9, 2**50, 4, 0, 8, 7, 1])
    with torch.no_grad():
        together = classifier(cells, images, 5)
        for place in range(7):
            alone = classifier(cells[place : place + 1], images[place : place + 1], 5)
            torch.testing.assert_close(alone[0], together[place], rtol=0, atol=1e-5)
        order = torch.tensor([6, 2, 0, 5, 1, 4, 3])
        torch.testing.assert_close(
            classifier(cells[order], images[order], 5), together[order], rtol=0, atol=1e-5
        )
    assert float((together[0] - together[1]).abs().max()) > 1e-3


def test_prediction_depends_on_seed_and_image_unless_every_site_fires() -> None:
    cell = pictures(1, 16)

    def logits(firing: float, image: int, seed: int) -> Tensor:
        with torch.no_grad():
            return lively(replace(SMALL, firing=firing))(cell, torch.tensor([image]), seed)

    assert torch.equal(logits(0.5, 1, 1), logits(0.5, 1, 1))
    assert not torch.allclose(logits(0.5, 1, 1), logits(0.5, 1, 2), atol=1e-4)
    assert not torch.allclose(logits(0.5, 1, 1), logits(0.5, 2, 1), atol=1e-4)
    assert torch.equal(logits(1.0, 1, 1), logits(1.0, 2, 2))


def test_states_are_recorded_by_finished_steps() -> None:
    classifier, cells = lively(SMALL), pictures(2, 16)
    with torch.no_grad():
        found = classifier.rollout(cells, torch.tensor([1, 2]), record=frozenset({0, 2, 6}))
        short = lively(replace(SMALL, steps=2)).rollout(cells, torch.tensor([1, 2]))
    assert found.states.keys() == {0, 2, 6}
    assert torch.equal(found.states[0], classifier.seed_state(cells))
    assert torch.equal(found.states[6], found.state)
    assert torch.equal(found.states[2], short.state)
    assert torch.equal(found.states[2][:, :3], cells)
    assert found.pooled.shape == (2, 12)
    assert torch.equal(found.pooled, found.state.amax(dim=(2, 3)))


def test_steps_and_firing_may_differ_from_those_of_the_architecture() -> None:
    cells, images = pictures(2, 16), torch.tensor([1, 2])
    with torch.no_grad():
        found = lively(SMALL)(cells, images, 3, steps=2, firing=0.75)
        expected = lively(replace(SMALL, steps=2, firing=0.75))(cells, images, 3)
    assert torch.equal(found, expected)
    with pytest.raises(SettingError, match=r"firing probability 1\.5"):
        lively(SMALL)(cells, images, firing=1.5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_recomputation_gives_the_same_gradients(variant: str) -> None:
    gradients = []
    for recompute in (False, True):
        classifier = lively(VARIANTS[variant])
        cells = pictures(2, VARIANTS[variant].size)
        classifier.rollout(cells, torch.tensor([1, 2]), recompute=recompute).logits.square().sum().backward()
        gradients.append([parameter.grad for parameter in classifier.parameters()])
    assert any(bool(gradient.any()) for gradient in gradients[0])
    for stored, recomputed in zip(*gradients, strict=True):
        assert torch.equal(stored, recomputed)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("recompute", [False, True])
def test_logits_are_float32_under_bfloat16(variant: str, recompute: bool) -> None:
    classifier = lively(VARIANTS[variant])
    cells, images = pictures(2, VARIANTS[variant].size), torch.tensor([1, 2])
    plain = classifier(cells, images)
    with torch.autocast("cpu", torch.bfloat16):
        found = classifier.rollout(cells, images, recompute=recompute)
    assert found.logits.dtype == found.pooled.dtype == torch.float32
    torch.testing.assert_close(found.logits, plain, rtol=0, atol=0.05)
    found.logits.sum().backward()
    assert all(bool(parameter.grad.isfinite().all()) for parameter in classifier.parameters())


def test_patch_puts_its_pixels_into_one_site() -> None:
    cells = torch.arange(3 * 16 * 16, dtype=torch.float32).reshape(1, 3, 16, 16)
    state = CellClassifier(VARIANTS["patch"], 5).seed_state(cells)
    assert state.shape == (1, 20, 8, 8)
    for row in (0, 3, 7):
        for column in (0, 5):
            square = cells[0, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            assert sorted(state[0, :12, row, column].tolist()) == sorted(square.flatten().tolist())
    assert not state[:, 12:].any()


def test_channels_head_reads_the_channels_after_the_picture() -> None:
    classifier = lively(VARIANTS["channels"])
    with torch.no_grad():
        found = classifier.rollout(pictures(2, 16), torch.tensor([1, 2]))
    assert torch.equal(found.logits, found.state.mean(dim=(2, 3))[:, 3:8])


def test_conv_head_pools_nothing() -> None:
    classifier = lively(VARIANTS["conv"])
    with torch.no_grad():
        assert classifier.rollout(pictures(2, 32), torch.tensor([1, 2])).pooled.shape == (2, 0)


@pytest.mark.parametrize(
    ("architecture", "classes", "words"),
    [
        (SMALL, 1, "at least 2 classes, not 1"),
        (VARIANTS["channels"], 10, "9 free channels for 10 classes"),
    ],
)
def test_impossible_number_of_classes_is_refused(
    architecture: Architecture, classes: int, words: str
) -> None:
    with pytest.raises(SettingError, match=words):
        CellClassifier(architecture, classes)


@pytest.mark.parametrize(
    "shape", [(2, 4, 16, 16), (2, 1, 16, 16), (2, 3, 15, 16), (2, 3, 16, 2), (3, 16, 16)]
)
def test_pictures_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    classifier = CellClassifier(VARIANTS["patch"], 5)
    with pytest.raises(SettingError, match=rf"pictures of shape {re.escape(str(list(shape)))}"):
        classifier.seed_state(torch.zeros(shape))


@pytest.mark.parametrize("count", [1, 4])
def test_every_picture_needs_its_own_identity(count: int) -> None:
    with pytest.raises(SettingError, match=rf"identities of shape \[{count}\] do not fit 3 pictures"):
        CellClassifier(SMALL, 5)(pictures(3, 16), torch.zeros(count, dtype=torch.int64))


@pytest.mark.parametrize("name", VARIANTS)
def test_features_are_the_means_of_the_channels_and_the_hidden_layer(name: str) -> None:
    classifier = lively(VARIANTS[name])
    inputs, images = pictures(3, VARIANTS[name].size), torch.tensor([3, 1, 4])
    with torch.no_grad():
        logits, features = classifier.logits_and_features(inputs, images, 5)
        whole = classifier.rollout(inputs, images, seed=5)
        assert torch.equal(logits, whole.logits)
        for row, state in enumerate(whole.state):
            for channel, grid in enumerate(state):
                assert features[row, channel].item() == pytest.approx(grid.mean().item(), abs=1e-5)
        hidden = features[:, VARIANTS[name].channels :]
        if name == "channels":
            assert hidden.shape == (3, 0)
        else:
            last = list(classifier.head.children())[-1]
            assert torch.allclose(last(hidden), logits, atol=1e-6)
