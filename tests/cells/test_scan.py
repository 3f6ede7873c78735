from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leukonca.cells.manifest import Manifest
from leukonca.cells.scan import scan
from leukonca.errors import DataError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def rows(manifest: Manifest, root: Path) -> dict[str, str]:
    """Label by path relative to the root."""
    names = [os.path.relpath(path, root).replace(os.sep, "/") for path in manifest.frame["path"]]
    return dict(zip(names, manifest.frame["label"], strict=True))


# ---------------------------------------------------------------- published sets, as on the disk beside us


def counts(manifest: Manifest) -> dict[str, int]:
    return {str(label): int(count) for label, count in manifest.frame["label"].value_counts().items()}


def test_acevedo_has_its_eight_classes(shared_data: Path) -> None:
    manifest = scan([str(shared_data / "acevedo20")])
    assert counts(manifest) == {
        "basophil": 1218,
        "eosinophil": 3117,
        "erythroblast": 1551,
        "immature_granulocyte": 2895,
        "lymphocyte": 1214,
        "monocyte": 1420,
        "neutrophil": 3329,
        "platelet": 2348,
    }
    assert len(manifest) == 17092
    assert set(manifest.frame["source"]) == {"acevedo20"}
    assert manifest.frame["path"].is_monotonic_increasing


def test_acevedo_has_ten_of_the_thirteen_classes(shared_data: Path) -> None:
    manifest = scan([f"acevedo20@thirteen:{shared_data / 'acevedo20'}"])
    assert len(manifest) == 14543
    assert len(manifest.classes) == 10
    assert counts(manifest)["neutrophil_banded"] == 1633
    assert sorted(manifest.listings[0].left_out.values()) == [50, 151, 2348]
    names = manifest.frame["path"].map(os.path.basename)
    assert not names.str.startswith(("IG_", "NEUTROPHIL_", "PLATELET_")).any()


@pytest.mark.parametrize(
    ("folder", "expected", "groups", "left_out"),
    [
        (
            "bccd",
            {"neutrophil": 207, "eosinophil": 88, "lymphocyte": 33, "monocyte": 20, "basophil": 3},
            True,
            0,
        ),
        (
            "bcisc",
            {"basophil": 56, "eosinophil": 54, "lymphocyte": 53, "monocyte": 54, "neutrophil": 51},
            True,
            268,
        ),
        (
            "zheng",
            {"neutrophil": 176, "lymphocyte": 53, "monocyte": 48, "eosinophil": 22, "basophil": 1},
            False,
            300,
        ),
    ],
)
def test_other_real_sets(
    shared_data: Path, folder: str, expected: dict[str, int], groups: bool, left_out: int
) -> None:
    manifest = scan([str(shared_data / folder)])
    assert counts(manifest) == expected
    assert (manifest.frame["group"] != "").all() == groups
    # A mask is not a picture, though it lies beside one and ends in .png.
    assert sum(manifest.listings[0].left_out.values()) == left_out
    assert not manifest.frame["path"].str.endswith(".png").any()
    assert manifest.listings[0].unmatched == 0


# ---------------------------------------------------------------- published sets, made up


def test_a_picture_without_a_rule_takes_no_label_from_its_neighbour(tmp_path: Path) -> None:
    """In the paper's code platelets keep the label of the file before them."""
    touch(tmp_path, "erythroblast/ERB_1.jpg", "platelet/PLATELET_1.jpg", "strange/QQ_1.jpg", "zz.jpg")
    manifest = scan([f"acevedo20@thirteen:{tmp_path}"])
    assert rows(manifest, tmp_path) == {"erythroblast/ERB_1.jpg": "erythroblast"}
    listing = manifest.listings[0]
    assert dict(listing.left_out) == {"platelet: not among the thirteen classes": 1}
    assert (listing.unmatched, listing.examples) == (2, ("strange/QQ_1.jpg", "zz.jpg"))
    eight = scan([f"acevedo20:{tmp_path}"])
    assert rows(eight, tmp_path)["platelet/PLATELET_1.jpg"] == "platelet"


