from __future__ import annotations

import numpy as np
import pytest
import torch
from automata import SMALL, VARIANTS, identities, lively, pictures
from scipy.stats import spearmanr
from torch import nn

from leukonca.errors import SettingError
from leukonca.explanation.relevance import relevance
from leukonca.explanation.sanity import randomised, similarity
from leukonca.explanation.target import Target


def test_weights_are_shuffled_part_by_part_from_the_answer_on() -> None:
    network = lively(VARIANTS["attention"])
    before = {name: value.clone() for name, value in network.state_dict().items()}
    copies = dict(randomised(network, seed=1))
    assert list(copies) == ["head", "pool", "rule"]
    changed = {"head": {"head"}, "pool": {"head", "pool"}, "rule": {"head", "pool", "rule"}}
    for part, shuffled in copies.items():
        for name, value in shuffled.state_dict().items():
            same = torch.equal(value, before[name])
            # A single number cannot be shuffled.
            assert same == (name.split(".")[0] not in changed[part] or value.numel() == 1), name
            assert torch.equal(value.flatten().sort().values, before[name].flatten().sort().values)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_parts_of_a_lone_child_are_shuffled_one_by_one() -> None:
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(4, 2))
    assert [name for name, _ in randomised(nn.ModuleDict({"body": body}))] == ["body.2", "body.0"]
    assert [name for name, _ in randomised(nn.Sequential(nn.Linear(4, 2)))] == ["0"]


def test_shuffling_repeats_itself() -> None:
    one, again, other = (dict(randomised(lively(SMALL), seed))["rule"] for seed in (1, 1, 2))
    name = "rule.hidden_weight"
    assert torch.equal(one.state_dict()[name], again.state_dict()[name])
    assert not torch.equal(one.state_dict()[name], other.state_dict()[name])


def test_a_map_of_another_model_is_another() -> None:
    network, cells, images = lively(SMALL), pictures(3, 16), identities(3)
    target = Target("rest", torch.tensor([0, 1, 4]))
    own = relevance(network, cells, images, target, seeds=1).map
    shuffled = dict(randomised(network))["rule"]
    foreign = relevance(shuffled, cells, images, target, seeds=1).map
    assert similarity(own, own).tolist() == pytest.approx([1, 1, 1])
    assert np.abs(similarity(own, foreign)).max() < 0.8


def test_similarity_is_spearmans_of_the_patches() -> None:
    draw = torch.Generator().manual_seed(0)
    one, other = (torch.randint(-9, 9, (2, 12, 12), generator=draw).float() for _ in range(2))
    other[1, :4] = 0  # ties
    found = similarity(one, other, 2)
    for cell in range(2):
        sums = [
            each[cell].numpy().astype(float).reshape(6, 2, 6, 2).sum((1, 3)).flatten()
            for each in (one, other)
        ]
        assert found[cell] == pytest.approx(spearmanr(*sums).statistic)


def test_an_even_map_is_like_no_other() -> None:
    assert np.isnan(similarity(torch.zeros(1, 8, 8), torch.rand(1, 8, 8))).all()


def test_wrong_use_is_said() -> None:
    with pytest.raises(SettingError, match=r"maps of shape \[1, 8, 8\] and \[1, 4, 4\]"):
        similarity(torch.zeros(1, 8, 8), torch.zeros(1, 4, 4))
    with pytest.raises(SettingError, match="a ReLU has no weights"):
        list(randomised(nn.ReLU()))
