from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import leukonca
import runs
from leukonca import api
from leukonca.errors import DataError, ModelError, SettingError
from leukonca.learning.run import Run
from leukonca.learning.settings import ArchitectureChanges


@pytest.fixture(scope="module", autouse=True)
def _undrawn() -> Iterator[None]:
    with runs.undrawn():
        yield


def test_a_run_and_its_file_are_the_same_model(tmp_path: Path) -> None:
    folder = runs.run().folder
    model, same = leukonca.load(folder), leukonca.load(str(folder / "best.safetensors"))
    assert (model.name, same.name) == ("run", "run (best)")
    assert model.run is not None
    assert same.run is None
    assert model.classes == same.classes == ("lymphocyte", "monocyte", "eosinophil")
    model.save(tmp_path / "named.safetensors")
    again = leukonca.load(tmp_path / "named.safetensors")
    paths = runs.paths("test")
    expected = model.classify(paths).to_frame()
    for other in (same, again):
        pd.testing.assert_frame_equal(other.classify(paths).to_frame(), expected, check_exact=True)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="missing: no such model file"):
        leukonca.load(tmp_path / "missing")
    with pytest.raises(ModelError, match="is a folder, but not that of a training run"):
        leukonca.load(tmp_path)
    (tmp_path / "foreign.safetensors").write_bytes(b"foreign")
    with pytest.raises(ModelError, match="not a leukonca model"):
        leukonca.load(tmp_path / "foreign.safetensors")
    Run(tmp_path / "young", runs.settings(), (), "float32").create()
    with pytest.raises(ModelError, match="young: this run has no model yet, no epoch has finished"):
        leukonca.load(tmp_path / "young")


def test_classify_takes_a_file_a_folder_or_a_mixture(tmp_path: Path) -> None:
    model, (one, two, *_) = leukonca.load(runs.run().folder), runs.paths("test")
    for number, path in enumerate((one, two)):
        runs.copy_as(path, tmp_path / "below" / "deep" / f"{number}.bmp")
    (tmp_path / "below" / "notes.txt").write_text("no picture", encoding="utf-8")
    folder = tmp_path / "below"
    inside = [str(folder / "deep" / "0.bmp"), str(folder / "deep" / "1.bmp")]
    assert model.classify(one).paths == [one]
    assert model.classify(folder).paths == inside
    found = model.classify([folder, Path(one), str(tmp_path / "none.png")])
    assert found.paths == [*inside, one, str(tmp_path / "none.png")]
    assert found.ok.tolist() == [True, True, True, False]
    frame = found.to_frame()
    assert list(frame.columns) == [
        "path",
        "label",
        "p_lymphocyte",
        "p_monocyte",
        "p_eosinophil",
        "spread",
        "error",
    ]
    assert frame["label"][0] == frame["label"][2]
    assert isinstance(found, leukonca.Predictions)


def test_nothing_to_classify_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture", encoding="utf-8")
    with pytest.raises(DataError, match="the folder holds no pictures"):
        api.files_of(tmp_path)
    with pytest.raises(DataError, match="there is no picture to classify"):
        api.files_of([])


def test_train_gives_the_model_and_its_history(tmp_path: Path) -> None:
    change = {name: value for name, value in vars(runs.settings().change).items() if value is not None}
    training = leukonca.train(
        runs.cells(), tmp_path / "run", epochs=2, batch=8, precision="float32", change=change
    )
    assert isinstance(training, leukonca.Training)
    assert training.to_frame()["epoch"].tolist() == [1, 2]
    assert training.run.settings.epochs == 2
    assert training.run.settings.preset == "base"
    assert training.model.classes == ("lymphocyte", "monocyte", "eosinophil")
    metrics = training.model.evaluate(None, tmp_path / "report", resamples=0)
    assert isinstance(metrics, leukonca.Metrics)
    assert metrics.n == 6
    # Nothing is left to train.
    resumed = leukonca.resume(tmp_path / "run")
    pd.testing.assert_frame_equal(resumed.to_frame(), training.to_frame())


def test_a_manifest_is_trained_on_as_it_is(tmp_path: Path) -> None:
    manifest = runs.run().manifest
    training = leukonca.train(manifest, tmp_path / "run", runs.settings(), epochs=1)
    assert training.run.manifest.frame["split"].tolist() == manifest.frame["split"].tolist()
    assert training.run.settings == runs.settings(epochs=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch": 3}, "unknown settings: epoch"),
        ({"epoch": 3, "change": ArchitectureChanges(steps=3)}, "unknown settings: epoch"),
        ({"change": {"step": 3}}, r"unknown settings: change\.step"),
        ({"epochs": 0}, "epochs=0 must be at least 1"),
        ({"loss": "hinge"}, "loss='hinge' is unknown"),
    ],
)
def test_a_wrong_setting_is_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=message):
        leukonca.train(runs.cells(), tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_changes_may_be_typed_or_plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    def spy(data: object, out: Path, settings: object, *, cache: object, progress: bool) -> Run:
        given.append(settings)
        return runs.run()

    monkeypatch.setattr(api, "_train", spy)
    leukonca.train("cells", tmp_path, change=ArchitectureChanges(steps=3))
    leukonca.train("cells", tmp_path, change={"steps": 3})
    assert given == [leukonca.Settings(change=ArchitectureChanges(steps=3))] * 2


def test_evaluate_takes_models_and_their_places(tmp_path: Path) -> None:
    folder = runs.run().folder
    own = leukonca.evaluate(folder, None, tmp_path / "a", resamples=0)
    by_file = leukonca.evaluate(folder / "best.safetensors", runs.cells(), tmp_path / "b", resamples=0)
    loaded = leukonca.evaluate(
        leukonca.load(folder), [str(runs.cells())], tmp_path / "c", split="test", resamples=0
    )
    by_manifest = leukonca.evaluate(folder, runs.run().manifest, tmp_path / "d", resamples=0)
    assert own.n == 6
    assert own.to_dict() == by_file.to_dict() == loaded.to_dict() == by_manifest.to_dict()


def test_a_model_file_knows_no_cells_to_test_on(tmp_path: Path) -> None:
    model = leukonca.load(runs.run().folder / "best.safetensors")
    with pytest.raises(DataError, match=r"run \(best\): is not the folder of a training run; name the cells"):
        model.evaluate(None, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_without_test_cells_says_so(tmp_path: Path) -> None:
    training = leukonca.train(
        runs.cells(), tmp_path / "run", runs.settings(epochs=1, fractions=(0.8, 0.2, 0.0))
    )
    with pytest.raises(DataError, match="its run kept no test cells"):
        training.model.evaluate(None, tmp_path / "out")


def test_predictions_do_not_draw_from_the_callers_random_numbers() -> None:
    import torch

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    leukonca.load(runs.run().folder).classify(runs.paths("test")[:1])
    np.testing.assert_array_equal(torch.rand(3), expected)


def test_the_public_names_are_what_they_seem() -> None:
    assert dir(leukonca) == sorted(leukonca.__all__)
    assert leukonca.load is api.load
    for name in leukonca.__all__:
        assert getattr(leukonca, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'lood'"):
        leukonca.lood  # noqa: B018
