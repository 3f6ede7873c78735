from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import runs
from learning.micro import assert_same_run, weights
from leukonca.assessment import crossvalidate as room
from leukonca.assessment.crossvalidate import crossvalidate
from leukonca.assessment.prediction import Predictions
from leukonca.cells.embedded import embedded_table
from leukonca.errors import DataError, SettingError
from leukonca.learning.run import Run
from leukonca.learning.training import train

FOLDS = 3
SETTINGS = runs.settings(epochs=2, folds=FOLDS)


def data() -> list[str]:
    return [f"folder:{runs.cells()}"]


def call(out: Path, specs: Sequence[str] | None = None, settings: Any = SETTINGS, **options: Any) -> Any:
    return crossvalidate(specs or data(), out, settings, **{"resamples": 5, "seeds": 2, **options})


@pytest.fixture(scope="module", autouse=True)
def _undrawn() -> Iterator[None]:
    with runs.undrawn():
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished cross-validation; nobody may write into it."""
    out = tmp_path_factory.mktemp("crossval")
    call(out)
    return out


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "crossval"))


def never(*_: object, **__: object) -> None:
    raise AssertionError("something was trained or assessed again")


def summary(out: Path) -> Any:
    return json.loads((out / "crossval.json").read_text("utf-8"))


def test_every_cell_is_tested_once_by_a_model_that_has_not_seen_it(finished: Path) -> None:
    tested: list[str] = []
    for fold in range(FOLDS):
        run = Run.open(finished / f"fold-{fold}")
        frame, model = run.manifest.frame, run.model()
        test = frame[frame["split"] == "test"]
        tested += test["path"].tolist()
        assert Predictions.read(run.folder / "report" / "predictions.csv").paths == test["path"].tolist()
        assert len(model.seen_training) + len(model.seen_validation) + len(test) == len(frame) == 30
    assert sorted(tested) == sorted(frame["path"])
    pooled = Predictions.read(finished / "predictions.csv")
    assert pooled.paths == tested
    assert pooled.truth == [Path(path).parent.name for path in tested]
    assert summary(finished)["pooled"]["n"] == 30


@pytest.mark.parametrize("fold", range(FOLDS))
def test_a_fold_is_a_fresh_model_bit_by_bit(finished: Path, tmp_path: Path, fold: int) -> None:
    """The k-fold code of others goes on with the model or optimizer of the fold before."""
    alone = train(data(), tmp_path / "alone", runs.settings(epochs=2, folds=FOLDS, fold=fold))
    assert_same_run(alone.folder, finished / f"fold-{fold}")
    other = weights(finished / f"fold-{(fold + 1) % FOLDS}")
    key = "network.rule.update_weight"
    assert not np.array_equal(weights(alone.folder)[key], other[key])


def test_the_summary_is_mean_and_standard_deviation_of_the_folds(finished: Path) -> None:
    folds = [
        json.loads((finished / f"fold-{fold}" / "report" / "metrics.json").read_text("utf-8"))
        for fold in range(FOLDS)
    ]
    found = summary(finished)
    # A fold's own report tells of its model's calibration besides, of which there is none for all together.
    assert [{**fold, **kept} for fold, kept in zip(folds, found["folds"], strict=True)] == folds
    for name in ("accuracy", "macro_f1", "ece"):
        values = [fold[name]["value"] for fold in folds]
        assert found["summary"][name]["mean"] == pytest.approx(np.mean(values))
        assert found["summary"][name]["sd"] == pytest.approx(np.std(values, ddof=1))
        assert found["summary"][name]["folds"] == FOLDS
    confusion = pd.read_csv(finished / "confusion.csv", index_col=0).to_numpy()
    pooled = Predictions.read(finished / "predictions.csv")
    right = sum(own == truth for own, truth in zip(pooled.labels, pooled.truth or [], strict=True))
    assert (confusion.sum(), np.trace(confusion)) == (30, right)


def test_a_second_call_trains_and_assesses_nothing(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = summary(copied)
    for name in ("train", "resume", "evaluate"):
        monkeypatch.setattr(room, name, never)
    call(copied)
    assert summary(copied) == before


def test_decoded_pictures_are_not_kept(finished: Path) -> None:
    assert not list(finished.glob("fold-*/prepared*"))


def test_it_goes_on_after_the_last_finished_fold(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = summary(copied)
    shutil.rmtree(copied / "fold-2")
    (copied / "crossval.json").unlink()
    # Fold 1 was killed between training and assessment.
    shutil.rmtree(copied / "fold-1" / "report")
    (copied / "fold-1" / "assessed.json").unlink()
    trained = []

    def spy(specs: Sequence[str], folder: Path, *rest: Any, **options: Any) -> Run:
        trained.append(folder.name)
        return train(specs, folder, *rest, **options)

    monkeypatch.setattr(room, "train", spy)
    call(copied)
    assert trained == ["fold-2"]
    assert summary(copied) == before


def test_an_interrupted_fold_is_resumed(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    def interrupted(*_: object, **__: object) -> Run:
        started.append(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(room, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        call(tmp_path)
    monkeypatch.undo()
    assert started == [1]
    assert not (tmp_path / "crossval.json").exists()
    call(tmp_path)
    assert summary(tmp_path) == summary(finished)


@pytest.mark.parametrize(
    ("specs", "settings"),
    [
        (None, runs.settings(epochs=2, folds=FOLDS, batch=7)),
        (None, runs.settings(epochs=2, folds=2)),
        (["folder:."], SETTINGS),
    ],
)
def test_a_folder_of_other_data_or_settings_is_refused(
    finished: Path, specs: list[str] | None, settings: Any
) -> None:
    with pytest.raises(DataError, match=r"fold-0: holds a run of other data or settings; choose another"):
        call(finished, specs, settings)


def test_other_firing_seeds_assess_again_without_training(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Predictions.read(copied / "predictions.csv")
    for name in ("train", "resume"):
        monkeypatch.setattr(room, name, never)
    call(copied, seeds=3)
    after = Predictions.read(copied / "predictions.csv")
    assert after.paths == before.paths
    assert not np.array_equal(after.probabilities, before.probabilities)


def test_a_report_that_was_written_over_is_made_again(copied: Path) -> None:
    before = summary(copied)
    file = copied / "fold-0" / "report" / "metrics.json"
    file.write_text(file.read_text("utf-8").replace('"n": 12', '"n": 13'), encoding="utf-8")
    (copied / "fold-1" / "report" / "predictions.csv").unlink()
    call(copied)
    assert summary(copied) == before


def test_groups_are_never_divided(tmp_path: Path) -> None:
    paths = sorted(runs.cells().rglob("*.png"))
    labels = [path.parent.name for path in paths]
    # Two cells a patient.
    patients = [f"p{number // 2}" for number in range(len(paths))]
    table = tmp_path / "cells.csv"
    pd.DataFrame({"path": paths, "label": labels, "group": patients}).to_csv(table, index=False)
    metrics = call(tmp_path / "out", [f"table:{table}"], runs.settings(epochs=1, folds=2))
    assert metrics.clusters == 15
    for fold in range(2):
        frame = Run.open(tmp_path / "out" / f"fold-{fold}").manifest.frame
        assert all(len(set(members)) == 1 for _, members in frame.groupby("group")["split"])


def test_cells_with_a_split_of_their_own_are_refused(tmp_path: Path) -> None:
    """Every fold would keep that split: five times the same test cells, with a spread that means nothing."""
    with pytest.raises(DataError, match="have a split of their own, which folds would ignore"):
        call(tmp_path / "out", [f"table:{embedded_table()}"])
    assert not (tmp_path / "out").exists()


def test_too_many_folds_do_not_take_the_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ask for fewer folds"):
        call(tmp_path, settings=runs.settings(epochs=1, folds=11))
    call(tmp_path, settings=runs.settings(epochs=1, folds=2))
    assert sorted(path.name for path in tmp_path.glob("fold-*")) == ["fold-0", "fold-1"]


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        (runs.settings(), {}, "folds=0: cross-validation needs at least 2"),
        (SETTINGS, {"seeds": 0}, "seeds=0 must be at least 1"),
        (SETTINGS, {"resamples": -1}, "resamples=-1 must be at least 0"),
    ],
)
def test_wrong_options_are_refused_before_any_work(
    tmp_path: Path, settings: Any, options: dict[str, int], message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        call(tmp_path, settings=settings, **options)
    assert not list(tmp_path.iterdir())
