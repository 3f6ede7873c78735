from __future__ import annotations

import json
import re
from typing import Any

import pytest

from leukonca.errors import SettingError
from leukonca.learning.settings import ArchitectureChanges, Settings
from leukonca.learning.shapes import BASELINES, BaselineShape, shape_from_dict, shape_of
from leukonca.nca.architecture import PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_an_automaton(name: str) -> None:
    assert shape_of(name, {}) == PRESETS[name]
    assert shape_from_dict(json.loads(json.dumps(PRESETS[name].to_dict()))) == PRESETS[name]


@pytest.mark.parametrize("kind", BASELINES)
def test_a_baseline_is_a_preset_whose_size_can_be_changed(kind: Any) -> None:
    assert Settings(preset=kind).architecture() == BaselineShape(kind, 64)
    larger = Settings(preset=kind, change=ArchitectureChanges(size=128)).architecture()
    assert larger == BaselineShape(kind, 128)
    assert shape_from_dict(json.loads(json.dumps(larger.to_dict()))) == larger


def test_an_unknown_preset_is_told_all_names() -> None:
    with pytest.raises(SettingError, match=r"'resnet34' is unknown; known: paper, .*base.*resnet18"):
        Settings(preset="resnet34")


def test_nothing_but_the_size_of_a_baseline_can_be_changed() -> None:
    with pytest.raises(
        SettingError, match=r"change\.channels, change\.steps: the baseline resnet18 .* only change\.size"
    ):
        Settings(preset="resnet18", change=ArchitectureChanges(channels=32, steps=8, size=64))


@pytest.mark.parametrize("size", [63, 0, -64, 64.0, True, "64", None])
def test_a_size_that_does_not_fit_is_refused(size: Any) -> None:
    with pytest.raises(SettingError, match=re.escape(f"size={size!r} must be a whole number of at least 64")):
        BaselineShape("densenet121", size)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"kind": "vgg16", "size": 64}, "'vgg16' is unknown; known: resnet18"),
        ({"kind": None}, "None is unknown"),
        ({"kind": ["resnet18"]}, "is unknown"),
        ({"kind": "resnet18", "size": 64, "steps": 3}, "unknown fields: steps"),
    ],
)
def test_damaged_shapes_are_refused(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(SettingError, match=re.escape(reason)):
        shape_from_dict(values)
