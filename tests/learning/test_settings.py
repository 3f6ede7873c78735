from __future__ import annotations

import json
import math
import re
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leukonca.errors import SettingError
from leukonca.learning.augmentation import PRESETS as AUGMENTATIONS
from leukonca.learning.settings import AS_PUBLISHED, ArchitectureChanges, Settings
from leukonca.nca.architecture import PRESETS

WRONG = [
    ("crop", 0, "in (0, 1]"),
    ("crop", 1.01, "in (0, 1]"),
    ("crop", math.nan, "in (0, 1]"),
    ("crop", "0.5", "a number"),
    ("label_smoothing", 1.0, "in [0, 1)"),
    ("label_smoothing", -0.1, "in [0, 1)"),
    ("focal_gamma", -1.0, "at least 0"),
    ("focal_gamma", math.inf, "at least 0"),
    ("consistency", -1.0, "at least 0"),
    ("consistency", math.inf, "at least 0"),
    ("restraint", -0.1, "at least 0"),
    ("restraint", math.inf, "at least 0"),
    ("restraint", math.nan, "at least 0"),
    ("restraint", "0.1", "a number"),
    ("restraint_bound", 0.0, "above 0"),
    ("restraint_bound", math.nan, "above 0"),
    ("vary_steps", 1.0, "in [0, 1)"),
    ("vary_steps", math.nan, "in [0, 1)"),
    ("vary_firing", -0.1, "in [0, 1)"),
    ("vary_firing", "0.5", "a number"),
    ("learning_rate", 0.0, "in (0, 1)"),
    ("learning_rate", math.nan, "in (0, 1)"),
    ("learning_rate", None, "a number"),
    ("weight_decay", 1, "in [0, 1)"),
    ("epochs", 0, "at least 1"),
    ("epochs", 2.5, "a whole number"),
    ("epochs", True, "a whole number"),
    ("batch", 0, "at least 1"),
    ("batch", "32", "a whole number"),
    ("clip", -1.0, "at least 0"),
    ("clip", math.nan, "at least 0"),
    ("clip", False, "a number"),
    ("ema", 1.0, "in [0, 1)"),
    ("patience", -1, "at least 0"),
    ("folds", 1, "0, or at least 2"),
    ("folds", -5, "0, or at least 2"),
    ("fold", 1, "in [0, folds=0)"),
    ("fold", -1, "in [0, folds=0)"),
    ("limit_per_class", -1, "at least 0"),
    ("seed", -1, "in [0, 2^63)"),
    ("seed", 1 << 63, "in [0, 2^63)"),
    ("seed", 4.0, "a whole number"),
    ("fractions", (0.5, 0.5), "three shares"),
    ("fractions", (0.5, 0.6, -0.1), "three shares"),
    ("fractions", (0.5, 0.2, 0.2), "sum to 1"),
    ("fractions", (math.nan, 0.5, 0.5), "three shares"),
    ("fractions", "abc", "three shares"),
    ("classes", "nine", "auto, five, eight, thirteen"),
    ("fit", "crop", "stretch, square, cell"),
    ("normalisation", "target", "training, picture, none"),
    ("loss", "mse", "bce, cross_entropy, focal"),
    ("balance", "equal", "none, sampling"),
    ("weight_scheme", "none", "inverse"),
    ("optimizer", "sgd", "adam, adamw, muon"),
    ("schedule", "cosine", "one_cycle, paper, constant"),
    ("monitor", "auroc", "macro_f1, accuracy, loss"),
    ("precision", "16", "auto, float32, bfloat16"),
    ("preset", "huge", "paper, paper_simple"),
    ("preset", None, "a name"),
    ("augmentation", "heavy", "standard"),
    ("augmentation", ["paper"], "a name"),
    ("change", {"size": 32}, "changes of the architecture"),
]


@pytest.mark.parametrize(("name", "value", "range_"), WRONG)
def test_a_wrong_value_is_refused_with_name_value_and_range(name: str, value: Any, range_: str) -> None:
    with pytest.raises(SettingError, match=re.escape(range_)) as caught:
        Settings(**{name: value})
    assert name in str(caught.value)
    assert repr(value) in str(caught.value)


def test_every_setting_is_documented() -> None:
    for entry in fields(Settings):
        assert re.search(rf"^ +{entry.name}: ", Settings.__doc__ or "", re.MULTILINE), entry.name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"consistency": 1.0, "loss": "bce"}, "consistency=1.0 must be 0 with loss='bce'"),
        ({"vary_steps": 0.5, "preset": "resnet18"}, "vary_steps=0.5 must be 0 with the baseline resnet18"),
        ({"vary_firing": 0.5, "preset": "resnet18"}, "vary_firing=0.5 must be 0 with the baseline resnet18"),
        ({"restraint": 0.1, "preset": "resnet18"}, "restraint=0.1 must be 0 with the baseline resnet18"),
        (
            {"optimizer": "muon", "preset": "resnet18"},
            "optimizer='muon' must be adam or adamw with the baseline resnet18",
        ),
    ],
)
def test_settings_that_do_not_go_together(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=re.escape(message)):
        Settings(**changes)