def test_lisc_masks_and_mixtures_are_left_out(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "Main Dataset/Baso/1.bmp",
        "Main Dataset/eosi/1.bmp",
        "Main Dataset/mixt/1.bmp",
        "Ground Truth Segmentation/Baso/areaforexpert1/1_expert.bmp",
    )
    manifest = scan([str(tmp_path)])
    assert list(rows(manifest, tmp_path).values()) == ["basophil", "eosinophil"]
    assert sum(manifest.listings[0].left_out.values()) == 2


def test_raabin_has_its_own_split(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{part}/Neutrophil/1.jpg" for part in ("Train", "TestA", "TestB")))
    assert scan([str(tmp_path)]).frame["split"].tolist() == ["test", "test", "train"]
    home = scan([f"raabin@home:{tmp_path}"])
    assert home.frame["split"].tolist() == ["test", "train"]
    assert list(home.listings[0].left_out.values()) == [1]


def test_zheng_labels_come_from_their_table(tmp_path: Path) -> None:
    touch(
        tmp_path, *(f"Dataset 2/00{n}.{kind}" for n in (1, 2, 3) for kind in ("bmp", "png")), "Dataset 2.png"
    )
    labels = tmp_path / "Class Labels of Dataset 2.csv"
    with pytest.raises(DataError, match=r"Class Labels of Dataset 2\.csv' is missing"):
        scan([f"zheng2:{tmp_path}"])
    labels.write_text("image ID,class\r\n1,2\r\n2,5\r\n", encoding="utf-8")
    manifest = scan([str(tmp_path)])
    assert rows(manifest, tmp_path) == {"Dataset 2/001.bmp": "lymphocyte", "Dataset 2/002.bmp": "basophil"}
    assert manifest.listings[0].examples == ("Dataset 2/003.bmp",)
    labels.write_text("image ID,class\n1,2\n001,3\n", encoding="utf-8")
    with pytest.raises(DataError, match="two labels, '2' and '3'"):
        scan([str(tmp_path)])
    labels.write_text("image ID,kind\n1,2\n", encoding="utf-8")
    with pytest.raises(DataError, match="no column 'class'"):
        scan([str(tmp_path)])


def bloodmnist(file: Path, *, broken: bool = False) -> Path:
    arrays = {}
    for number, part in enumerate(("train", "val", "test"), 1):
        arrays[f"{part}_images"] = np.zeros((number, 28, 28, 3), np.uint8)
        arrays[f"{part}_labels"] = np.arange(number + broken, dtype=np.uint8)[:, None]
    np.savez_compressed(file, **arrays)
    return file


def test_bloodmnist_keeps_its_split(tmp_path: Path) -> None:
    file = bloodmnist(tmp_path / "bloodmnist.npz")
    frame = scan([str(file)]).frame
    assert frame["path"].tolist()[:2] == [f"{file}::train_images/0", f"{file}::val_images/0"]
    assert frame["label"].tolist() == [
        "basophil",
        "basophil",
        "eosinophil",
        "basophil",
        "eosinophil",
        "erythroblast",
    ]
    assert frame["split"].tolist() == ["train", "val", "val", "test", "test", "test"]


def test_a_broken_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="do not belong together"):
        scan([str(bloodmnist(tmp_path / "bloodmnist.npz", broken=True))])
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(DataError, match="has not the arrays"):
        scan([f"bloodmnist:{tmp_path / 'other.npz'}"])
    (tmp_path / "no.npz").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"cannot be read as an \.npz"):
        scan([f"bloodmnist:{tmp_path / 'no.npz'}"])


# ---------------------------------------------------------------- folders


def test_a_folder_per_class(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "Neutrophils/a.jpg",
        "Neutrophils/deep/b.PNG",
        "own type/c.tif",
        "d.bmp",
        "notes.txt",
        ".x.jpg",
    )
    manifest = scan([f"folder:{tmp_path}"])
    assert rows(manifest, tmp_path) == {
        "Neutrophils/a.jpg": "neutrophil",
        "Neutrophils/deep/b.PNG": "neutrophil",
        "d.bmp": "",
        "own type/c.tif": "own type",
    }
    assert manifest.listings[0].ignored == 2
    assert set(manifest.frame["source"]) == {f"folder:{tmp_path.name}"}
    assert all(os.path.isabs(path) for path in manifest.frame["path"])


