"""Every model that ships loads, is small, has a card, and names real cells of the package."""

from __future__ import annotations

from pathlib import Path

import pytest

import leukonca
from leukonca.cells.embedded import embedded_table
from leukonca.cells.scan import scan
from leukonca.commands import main
from leukonca.delivery.shipped import Shipped, find_shipped, shipped_models
from leukonca.errors import ModelError

MODELS = list(shipped_models().values())
SECTIONS = ("Intended use", "Trained on", "At home", "Elsewhere", "Known failures", "Licence")


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_a_model_is_small_and_its_card_complete(model: Shipped) -> None:
    assert model.file.stat().st_size < 1_000_000
    assert model.card.startswith(f"# {model.name}\n")
    assert len(model.summary) > 40
    for section in SECTIONS:
        assert f"\n## {section}\n" in model.card
    # No number was left to be filled in.
    assert not {"TODO", "nan", "None", "{", "}"} & set(model.card.split())


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_a_model_is_loaded_by_name_and_names_cells(model: Shipped) -> None:
    loaded = leukonca.load(model.name)
    assert loaded.name == model.name
    cells = scan([f"table:{embedded_table()}"]).frame
    chosen = cells[cells["split"] == "test"].iloc[::14]
    named = loaded.classify(chosen["path"].tolist(), seeds=1)
    assert not any(named.errors)
    assert set(named.classes) == set(loaded.classes)


def test_a_file_of_that_name_counts_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = MODELS[0].name
    (tmp_path / name).write_text("not a model")
    with pytest.raises(ModelError, match="not a leukonca model"):
        leukonca.load(name)


def test_a_name_that_is_nearly_right_is_corrected() -> None:
    name = MODELS[0].name
    with pytest.raises(ModelError, match=f"did you mean '{name}'"):
        find_shipped(name[:-1])
    with pytest.raises(ModelError, match=r"known: .*, "):
        find_shipped("x")


def test_the_command_lists_models_and_shows_cards(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    listed = capsys.readouterr().out
    assert all(model.name in listed for model in MODELS)
    assert main(["models", MODELS[0].name]) == 0
    assert capsys.readouterr().out.strip() == MODELS[0].card.strip()
    assert main(["models", "nothing-alike"]) == 2
    assert "known:" in capsys.readouterr().err
