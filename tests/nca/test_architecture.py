from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leukonca.errors import SettingError
from leukonca.nca.architecture import PRESETS, Architecture, preset


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"size": 0}, "size=0"),
        ({"size": 64.0}, "size=64.0"),
        ({"size": True}, "size=True"),
        ({"size": "64"}, "size='64'"),
        ({"steps": -3}, "steps=-3"),
        ({"hidden": 0}, "hidden=0"),
        ({"head_hidden": None}, "head_hidden=None"),
        ({"firing": 0.0}, "firing=0.0"),
        ({"firing": 1.01}, "firing=1.01"),
        ({"firing": float("nan")}, "firing=nan"),
        ({"firing": "0.5"}, "firing='0.5'"),
        ({"firing": None}, "firing=None"),
        ({"pooling": "median"}, "pooling='median' is unknown; known: max, mean, max_mean, attention"),
        ({"head": ["mlp"]}, r"head=\['mlp'\] is unknown; known: mlp, channels, conv"),
        ({"size": 63, "patch": 2}, "size=63 is not a multiple of patch=2"),
        ({"size": 1}, "size=1 with patch=1 gives 1 sites"),
        ({"size": 1024}, "size=1024 with patch=1 gives 1024 sites"),
        ({"channels": 3}, "channels=3 leaves no hidden channel beside the 3"),
        ({"patch": 4, "channels": 48}, "channels=48 leaves no hidden channel beside the 48"),
        ({"head": "conv", "size": 15}, "head='conv'.*needs 16 sites a side, not 15"),
    ],
)
def test_impossible_shape_is_refused_by_field_and_value(values: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        Architecture(**values)


@given(
    st.builds(
        Architecture,
        size=st.sampled_from([16, 32, 64]),
        patch=st.sampled_from([1, 2]),
        channels=st.integers(16, 300),
        hidden=st.integers(1, 300),
        steps=st.integers(1, 300),
        firing=st.floats(0, 1, exclude_min=True),
        pooling=st.sampled_from(["max", "mean", "max_mean", "attention"]),
    )
)
def test_architecture_survives_json(architecture: Architecture) -> None:
    assert Architecture.from_dict(json.loads(json.dumps(architecture.to_dict()))) == architecture


def test_unknown_field_is_refused() -> None:
    with pytest.raises(SettingError, match="unknown fields: depth, width"):
        Architecture.from_dict({"size": 64, "width": 1, "depth": 2})


def test_grid_and_inputs_follow_from_the_patch() -> None:
    architecture = Architecture(size=48, patch=4, channels=64)
    assert (architecture.grid, architecture.inputs) == (12, 48)


def test_presets_are_found_by_name() -> None:
    assert all(preset(name) is PRESETS[name] for name in PRESETS)
    with pytest.raises(SettingError, match="preset 'huge' is unknown; known: paper,"):
        preset("huge")


def test_paper_preset_is_the_published_model() -> None:
    assert preset("paper") == Architecture(
        size=64,
        patch=1,
        channels=128,
        hidden=128,
        steps=64,
        firing=0.5,
        pooling="max",
        head="mlp",
        head_hidden=128,
    )