def test_folders_of_a_split_are_not_classes(tmp_path: Path) -> None:
    touch(tmp_path, "train/mono/a.jpg", "Validation/mono/b.jpg", "test/mono/c.jpg", "test/d.jpg")
    manifest = scan([f"folder:{tmp_path}"])
    assert manifest.frame["split"].tolist() == ["val", "test", "test", "train"]
    labels = rows(manifest, tmp_path)
    assert labels.pop("test/d.jpg") == ""
    assert set(labels.values()) == {"monocyte"}


def test_several_specs_follow_each_other(tmp_path: Path) -> None:
    touch(tmp_path, "z/mono/1.jpg", "a/baso/1.jpg")
    manifest = scan([f"folder:{tmp_path / 'z'}", f"folder:{tmp_path / 'a'}"])
    assert manifest.frame["label"].tolist() == ["monocyte", "basophil"]
    assert [listing.pictures for listing in manifest.listings] == [1, 1]


def test_nothing_is_a_mistake(tmp_path: Path) -> None:
    touch(tmp_path / "empty", "a.txt")
    touch(tmp_path / "wrong", "x.jpg")
    with pytest.raises(DataError, match="there are no pictures in"):
        scan([str(tmp_path / "empty")])
    with pytest.raises(
        DataError, match=r"none is used \(1 unmatched, such as x.jpg; 0 left out\); expected is CLASS/"
    ):
        scan([f"bccd:{tmp_path / 'wrong'}"])
    for specs in ([], "folder:x"):
        with pytest.raises(DataError, match="give a list"):
            scan(specs)


# ---------------------------------------------------------------- tables


def test_a_table_names_paths_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "cells.csv"
    file.write_text(
        "Path,label,group,split,stain\n"
        "a b/1.jpg,Band neutrophil,P1,Training,MGG\n"
        "sub\\2.jpg,own,P2,valid,MGG\n"
        f"{tmp_path.as_posix()}/3.jpg,,,,\n",
        encoding="utf-8",
    )
    manifest = scan([f"table:{file}"])
    frame = manifest.frame
    assert frame["path"].tolist()[0] == str(tmp_path / "a b" / "1.jpg")
    assert frame["path"].tolist()[1] == str(tmp_path / "sub" / "2.jpg")
    assert frame["path"].tolist()[2] == str(tmp_path / "3.jpg")
    assert frame["label"].tolist() == ["neutrophil_banded", "own", ""]
    assert frame["group"].tolist() == ["P1", "P2", ""]
    assert frame["split"].tolist() == ["train", "val", ""]
    assert manifest.listings[0].remarks == ("columns not used: stain",)


def test_a_parquet_table_and_a_written_manifest_are_tables(tmp_path: Path) -> None:
    pd.DataFrame({"path": ["x.jpg"], "label": ["mono"], "group": [7]}).to_parquet(tmp_path / "t.parquet")
    first = scan([str(tmp_path / "t.parquet")])
    first.with_column("split", ["test"]).write(tmp_path / "m.csv")
    again = scan([f"table:{tmp_path / 'm.csv'}"])
    assert again.frame.drop(columns="split").equals(first.frame.drop(columns="split"))
    assert again.frame["split"].tolist() == ["test"]
    assert again.frame["source"].tolist() == ["table:t.parquet"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\na,b\n", "has no column 'path', only: file, label"),
        ("paths,label\na,b\n", "rename 'paths'?"),
        ("path,lable\na,b\n", "rename 'lable'?"),
        ("path,label,split\na,b,\nc,d,dev\n", "row 3: split 'dev' is not one of train, val, test"),
        ("path,label\n,b\n", "row 2 has no path"),
        ("path,label\n", "there are no pictures"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "t.csv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        scan([str(file)])
    assert message in str(caught.value)
    assert str(file) in str(caught.value)


def test_progress_counts_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    touch(tmp_path, "mono/1.jpg", "mono/2.jpg")
    scan([str(tmp_path)])
    assert capsys.readouterr() == ("", "")
    scan([str(tmp_path)], progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "2file" in err
