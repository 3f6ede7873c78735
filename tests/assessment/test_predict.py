from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import runs
from leukonca.assessment.predict import join, predict, predict_in_parts, with_target_statistics
from leukonca.assessment.prediction import Predictions
from leukonca.cells.decode import content_hash, decode
from leukonca.cells.framing import frame
from leukonca.errors import DataError, ModelError, SettingError
from leukonca.learning.trained import TrainedModel
from leukonca.nca.classifier import CellClassifier
from leukonca.nca.firing import image_id
from leukonca.nca.settling import Settling


def one_by_one(model: TrainedModel, paths: list[str], seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean probabilities and spread, cell by cell and seed by seed, from the network alone."""
    means, spreads = [], []
    for path in paths:
        picture = decode(path)
        inputs = torch.from_numpy(frame(picture, model.framing)).permute(2, 0, 1).double() / 255
        statistics = model.statistics
        assert statistics is not None
        inputs = (inputs - torch.tensor(statistics.mean).view(3, 1, 1)) / torch.tensor(statistics.std).view(
            3, 1, 1
        )
        rows = []
        for seed in range(seeds):
            with torch.no_grad():
                images = torch.tensor([image_id(content_hash(picture))])
                logits = model.network(inputs.float()[None], images, seed)[0].double().numpy()
            logits /= model.trust.temperature if model.trust else 1.0
            powers = np.exp(logits - logits.max())
            rows.append(powers / powers.sum())
        mean = np.mean(rows, axis=0)
        means.append(mean)
        spreads.append(np.std([row[mean.argmax()] for row in rows]))
    return np.array(means), np.array(spreads)


def firing_always(model: TrainedModel) -> TrainedModel:
    network = CellClassifier(replace(model.network.architecture, firing=1.0), len(model.classes))
    network.load_state_dict(model.network.state_dict())
    return replace(model, network=network)


@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_probabilities_are_the_mean_over_seeds_and_the_spread_is_that_of_the_winner(seeds: int) -> None:
    model, paths = runs.model(), runs.paths("test")
    expected, spread = one_by_one(model, paths, seeds)
    found = predict(model, paths, seeds=seeds)
    np.testing.assert_allclose(found.probabilities, expected, rtol=0, atol=1e-6)
    if seeds == 1:
        assert np.isnan(found.spread).all()
    else:
        assert (spread > 1e-7).all()
        np.testing.assert_allclose(found.spread, spread, rtol=0, atol=1e-6)
    assert found.paths == paths
    assert found.errors == [""] * len(paths)


@settings(deadline=None, max_examples=15, derandomize=True)
@given(rows=st.lists(st.integers(0, 29), min_size=1, max_size=12), batch=st.integers(1, 13))
def test_a_cell_does_not_depend_on_the_others_their_order_or_the_batch(rows: list[int], batch: int) -> None:
    every = runs.run().manifest.frame["path"].tolist()
    whole = predict(runs.model(), every, seeds=2)
    chosen = predict(runs.model(), [every[row] for row in rows], seeds=2, batch=batch)
    np.testing.assert_allclose(chosen.probabilities, whole.probabilities[rows], rtol=0, atol=1e-6)
    np.testing.assert_allclose(chosen.spread, whole.spread[rows], rtol=0, atol=1e-6)


def test_a_cell_does_not_depend_on_its_name_or_format(tmp_path: Path) -> None:
    paths = runs.paths("test")
    others = [
        runs.copy_as(path, tmp_path / f"Zelle ü {number}{suffix}")
        for number, (path, suffix) in enumerate(zip(paths, (".bmp", ".tiff", ".webp") * 2, strict=True))
        if suffix != ".webp"
    ]
    kept = [row for row in range(len(paths)) if row % 3 != 2]
    expected, found = predict(runs.model(), paths), predict(runs.model(), others)
    np.testing.assert_allclose(found.probabilities, expected.probabilities[kept], rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.spread, expected.spread[kept], rtol=0, atol=1e-6)


def test_a_member_of_an_archive_is_the_same_cell(tmp_path: Path) -> None:
    paths = runs.paths("test")
    np.savez(tmp_path / "set.npz", test_images=np.stack([decode(path) for path in paths]))
    members = [f"{tmp_path / 'set.npz'}::test_images/{row}" for row in range(len(paths))]
    expected, found = predict(runs.model(), paths), predict(runs.model(), members)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, rtol=0, atol=1e-6)


def test_broken_files_are_rows_and_leave_the_others_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n")
    good = runs.paths("test")[:2]
    files = [str(tmp_path / "broken.png"), good[0], str(tmp_path / "missing.png"), good[1]]
    found = predict(runs.model(), files, batch=3)
    assert found.paths == files
    assert found.ok.tolist() == [False, True, False, True]
    assert "does not exist" in found.errors[2]
    assert np.isnan(found.probabilities[[0, 2]]).all()
    assert np.isnan(found.spread[[0, 2]]).all()
    alone = predict(runs.model(), good)
    np.testing.assert_allclose(found.probabilities[[1, 3]], alone.probabilities, rtol=0, atol=1e-6)


def test_a_part_of_broken_files_only(tmp_path: Path) -> None:
    parts = list(predict_in_parts(runs.model(), [str(tmp_path / "a.png"), *runs.paths("val")[:1]], batch=1))
    assert [part.ok.tolist() for part in parts] == [[False], [True]]


def test_without_chance_there_is_no_spread() -> None:
    model, paths = firing_always(runs.model()), runs.paths("test")
    found = predict(model, paths)
    assert np.isnan(found.spread).all()  # one run says all, and one has none
    # Between views there is one.
    assert (predict(model.with_views(4), paths).spread > 0).all()


@pytest.mark.parametrize("option", [{"seeds": 0}, {"seeds": -1}, {"batch": 0}])
def test_wrong_options_are_refused_before_any_work(option: dict[str, int]) -> None:
    with pytest.raises(SettingError, match=r"(seeds|batch)=.* must be at least 1"):
        predict_in_parts(runs.model(), ["never read"], **option)


def test_no_files_give_no_rows() -> None:
    found = predict(runs.model(), [])
    assert len(found) == 0
    assert found.probabilities.shape == (0, 3)
    assert list(found.to_frame()["label"]) == []


def test_parts_come_in_order_and_join_to_the_whole() -> None:
    paths = runs.paths("train")[:7]
    parts = list(predict_in_parts(runs.model(), paths, seeds=1, batch=3))
    assert [len(part) for part in parts] == [3, 3, 1]
    joined = join(parts, runs.model().classes)
    assert isinstance(joined, Predictions)
    assert joined.paths == paths
    np.testing.assert_array_equal(
        joined.probabilities, np.concatenate([part.probabilities for part in parts])
    )


def test_the_progress_bar_counts_cells(capsys: pytest.CaptureFixture[str]) -> None:
    predict(runs.model(), runs.paths("val")[:2], seeds=1, progress=True)
    assert "2/2" in capsys.readouterr().err


def test_target_statistics_are_those_of_the_very_cells(tmp_path: Path) -> None:
    """The leak of the released code, on request only: mean and spread are those of the cells to name."""
    model, paths = runs.model(), runs.paths("test")[:4]
    (tmp_path / "broken.png").write_bytes(b"no picture")
    shifted = with_target_statistics(model, [*paths, str(tmp_path / "broken.png")])
    pixels = np.stack([frame(decode(path), model.framing) for path in paths]) / 255
    assert shifted.statistics is not None
    np.testing.assert_allclose(shifted.statistics.mean, pixels.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(shifted.statistics.std, pixels.std((0, 1, 2)), rtol=1e-12)
    assert shifted.normalisation == "training"
    assert model.statistics == runs.run().model().statistics
    expected, _ = one_by_one(shifted, paths, 2)
    np.testing.assert_allclose(predict(shifted, paths, seeds=2).probabilities, expected, atol=1e-6)


def test_target_statistics_need_a_readable_cell(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        with_target_statistics(runs.model(), [str(tmp_path / "missing.png")])


def test_settled_predictions_say_how_many_steps_they_took() -> None:
    model, paths = runs.model(), [*runs.paths("test"), "no-such-file.png"]
    steps = model.network.architecture.steps
    assert predict(model, paths).steps is None
    all_of_them, none = (
        predict(model.with_settling(Settling(tolerance, every=1, least=1)), paths, seeds=2, batch=3)
        for tolerance in (0.0, 1.0)
    )
    assert all_of_them.steps is not None
    assert none.steps is not None
    np.testing.assert_array_equal(none.steps[:-1], 1)
    assert np.isnan(none.steps[-1])
    assert (all_of_them.steps[:-1] <= steps).all()
    assert list(none.to_frame()["steps"][:-1]) == [1.0] * (len(paths) - 1)
    # Where no picture stops early, nothing is different.
    kept = all_of_them.steps == steps
    expected = predict(model, paths, seeds=2)
    np.testing.assert_allclose(
        all_of_them.probabilities[kept], expected.probabilities[kept], rtol=0, atol=1e-6
    )


def test_a_calibrated_model_states_calibrated_probabilities_and_those_before() -> None:
    model, paths = runs.wary(), runs.paths("test")
    found = predict(model, paths, seeds=2)
    np.testing.assert_allclose(found.probabilities, one_by_one(model, paths, 2)[0], rtol=0, atol=1e-6)
    assert found.uncalibrated is not None
    plain = one_by_one(replace(model, trust=None), paths, 2)[0]
    np.testing.assert_allclose(found.uncalibrated, plain, rtol=0, atol=1e-6)
    assert np.abs(plain - found.probabilities).max() > 0.01


def test_a_coverage_gives_sets_and_without_it_there_are_none() -> None:
    model, paths = runs.wary(), runs.paths("test")
    found = predict(model, paths, coverage=0.8)
    # The 80th of 99 scores 0.01, 0.02 … is 0.8: a class belongs to the set where its probability is 0.2.
    assert found.sets is not None
    np.testing.assert_array_equal(found.sets, found.probabilities >= 0.2)
    assert predict(model, paths).sets is None


def test_pictures_are_foreign_below_the_share_that_was_named() -> None:
    model, paths = runs.wary(), runs.paths("test")
    found = predict(model, paths)
    assert found.familiarity is not None
    assert ((found.familiarity > 0) & (found.familiarity < 1)).all()
    middle = float(np.median(found.familiarity))
    for share in (0.0, middle, 0.99):
        flagged = predict(model, paths, foreign=share)
        assert flagged.foreign is not None
        np.testing.assert_array_equal(flagged.foreign, found.familiarity < share)
        assert [not label for label in flagged.labels] == flagged.foreign.tolist()


def test_an_unread_file_is_neither_familiar_nor_foreign(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.png")
    found = predict(runs.wary(), [missing, runs.paths("test")[0]], coverage=0.9, batch=1)
    assert found.familiarity is not None
    assert np.isnan(found.familiarity).tolist() == [True, False]
    assert found.foreign is not None
    assert found.sets is not None
    assert (found.foreign[0], found.sets[0].any()) == (False, False)
    assert found.reasons is not None
    assert found.reasons[0] == "unreadable"


def test_without_trust_everything_is_as_it_was() -> None:
    plain = replace(runs.model(), trust=None)
    found = predict(plain, runs.paths("test"))
    assert (found.sets, found.familiarity, found.foreign, found.uncalibrated) == (None, None, None, None)
    assert list(found.to_frame().columns) == [
        "path",
        "label",
        *(f"p_{name}" for name in plain.classes),
        *(
            "spread",
            "error",
        ),
    ]
    with pytest.raises(ModelError, match=r"coverage=0.9: this model is not calibrated; 'leukonca calibrate'"):
        predict_in_parts(plain, ["never read"], coverage=0.9)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"coverage": 1.0}, "coverage=1.0 must lie between 0 and 1"),
        ({"foreign": 1.0}, "foreign=1.0 must be at least 0 and below 1"),
        ({"foreign": -0.1}, "foreign=-0.1"),
    ],
)
def test_wrong_shares_are_refused_before_any_work(option: dict[str, float], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        predict_in_parts(runs.wary(), ["never read"], **option)


def test_a_coverage_that_so_few_cells_cannot_promise_is_said(caplog: pytest.LogCaptureFixture) -> None:
    found = predict(runs.wary(), runs.paths("test"), coverage=0.999)
    assert found.sets is not None
    assert found.sets.all()
    assert "a coverage of 0.999 needs more than the 99 cells" in caplog.text


def test_joined_parts_keep_what_all_of_them_know() -> None:
    sure = predict(runs.wary(), runs.paths("test")[:2], coverage=0.9)
    plain = predict(replace(runs.model(), trust=None), runs.paths("test")[2:3])
    joined = join([sure, sure], sure.classes)
    assert joined.sets is not None
    assert (len(joined), joined.sets.shape) == (4, (4, 3))
    mixed = join([sure, plain], sure.classes)
    assert (len(mixed), mixed.sets, mixed.foreign) == (3, None, None)


def test_other_views_than_the_calibration_s_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    paths = runs.paths("test")[:1]
    predict(runs.wary(), paths)
    assert caplog.text == ""
    predict(runs.wary().with_views(2), paths, seeds=1)
    assert "views=2, but the model is calibrated with 1" in caplog.text
    assert "'leukonca calibrate --views 2'" in caplog.text
    caplog.clear()
    predict(replace(runs.model(), trust=None).with_views(2), paths, seeds=1)
    assert caplog.text == ""
