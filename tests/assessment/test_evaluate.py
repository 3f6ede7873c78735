from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import runs
from learning.micro import picture, save
from leukonca.assessment.evaluate import Chosen, choose, evaluate
from leukonca.assessment.expected import expecting, learnt_shares
from leukonca.cells.manifest import Manifest
from leukonca.cells.scan import scan
from leukonca.errors import DataError, SettingError
from leukonca.learning import recognition
from leukonca.learning.bundle import load_bundle, save_bundle


@pytest.fixture(scope="module", autouse=True)
def _undrawn() -> Iterator[None]:
    with runs.undrawn():
        yield


@pytest.fixture(scope="module")
def renamed(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """All cells of the run as BMP, under other names, without split."""
    folder = tmp_path_factory.mktemp("renamed")
    frame = runs.run().manifest.frame
    for number, (path, label) in enumerate(zip(frame["path"], frame["label"], strict=True)):
        runs.copy_as(path, folder / label / f"image-{number:03}.bmp")
    return scan([f"folder:{folder}"])


def numbers(chosen: Chosen) -> list[int]:
    """Which rows of the run's manifest the renamed pictures are."""
    return sorted(int(Path(path).stem.removeprefix("image-")) for path in chosen.manifest.frame["path"])


def rows(*splits: str) -> list[int]:
    return np.flatnonzero(runs.run().manifest.frame["split"].isin(splits)).tolist()


def without_memory() -> Any:
    none = np.empty(0, dtype=np.int64)
    return replace(runs.model(), seen_training=none, seen_validation=none)


@pytest.mark.parametrize(
    ("part", "splits"),
    [("auto", ["test"]), ("test", ["test"]), ("all", ["test"]), ("train", ["train"]), ("val", ["val"])],
)
def test_seen_pictures_are_recognised_under_any_name_and_format(
    renamed: Manifest, part: Any, splits: list[str]
) -> None:
    chosen = choose(runs.model(), renamed, part)
    assert numbers(chosen) == rows(*splits)
    if part == "all":
        assert chosen.notes == ("Cells seen in training, left out: 24.",)
    if part in ("train", "val"):
        assert any("say nothing about new cells" in note for note in chosen.notes)


def test_seen_pictures_count_when_asked_for(renamed: Manifest) -> None:
    chosen = choose(runs.model(), renamed, "all", allow_seen=True)
    assert len(chosen.manifest) == 30
    assert chosen.notes == (
        "Cells seen in training, counted all the same as asked: 24. Figures on them say nothing about new "
        "cells.",
    )


def test_the_split_of_the_data_counts_but_no_training_cell_is_ever_tested(renamed: Manifest) -> None:
    """The data call everything test, also what the model was trained on."""
    own = renamed.with_column("split", ["test"] * len(renamed))
    chosen = choose(runs.model(), own)
    assert numbers(chosen) == rows("test")
    assert "Cells seen in training, left out: 24." in chosen.notes
    train_only = renamed.with_column("split", ["train"] * len(renamed))
    with pytest.raises(DataError, match=r"of 30 labelled cells none is left for split='auto' \(24 were seen"):
        choose(runs.model(), train_only)


def test_a_model_without_memory_is_assessed_on_all(renamed: Manifest) -> None:
    assert len(choose(without_memory(), renamed).manifest) == 30
    with pytest.raises(DataError, match="none is left for split='train'"):
        choose(without_memory(), renamed, "train")


def test_patients_that_the_model_has_seen_are_left_out(renamed: Manifest) -> None:
    number = [int(Path(path).stem.removeprefix("image-")) for path in renamed.frame["path"]]
    test, seen = rows("test"), rows("train")[0]
    # One test cell is of the patient of a training cell, one of another set's patient of that name.
    group = ["seven" if row in (seen, test[0]) else "" for row in number]
    grouped = renamed.with_column("group", group)
    chosen = choose(runs.model(), grouped)
    assert numbers(chosen) == test[1:]
    assert "Cells of patients or slides seen in training, left out: 1." in chosen.notes
    elsewhere = grouped.with_column("source", ["other" if row == test[0] else "" for row in number])
    assert numbers(choose(runs.model(), elsewhere)) == test
    assert len(choose(runs.model(), grouped, "all", allow_seen=True).manifest) == 30


def test_cells_without_label_are_left_out(renamed: Manifest) -> None:
    labels = renamed.frame["label"].where(np.arange(len(renamed)) % 10 != 0, "")
    chosen = choose(without_memory(), renamed.with_column("label", labels))
    assert len(chosen.manifest) == 27
    assert chosen.notes == ("Cells without label, left out: 3.",)
    with pytest.raises(DataError, match="none of the 30 cells has a label"):
        choose(runs.model(), renamed.with_column("label", [""] * 30))


def test_an_unknown_part_is_refused(renamed: Manifest) -> None:
    with pytest.raises(SettingError, match="split='tset' is unknown; known: auto, train"):
        choose(runs.model(), renamed, "tset")  # type: ignore[arg-type]


def test_only_pictures_without_a_known_hash_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    read = recognition.read_framed

    def spy(paths: list[str], framing: Any) -> Any:
        asked.extend(paths)
        return read(paths, framing)

    monkeypatch.setattr(recognition, "read_framed", spy)
    manifest = runs.run().manifest
    assert len(choose(runs.model(), manifest).manifest) == 6
    assert asked == []
    manifest.frame.loc[3, "hash"] = ""
    choose(runs.model(), manifest)
    assert asked == [manifest.frame["path"][3]]


def test_a_bundle_repeats_the_runs_own_test_exactly(tmp_path: Path) -> None:
    run = runs.run()
    first, _ = evaluate(run.model(), run.manifest, tmp_path / "run", resamples=50)
    save_bundle(run.model(), tmp_path / "model.safetensors")
    bundle = load_bundle(tmp_path / "model.safetensors")
    again, _ = evaluate(bundle, scan([f"folder:{runs.cells()}"]), tmp_path / "bundle", resamples=50)
    assert first.n == 6
    assert again.to_dict() == first.to_dict()
    written = json.loads((tmp_path / "run" / "metrics.json").read_text("utf-8"))
    assert {name: written[name] for name in first.to_dict()} == first.to_dict()
    assert written["trust"]["fitted"]["cells"] == 6
    tables = [pd.read_csv(tmp_path / name / "predictions.csv") for name in ("run", "bundle")]
    pd.testing.assert_frame_equal(*tables, check_exact=True)


def test_target_statistics_are_a_leak_by_name_only(tmp_path: Path) -> None:
    run = runs.run()
    # Only cells of one colour: their own mean differs much from that of the training cells.
    one_class = run.manifest.subset((run.manifest.frame["label"] == "monocyte").to_numpy())
    before, own = evaluate(run.model(), one_class, tmp_path / "a", resamples=0)
    leaked, shifted = evaluate(run.model(), one_class, tmp_path / "b", statistics="target", resamples=0)
    after, _ = evaluate(run.model(), one_class, tmp_path / "c", resamples=0)
    assert after.to_dict() == before.to_dict()
    assert np.abs(own.probabilities - shifted.probabilities).max() > 0.01
    assert leaked.to_dict() != before.to_dict()
    pages = [(tmp_path / name / "report.html").read_text("utf-8") for name in "abc"]
    assert ["a leak of the target set" in page for page in pages] == [False, True, False]


def test_finer_and_coarser_labels_are_compared(tmp_path: Path) -> None:
    run = runs.run()
    test = run.manifest.subset((run.manifest.frame["split"] == "test").to_numpy())
    plain, _ = evaluate(run.model(), test, tmp_path / "plain", resamples=0)
    fine = test.with_column("label", test.frame["label"].replace("lymphocyte", "lymphocyte_atypical"))
    finer, predictions = evaluate(run.model(), fine, tmp_path / "fine", resamples=0)
    assert finer.to_dict() == plain.to_dict()
    assert predictions.truth == test.frame["label"].tolist()
    assert "compared coarsely" in (tmp_path / "fine" / "report.html").read_text("utf-8")
    # A model that knows two kinds of lymphocytes and no eosinophil meets data that know lymphocytes only.
    detailed = replace(run.model(), classes=("lymphocyte_typical", "monocyte", "lymphocyte_atypical"))
    coarse, predictions = evaluate(detailed, test, tmp_path / "coarse", resamples=0)
    assert coarse.classes == ("lymphocyte", "monocyte")
    assert coarse.n == 4
    assert coarse.unlabelled == 2
    page = (tmp_path / "coarse" / "report.html").read_text("utf-8")
    assert "2 cells were left out because the model has no class for them: eosinophil (2)" in page


def test_unreadable_files_are_counted_and_named(tmp_path: Path) -> None:
    save(tmp_path / "cells" / "monocyte" / "1.png", picture(77, 2))
    (tmp_path / "cells" / "monocyte" / "2.png").write_bytes(b"broken")
    metrics, predictions = evaluate(
        runs.model(), scan([f"folder:{tmp_path / 'cells'}"]), tmp_path / "out", resamples=0
    )
    assert (metrics.n, metrics.unreadable) == (1, 1)
    assert predictions.ok.tolist() == [True, False]
    assert "2.png" in (tmp_path / "out" / "report.html").read_text("utf-8")


def test_the_report_says_which_model_saw_what(tmp_path: Path) -> None:
    run = runs.run()
    evaluate(run.model(), run.manifest, tmp_path, name="my model", history=run.history, resamples=0, seeds=2)
    page = (tmp_path / "report.html").read_text("utf-8")
    for words in ("my model", "folder:cells: 18 cells", "folder:cells: 6 cells", "2, averaged"):
        assert words in page


def no_work(*_: object, **__: object) -> None:
    raise AssertionError("pictures were read")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": 0}, "seeds=0 must be at least 1"),
        ({"resamples": -1}, "resamples=-1 must be at least 0"),
        ({"statistics": "source"}, "statistics='source' is unknown; known: model, target"),
    ],
)
def test_wrong_options_are_refused_before_any_work(
    options: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renamed: Manifest
) -> None:
    monkeypatch.setattr(recognition, "read_framed", no_work)
    with pytest.raises(SettingError, match=message):
        evaluate(runs.model(), renamed, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def a_file(place: Path) -> Path:
    place.write_text("a file", encoding="utf-8")
    return place


@pytest.mark.parametrize("taken", [a_file, lambda place: a_file(place) / "below"])
def test_where_nothing_can_be_written_is_known_before_any_work(
    taken: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renamed: Manifest
) -> None:
    monkeypatch.setattr(recognition, "read_framed", no_work)
    with pytest.raises(DataError, match=r"cannot be written: .*; choose another place"):
        evaluate(runs.model(), renamed, taken(tmp_path / "taken"))


def test_every_cell_is_named_and_counted_however_foreign(tmp_path: Path) -> None:
    known = runs.wary()
    assert known.trust is not None
    assert known.trust.familiarity is not None
    strange = replace(known.trust.familiarity, distances=np.full(99, 1e-9, np.float32))
    model = replace(known, trust=replace(known.trust, familiarity=strange))
    with runs.undrawn():
        metrics, predictions = evaluate(model, runs.run().manifest, tmp_path, resamples=0)
    assert metrics.n == 6
    assert all(predictions.labels)
    assert predictions.reasons is None
    written = json.loads((tmp_path / "metrics.json").read_text("utf-8"))["trust"]
    assert written["foreign"] == 1.0
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "100% of these cells are stranger to the model than 99 % of those that it" in page


def test_a_report_of_a_model_without_trust_has_none(tmp_path: Path) -> None:
    with runs.undrawn():
        evaluate(replace(runs.model(), trust=None), runs.run().manifest, tmp_path, resamples=0)
    assert json.loads((tmp_path / "metrics.json").read_text("utf-8"))["trust"] is None


def test_a_report_names_the_views(tmp_path: Path) -> None:
    for views, folder in ((1, tmp_path / "one"), (4, tmp_path / "four")):
        with runs.undrawn():
            evaluate(runs.model().with_views(views), runs.run().manifest, folder, seeds=1, resamples=0)
        facts = json.loads((folder / "metrics.json").read_text("utf-8"))["facts"]
        assert facts.get("Views") == {1: None, 4: "4 orientations of each picture, averaged"}[views]


def test_types_are_expected_in_other_shares(tmp_path: Path) -> None:
    model, manifest = runs.model(), runs.run().manifest
    first, second = model.classes[:2]
    shares = {first: 3.0, second: 1.0}
    with runs.undrawn():
        _, plain = evaluate(model, manifest, tmp_path / "plain", resamples=0)
        metrics, found = evaluate(model, manifest, tmp_path / "told", resamples=0, expect=shares)
    expected = expecting(plain, shares, learnt_shares(model))
    np.testing.assert_array_equal(found.probabilities, expected.probabilities)
    assert (found.probabilities != plain.probabilities).any()
    written = json.loads((tmp_path / "told" / "metrics.json").read_text("utf-8"))
    assert written["facts"]["Expects"] == f"75.0% {first}, 25.0% {second}"
    assert written["trust"] is None
    assert metrics.n == 6
    # Before the work, and nothing is written.
    with pytest.raises(SettingError, match="does not know yeti"):
        evaluate(model, manifest, tmp_path / "wrong", expect={first: 1.0, "yeti": 1.0})
    assert not (tmp_path / "wrong").exists()