@pytest.mark.parametrize("fold", [5, 7])
def test_the_fold_lies_below_the_folds(fold: int) -> None:
    with pytest.raises(SettingError, match=rf"fold={fold} must be in \[0, folds=5\)"):
        Settings(folds=5, fold=fold)
    assert Settings(folds=5, fold=4).fold == 4


@pytest.mark.parametrize("name", PRESETS)
def test_the_architecture_is_the_preset_with_the_changes(name: str) -> None:
    assert Settings(preset=name).architecture() == PRESETS[name]
    changed = Settings(preset=name, change=ArchitectureChanges(steps=5, firing=1.0)).architecture()
    assert (changed.steps, changed.firing, changed.channels) == (5, 1.0, PRESETS[name].channels)


@pytest.mark.parametrize(
    ("preset", "optimizer", "name"),
    [("base", "auto", "muon"), ("base", "adamw", "adamw"), ("resnet18", "auto", "adamw")],
)
def test_an_automaton_has_the_optimizer_that_needs_fewer_steps(
    preset: str, optimizer: Any, name: str
) -> None:
    assert Settings(preset=preset, optimizer=optimizer).optimizer_name() == name


@pytest.mark.parametrize(
    ("settings", "weight"),
    [
        (Settings(change=ArchitectureChanges(firing=1.0)), 0.01),
        (Settings(change=ArchitectureChanges(firing=0.5)), 0.0),
        (Settings(change=ArchitectureChanges(firing=1.0), restraint=0.0), 0.0),
        (Settings(change=ArchitectureChanges(firing=0.5), restraint=0.2), 0.2),
        (Settings(preset="resnet18"), 0.0),
        (AS_PUBLISHED, 0.0),
    ],
)
def test_a_rule_that_no_chance_restrains_is_restrained(settings: Settings, weight: float) -> None:
    assert settings.restraint_weight() == weight


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"channels": 2}, "channels=2"),
        ({"size": 63}, "not a multiple"),
        ({"size": 4}, "size = 4"),
        ({"steps": 0}, "steps=0"),
        ({"firing": 0.0}, "firing=0.0"),
        ({"pooling": "median"}, "'median'"),
    ],
)
def test_changes_that_do_not_fit_are_refused_at_once(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(SettingError, match=re.escape(reason)):
        Settings(change=ArchitectureChanges(**change))


@given(
    preset=st.sampled_from(sorted(PRESETS)),
    augmentation=st.sampled_from(sorted(AUGMENTATIONS)),
    change=st.builds(
        ArchitectureChanges, steps=st.none() | st.integers(1, 99), firing=st.none() | st.just(1.0)
    ),
    crop=st.floats(0.01, 1),
    learning_rate=st.floats(1e-6, 0.5),
    train=st.floats(0, 1),
    seed=st.integers(0, (1 << 63) - 1),
    folds=st.sampled_from([0, 2, 5]),
)
def test_settings_survive_json(train: float, **values: Any) -> None:
    settings = Settings(**values, fractions=(train, 1 - train, 0.0))
    assert Settings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


def test_the_published_training_survives_json() -> None:
    assert Settings.from_dict(json.loads(json.dumps(AS_PUBLISHED.to_dict()))) == AS_PUBLISHED


def test_the_published_training_is_that_of_the_paper() -> None:
    # Deutges et al., MICCAI 2024, section 3, and the released code.
    assert AS_PUBLISHED.architecture() == PRESETS["paper"]
    assert (AS_PUBLISHED.loss, AS_PUBLISHED.optimizer, AS_PUBLISHED.learning_rate) == ("bce", "adam", 4e-4)
    assert (AS_PUBLISHED.epochs, AS_PUBLISHED.batch, AS_PUBLISHED.schedule) == (32, 16, "paper")
    assert (AS_PUBLISHED.folds, AS_PUBLISHED.seed, AS_PUBLISHED.balance) == (5, 42, "sampling")


def test_missing_settings_are_the_defaults() -> None:
    assert Settings.from_dict({}) == Settings()
    assert Settings.from_dict({"epochs": 3}) == Settings(epochs=3)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"epoch": 3}, "epoch"),
        ({"change": {"stepz": 3}}, "change.stepz"),
        ({"a": 1, "change": {"b": 1}}, "a, change.b"),
    ],
)
def test_unknown_settings_are_refused_by_name(values: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingError, match=rf"unknown settings: {re.escape(named)}$"):
        Settings.from_dict(values)


@pytest.mark.parametrize(
    "values",
    [{"change": 3}, {"change": None}, {"fractions": 1}, {"fractions": ["a", 0, 1]}, {"epochs": None}],
)
def test_a_damaged_dict_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=next(iter(values))):
        Settings.from_dict(values)
