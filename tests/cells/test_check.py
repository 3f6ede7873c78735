from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from leukonca.cells import check as check_module
from leukonca.cells.check import check
from leukonca.cells.decode import content_hash, decode
from leukonca.cells.manifest import Manifest
from leukonca.cells.report import CheckReport
from leukonca.cells.scan import scan


def picture(file: Path, seed: int) -> str:
    """Write a picture of random pixels; the same seed gives the same pixels in every lossless format."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)
    return str(file)


def table(tmp_path: Path, rows: list[tuple[str, int, str, str, str]]) -> Manifest:
    """A manifest of made pictures from name, seed, label, group and split."""
    made = [(picture(tmp_path / name, seed), *rest) for name, seed, *rest in rows]
    return Manifest(pd.DataFrame(made, columns=["path", "label", "group", "split"]))


def run(tmp_path: Path, *rows: tuple[str, int, str, str, str]) -> CheckReport:
    return check(table(tmp_path, list(rows)))


def test_a_sound_manifest(tmp_path: Path) -> None:
    report = run(
        tmp_path,
        ("1.png", 1, "monocyte", "p1", "train"),
        ("2.png", 2, "neutrophil", "p1", "train"),
        ("3.png", 3, "neutrophil", "p2", "test"),
        ("4.png", 4, "neutrophil", "", ""),
    )
    assert report.ok
    assert report.pictures == 4
    assert list(report.classes.items()) == [("neutrophil", 3), ("monocyte", 1)]
    assert dict(report.groups) == {"p1": 2, "p2": 1}
    assert dict(report.groups_by_class) == {"neutrophil": 2, "monocyte": 1}
    assert {split: sum(counts.values()) for split, counts in report.splits.items()} == {
        "": 1,
        "test": 1,
        "train": 2,
    }
    for path, digest in zip(report.manifest.frame["path"], report.manifest.frame["hash"], strict=True):
        assert digest == content_hash(decode(path))
    text = report.to_text()
    assert "4 pictures, 2 classes" in text
    assert "2 groups of 1 to 2 pictures (median 1.5); 1 picture in no group" in text
    assert "warning" not in text
    assert text.endswith("nothing found that would corrupt a result")


def test_unreadable_pictures_have_their_reason(tmp_path: Path) -> None:
    manifest = table(tmp_path, [("1.png", 1, "monocyte", "", ""), ("2.png", 2, "monocyte", "", "")])
    Path(manifest.frame["path"][0]).write_bytes(b"")
    report = check(manifest)
    assert not report.ok
    assert [each.path for each in report.unreadable] == [manifest.frame["path"][0]]
    assert report.unreadable[0].reason in report.to_text()
    assert report.manifest.frame["hash"][0] == ""
    assert "PROBLEM: 1 picture cannot be read" in report.to_text()


def test_copies_within_a_label_are_a_warning_in_any_format(tmp_path: Path) -> None:
    report = run(tmp_path, ("1.png", 1, "monocyte", "", ""), ("2.bmp", 1, "monocyte", "", "train"))
    assert report.ok
    assert [Path(path).name for path in report.copies[0].paths] == ["1.png", "2.bmp"]
    assert "warning: 1 exact duplicate within a label" in report.to_text()


def test_the_same_picture_under_two_labels_is_a_problem(tmp_path: Path) -> None:
    report = run(tmp_path, ("1.png", 1, "monocyte", "", ""), ("2.png", 1, "basophil", "", ""))
    assert not report.ok
    assert report.contradictions[0].labels == ("monocyte", "basophil")
    assert "PROBLEM: 1 picture under two labels" in report.to_text()


def test_a_copy_without_a_label_contradicts_nothing(tmp_path: Path) -> None:
    report = run(tmp_path, ("1.png", 1, "monocyte", "", ""), ("2.png", 1, "", "", ""))
    assert report.ok
    assert "1 picture without a label" in report.to_text()


def test_copies_across_splits_are_a_leak(tmp_path: Path) -> None:
    report = run(tmp_path, ("1.png", 1, "monocyte", "", "train"), ("2.png", 1, "monocyte", "", "test"))
    assert not report.ok
    assert report.leaks[0].splits == ("test", "train")
    assert "PROBLEM: 1 picture in more than one split" in report.to_text()


def test_groups_across_splits_are_a_leak(tmp_path: Path) -> None:
    report = run(
        tmp_path,
        ("1.png", 1, "monocyte", "p1", "train"),
        ("2.png", 2, "monocyte", "p1", "test"),
        ("3.png", 3, "monocyte", "p1", ""),
        ("4.png", 4, "monocyte", "", "val"),
    )
    assert not report.ok
    assert [(each.group, each.splits, each.pictures) for each in report.straddling] == [
        ("p1", ("test", "train"), 2)
    ]
    assert "PROBLEM: 1 group in more than one split" in report.to_text()


@pytest.mark.parametrize(
    ("label", "meant"),
    [
        ("neutrophill", "neutrophil"),
        ("Nuetrophil", "neutrophil"),
        ("eosinofil", "eosinophil"),
        ("lymphocite", "lymphocyte"),
        ("monocytes.", "monocyte"),
        ("neutrophil-bandet", "neutrophil_banded"),
        ("blasts", "myeloblast"),
    ],
)
def test_a_probable_misspelling_is_a_problem(tmp_path: Path, label: str, meant: str) -> None:
    report = run(tmp_path, ("1.png", 1, label, "", ""))
    assert not report.ok
    assert report.misspelt[0].nearest == meant
    assert f"nearest known: {meant}" in report.to_text()


@pytest.mark.parametrize(
    "label",
    [
        "prolymphocyte",
        "promonocyte",
        "proerythroblast",
        "lymphoblast",
        "monoblast",
        "plasma_cell",
        "hairy_cell",
        "megakaryocyte",
        "art",
        "bla",
        "other",
        "erythrocyte",
        "macrophage",
    ],
)
def test_a_type_of_ones_own_is_a_warning(tmp_path: Path, label: str) -> None:
    report = run(tmp_path, ("1.png", 1, label, "", ""))
    assert report.ok
    assert [(each.label, each.pictures) for each in report.unknown] == [(label, 1)]
    assert "warning: 1 label of your own" in report.to_text()


def test_what_was_left_out_or_not_understood_is_reported(tmp_path: Path) -> None:
    picture(tmp_path / "erythroblast" / "ERB_1.png", 1)
    picture(tmp_path / "platelet" / "PLATELET_1.png", 2)
    picture(tmp_path / "strange" / "QQ.png", 3)
    (tmp_path / "notes.txt").touch()
    report = check(scan([f"acevedo20@thirteen:{tmp_path}"]))
    text = report.to_text()
    assert report.ok
    assert "left out 1: platelet: not among the thirteen classes" in text
    assert "1 other file ignored" in text
    assert "fit no rule of acevedo20 and are not used\n  strange/QQ.png" in text


def test_the_dictionary_is_json_and_whole(tmp_path: Path) -> None:
    report = run(tmp_path, ("1.png", 1, "monocyte", "a", "train"), ("2.png", 1, "basofil", "a", "test"))
    found = json.loads(json.dumps(report.to_dict()))
    assert found["ok"] is False
    assert found["classes"] == {"basofil": 1, "monocyte": 1}
    for kind in ("contradictions", "duplicates_across_splits", "groups_across_splits", "unknown_labels"):
        assert len(found[kind]) == 1, kind
    assert report.to_text().endswith("not fit for use: 4 problems")


def test_the_report_does_not_depend_on_the_order_of_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every first picture of four waits for its successor; few are ever in flight."""
    manifest = table(tmp_path, [(f"{n}.png", n // 2, "monocyte", "", "") for n in range(40)])
    expected = check(manifest)
    later = {path: threading.Event() for path in manifest.frame["path"]}
    order = list(manifest.frame["path"])
    flying, most, lock = 0, 0, threading.Lock()

    def slow(path: str) -> np.ndarray:
        nonlocal flying, most
        with lock:
            flying += 1
            most = max(most, flying)
        position = order.index(path)
        if position % 4 == 0:
            later[order[position + 1]].wait(0.05)
        later[path].set()
        with lock:
            flying -= 1
        return decode(path)

    monkeypatch.setattr(check_module, "decode", slow)
    found = check(manifest)
    assert found.manifest.frame.equals(expected.manifest.frame)
    assert found.copies == expected.copies
    assert len(found.copies) == 20
    assert most <= 4


def test_progress_goes_to_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = table(tmp_path, [("1.png", 1, "monocyte", "", "")])
    check(manifest, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "cell" in err


def test_real_sets_are_sound(shared_data: Path) -> None:
    report = check(scan([str(shared_data / name) for name in ("bccd", "bcisc", "zheng")]))
    assert report.ok
    assert report.pictures == 351 + 268 + 300
    assert len(report.groups) == 351 + 51


def test_pictures_of_an_archive_are_read_too(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    arrays = {}
    for part, number in (("train", 3), ("val", 2), ("test", 2)):
        arrays[f"{part}_images"] = generator.integers(0, 256, (number, 28, 28, 3), dtype=np.uint8)
        arrays[f"{part}_labels"] = np.arange(number, dtype=np.uint8)[:, None]
    arrays["test_images"][1] = arrays["train_images"][1]
    np.savez_compressed(tmp_path / "bloodmnist.npz", **arrays)
    report = check(scan([str(tmp_path / "bloodmnist.npz")]))
    assert not report.unreadable
    assert [each.splits for each in report.leaks] == [("test", "train")]
    assert report.contradictions == ()
