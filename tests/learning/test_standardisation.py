"""Batch normalisation of the pooled channels, against the network that keeps it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from micro import micro, write_cells
from torch import nn

from leukonca.learning.bundle import load_bundle
from leukonca.learning.run import Run
from leukonca.learning.settings import ArchitectureChanges
from leukonca.learning.standardisation import folded, standardise
from leukonca.learning.training import train
from leukonca.nca.architecture import Architecture
from leukonca.nca.classifier import CellClassifier

SMALL = Architecture(size=16, patch=2, channels=16, hidden=16, steps=3, pooling="max_mean", head_hidden=8)
PICTURES = torch.randn(12, 3, 16, 16, generator=torch.Generator().manual_seed(1))
IMAGES = torch.arange(12)


def network() -> CellClassifier:
    torch.manual_seed(0)
    made = CellClassifier(SMALL, 4)
    made.engine = "eager"
    made.rule.stir()
    standardise(made)
    return made


def trained() -> CellClassifier:
    """With running statistics, scale and shift that are not those of the start."""
    made = network()
    for _ in range(20):
        made(PICTURES, IMAGES)
    norm = made.head[0]
    assert isinstance(norm, nn.BatchNorm1d)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.normal_()
    return made


def test_the_head_sees_each_pooled_value_with_mean_0_and_variance_1() -> None:
    made, seen = network(), []
    made.head[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    made(PICTURES, IMAGES)
    varying = made.pool(made.rollout(PICTURES, IMAGES).state).std(0) > 0.01
    assert varying.sum() > 8
    torch.testing.assert_close(seen[0].mean(0), torch.zeros(32), atol=1e-5, rtol=0)
    assert (seen[0].var(0, correction=0)[varying] - 1).abs().max() < 0.1


def test_folding_keeps_every_answer_and_the_network() -> None:
    made = trained().eval()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    plain = folded(made)
    torch.testing.assert_close(plain(PICTURES, IMAGES), made(PICTURES, IMAGES), atol=1e-5, rtol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    fresh = CellClassifier(SMALL, 4)
    assert plain.state_dict().keys() == fresh.state_dict().keys()
    assert plain.parameter_count == fresh.parameter_count


def test_a_network_without_normalisation_is_its_own_fold() -> None:
    plain = CellClassifier(SMALL, 4)
    assert folded(plain) is plain


def test_a_batch_of_one_is_taken_by_the_running_statistics() -> None:
    made = trained()
    one = made(PICTURES[:1], IMAGES[:1])
    torch.testing.assert_close(one, made.eval()(PICTURES[:1], IMAGES[:1]))


@pytest.mark.parametrize("head", ["channels", "conv"])
def test_other_heads_are_refused(head: str) -> None:
    shape = replace(SMALL, size=32, head=head)
    with pytest.raises(TypeError, match=head):
        standardise(CellClassifier(shape, 4))


def test_a_run_keeps_what_it_validated(tmp_path: Path) -> None:
    cells = write_cells(tmp_path / "cells")
    run = train([cells], tmp_path / "run", micro(pooled_norm="batch"))
    model = load_bundle(run.folder / "best.safetensors")
    assert not any("running" in name for name in model.network.state_dict())
    first = model.network.head[0]
    assert isinstance(first, nn.Linear)
    assert first.weight.isfinite().all()


@pytest.mark.parametrize("head", ["channels", "conv"])
def test_other_heads_train_without(head: str, tmp_path: Path) -> None:
    cells = write_cells(tmp_path / "cells")
    change = ArchitectureChanges(size=32, patch=2, channels=24, hidden=8, steps=2)
    preset = {"channels": "paper_simple", "conv": "paper_conv"}[head]
    settings = micro(preset=preset, change=change, pooled_norm="batch", epochs=1)
    assert (train([cells], tmp_path / "run", settings).folder / "best.safetensors").is_file()


def test_the_start_is_still_or_not(tmp_path: Path) -> None:
    torch.manual_seed(0)
    rule = CellClassifier(SMALL, 4).rule
    assert not rule.update_weight.any()
    rule.stir()
    bound = SMALL.hidden**-0.5
    assert bound / 2 < rule.update_weight.abs().max() <= bound


def test_a_run_of_an_earlier_version_goes_on_as_it_began(tmp_path: Path) -> None:
    run = train([write_cells(tmp_path / "cells")], tmp_path / "run", micro(epochs=1))
    note = json.loads((run.folder / "run.json").read_text(encoding="utf-8"))
    for name in ("start", "pooled_norm"):
        del note["settings"][name]
    (run.folder / "run.json").write_text(json.dumps(note), encoding="utf-8")
    settings = Run.open(run.folder).settings
    assert (settings.start, settings.pooled_norm) == ("still", "none")
