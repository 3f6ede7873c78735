from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from automata import CLASSES, SMALL, VARIANTS, identities, lively, pictures
from torch import Tensor, nn

from leukonca.cells.decode import content_hash, decode
from leukonca.cells.framing import frame
from leukonca.delivery.shipped import find_shipped
from leukonca.errors import SettingError
from leukonca.explanation.relevance import Relevance, Rule, relevance, relevance_of_classes
from leukonca.explanation.removal import clear_field, halves, spread_patches
from leukonca.explanation.target import Target
from leukonca.learning.bundle import load_bundle
from leukonca.nca.classifier import CellClassifier
from leukonca.nca.firing import Firing, fires, image_id
from reference import relevance as slow

CHOSEN = torch.tensor([0, 1, 4])
TARGETS = {
    "logit": Target("logit", CHOSEN),
    "rest": Target("rest", CHOSEN),
    "class": Target("class", CHOSEN, torch.tensor([1, 2, 3])),
}


@pytest.mark.parametrize("rule", ["reference", "epsilon"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_gets_lost(variant: str, rule: Rule) -> None:
    network, cells = lively(VARIANTS[variant]), pictures(3, 16)
    for target in TARGETS.values():
        found = relevance(network, cells, identities(3), target, rule=rule, seeds=2, exact=True)
        assert float(found.completeness_error.max()) < 1e-12
        # Nor at any step: what a state has is what the one before it has, plus what the step kept.
        held = found.by_channel.sum(2)
        kept = found.bias + found.stabiliser + found.remainder
        torch.testing.assert_close(held[:, 1:], held[:, :-1] + kept[:, :-1], rtol=0, atol=1e-12)
        torch.testing.assert_close(found.by_site.sum((2, 3)), held, rtol=0, atol=1e-12)
        torch.testing.assert_close(found.pixels.sum((1, 2, 3)), held[:, 0], rtol=0, atol=1e-12)
        torch.testing.assert_close(
            found.value, found.background + kept[:, -1] + held[:, -1], rtol=0, atol=1e-12
        )


def test_float32_loses_next_to_nothing() -> None:
    network, cells = lively(VARIANTS["patch"]), pictures(3, 16)
    found = relevance(network, cells, identities(3), TARGETS["rest"], seeds=1)
    exact = relevance(network, cells, identities(3), TARGETS["rest"], seeds=1, exact=True)
    assert found.pixels.dtype == torch.float32
    assert float(found.completeness_error.max()) < 1e-5
    torch.testing.assert_close(found.pixels.double(), exact.pixels, rtol=1e-3, atol=1e-5)


def test_the_value_is_that_of_the_model() -> None:
    network, cells = lively(SMALL), pictures(3, 16)
    found = relevance(network, cells, identities(3), TARGETS["rest"], seeds=3)
    with torch.no_grad():
        each = [TARGETS["rest"].value(network(cells, identities(3), seed)) for seed in range(3)]
        empty = [TARGETS["rest"].value(network(clear_field(cells), identities(3), seed)) for seed in range(3)]
    torch.testing.assert_close(found.value, torch.stack(each).mean(0), rtol=0, atol=1e-5)
    torch.testing.assert_close(found.background, torch.stack(empty).mean(0), rtol=0, atol=1e-5)


def weights_of(network: CellClassifier) -> dict[str, np.ndarray]:
    return {name: value.double().numpy() for name, value in network.state_dict().items()}


def firing_of(network: CellClassifier, image: int, seed: int) -> list[np.ndarray]:
    firing = Firing(seed, torch.tensor([image]), network.architecture.firing)
    grid = network.architecture.grid
    return [fires(firing, step, grid, grid)[0].numpy() for step in range(network.architecture.steps)]


def legs_of(cell: Tensor, image: int, seed: int, patch: int) -> list[tuple[Tensor, Tensor]]:
    """Start and end of each leg: field → half → whole, and the same with the other half."""
    size = cell.shape[2]
    field = clear_field(cell[None])[0]
    chosen = halves(torch.tensor([image]), seed, size // patch, size // patch).flatten(1)
    half = spread_patches(chosen, size, size, patch)[0]
    one, other = torch.where(half, cell, field), torch.where(half, field, cell)
    return [(field, one), (one, cell), (field, other), (other, cell)]


TINY = replace(SMALL, size=8, patch=2, channels=15, hidden=5, steps=3, head_hidden=4, pooling="max_mean")


@pytest.mark.parametrize("kind", ["rest", "class"])
def test_slow_propagation_from_a_reference_agrees(kind: str) -> None:
    network, cells, images = lively(TINY), pictures(1, 8), torch.tensor([12])
    weights = weights_of(network)
    other = torch.tensor([3]) if kind == "class" else None
    found = relevance(
        network, cells, images, Target(kind, torch.tensor([2]), other), seeds=2, patch=2, exact=True
    )
    states: list[np.ndarray] = []
    pooled: list[np.ndarray] = []
    for seed in range(2):
        mask = firing_of(network, 12, seed)
        for start, end in legs_of(cells[0], 12, seed, 2):
            before, after = (
                slow.trace(one.double().numpy(), weights, mask, 2, slow.max_mean) for one in (start, end)
            )
            one = slow.explain(after, before, weights, mask, kind, 2, 3, 12)
            # Two ways of two legs, two seeds: legs of one way add up, ways and seeds are averaged.
            states.append(np.stack(one.states) / 4)
            pooled.append(one.pooled / 4)
    expected = np.sum(states, axis=0)
    np.testing.assert_allclose(found.by_channel[0], expected.sum((1, 2)), atol=1e-8)
    np.testing.assert_allclose(found.by_site[0], expected.sum(3), atol=1e-8)
    np.testing.assert_allclose(found.pooled[0], np.sum(pooled, axis=0), atol=1e-8)
    back = slow.seed_state(found.pixels[0].numpy(), 2, 15)
    np.testing.assert_allclose(back[:, :, :12], expected[0][:, :, :12], atol=1e-8)
    assert np.abs(expected[0]).max() > 1e-3


@pytest.mark.parametrize(("kind", "epsilon"), [("logit", 0.0), ("rest", 0.1), ("class", 0.1)])
def test_slow_classical_propagation_agrees(kind: str, epsilon: float) -> None:
    network, cells, images = lively(TINY), pictures(1, 8), torch.tensor([12])
    weights = weights_of(network)
    other = torch.tensor([3]) if kind == "class" else None
    target = Target(kind, torch.tensor([2]), other)
    found = relevance(network, cells, images, target, rule="epsilon", epsilon=epsilon, seeds=1, exact=True)
    mask = firing_of(network, 12, 0)
    run = slow.trace(cells[0].double().numpy(), weights, mask, 2, slow.max_mean)
    expected = slow.explain(run, None, weights, mask, kind, 2, 3, 12, epsilon)
    states = np.stack(expected.states)
    np.testing.assert_allclose(found.by_channel[0], states.sum((1, 2)), atol=1e-10)
    np.testing.assert_allclose(found.by_site[0], states.sum(3), atol=1e-10)
    np.testing.assert_allclose(found.pooled[0], expected.pooled, atol=1e-10)
    order: Sequence[int] = (0, 1, 2, -1)
    for name in ("bias", "stabiliser"):
        taken = getattr(expected.lost, name)
        np.testing.assert_allclose(getattr(found, name)[0], [taken[k] for k in order], atol=1e-10)
    np.testing.assert_allclose(found.remainder[0], [0, 0, 0, expected.lost.remainder], atol=1e-10)


def test_classical_rule_without_epsilon_is_gradient_times_input() -> None:
    network, cells = lively(VARIANTS["patch"]), pictures(3, 16).requires_grad_(True)
    TARGETS["rest"].value(network(cells, identities(3), 0)).sum().backward()
    found = relevance(
        network, cells.detach(), identities(3), TARGETS["rest"], rule="epsilon", epsilon=0.0, seeds=1
    )
    torch.testing.assert_close(found.pixels, cells.grad * cells.detach(), rtol=1e-4, atol=1e-6)


def test_a_picture_is_explained_alike_in_every_batch() -> None:
    network, cells, images = lively(VARIANTS["patch"]), pictures(3, 16), identities(3)
    together = relevance(network, cells, images, TARGETS["rest"], seeds=2)
    one_by_one = relevance(network, cells, images, TARGETS["rest"], seeds=2, batch=1)
    for name in Relevance.__dataclass_fields__:
        torch.testing.assert_close(
            getattr(together, name), getattr(one_by_one, name), rtol=1e-3, atol=1e-5, msg=name
        )


def test_maxima_come_from_where_they_are() -> None:
    network, cells = lively(SMALL), pictures(3, 16)
    found = relevance(network, cells, identities(3), TARGETS["logit"], seeds=2)
    assert found.origin.shape == (2, 3, 12)
    for seed in range(2):
        with torch.no_grad():
            state = network.rollout(cells, identities(3), seed=seed).state
        there = state.flatten(2).gather(2, found.origin[seed][:, :, None])[:, :, 0]
        torch.testing.assert_close(there, state.amax((2, 3)), rtol=0, atol=1e-5)


def test_an_empty_field_has_no_relevance() -> None:
    field = torch.full((1, 3, 16, 16), 0.7)
    found = relevance(lively(SMALL), field, torch.tensor([1]), Target("rest", torch.tensor([0])))
    assert not found.pixels.any()
    torch.testing.assert_close(found.value, found.background)


def test_hidden_channels_hold_nothing_at_the_start() -> None:
    found = relevance(lively(VARIANTS["patch"]), pictures(3, 16), identities(3), TARGETS["logit"])
    assert not found.by_channel[:, 0, 12:].any()
    torch.testing.assert_close(found.map.sum((1, 2)), found.by_channel[:, 0].sum(1))


def test_a_real_cell_is_explained_completely(shared_data: Path) -> None:
    model = load_bundle(find_shipped("acevedo20-base").file)
    raw = decode(min((shared_data / "acevedo20" / "eosinophil").iterdir()))
    images = torch.tensor([image_id(content_hash(raw))])
    cells = model.normalised(frame(raw, model.framing)[None])
    found = relevance(model.network, cells, images, Target("rest", torch.tensor([1])), seeds=1)
    assert abs(float(found.value)) > 1
    assert float(found.completeness_error.max()) < 1e-4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rule": "alpha"}, "rule='alpha' is unknown; known: reference, epsilon"),
        ({"seeds": 0}, "seeds=0 must be at least 1"),
        ({"batch": -1}, "batch=-1 must be at least 1"),
        ({"patch": 5}, "patch=5 px does not divide pictures of (16, 16) px"),
        ({"epsilon": -0.1}, "epsilon=-0.1 must be a finite number"),
        ({"epsilon": float("nan")}, "epsilon=nan must be a finite number"),
        ({"images": torch.tensor([1])}, "3 pictures, 1 identities and 3 targets do not fit"),
        ({"pictures": torch.zeros(3, 1, 16, 16)}, "pictures of shape [0, 1, 16, 16] do not fit"),
        ({"target": Target("logit", torch.tensor([0, 1, CLASSES]))}, "classes from 0 to 5"),
        ({"network": nn.Conv2d(3, 4, 1)}, "a Conv2d is no cellular automaton"),
        ({"network": lively(replace(SMALL, head="conv"))}, "head='conv'"),
    ],
)
def test_wrong_use_is_said(changes: dict[str, object], words: str) -> None:
    arguments: dict[str, object] = {
        "network": lively(SMALL),
        "pictures": pictures(3, 16),
        "images": identities(3),
        "target": TARGETS["logit"],
        **changes,
    }
    with pytest.raises(SettingError, match=re.escape(words)):
        relevance(**arguments)  # type: ignore[arg-type]


def test_nothing_to_explain_is_said() -> None:
    nothing = Target("logit", torch.zeros(0, dtype=torch.int64))
    with pytest.raises(SettingError, match="there is no picture to explain"):
        relevance(lively(SMALL), pictures(0, 16), identities(0), nothing)


@pytest.mark.parametrize("variant", VARIANTS)
def test_several_classes_at_once_are_each_as_alone(variant: str) -> None:
    architecture = VARIANTS[variant]
    network, inputs, ids = lively(architecture), pictures(3, architecture.size), identities(3)
    classes = torch.tensor([[0, 1, 2], [3, 0, 4]])
    together = relevance_of_classes(network, inputs, ids, classes, seeds=2, batch=2)
    alone = [relevance(network, inputs, ids, Target("logit", one), seeds=2) for one in classes]
    contrast = relevance(network, inputs, ids, Target("class", *classes), seeds=2)
    for found, expected in (*zip(together, alone, strict=True), (together[0].minus(together[1]), contrast)):
        for part in fields(Relevance):
            one, other = getattr(found, part.name), getattr(expected, part.name)
            assert one.shape == other.shape
            assert torch.allclose(one.float(), other.float(), atol=2e-4), part.name
