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
from leukonca.explanation.companions import find_index, find_probes, index_file, probes_file

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


COMPANIONS = [
    (model, file)
    for model in MODELS
    for file in (probes_file(model.file), index_file(model.file))
    if file.is_file()
]


@pytest.mark.parametrize(("model", "file"), COMPANIONS, ids=lambda one: one.name)
def test_what_explanations_need_is_of_this_very_model(model: Shipped, file: Path) -> None:
    # Made anew by tools/ship_explanations.py whenever a model is.
    trained = leukonca.load(model.name).trained
    assert file.stat().st_size < 1_000_000
    if file == probes_file(model.file):
        probes = find_probes(trained, None, file)
        assert probes is not None
        assert {"basophil", "eosinophil", "lymphocyte", "monocyte", "neutrophil"} <= set(probes.described)
    else:
        index = find_index(trained, None, file)
        assert index is not None
        assert set(index.labels) == set(trained.classes)
        assert index.pictures is not None
        assert "CC BY 4.0" in index.credit
        assert not any(Path(path).is_absolute() or ".." in Path(path).parts for path in index.paths)


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
