from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from leukonca.cells.spec import parse_spec, recognise
from leukonca.errors import DataError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


# What makes the folder of each set known.
MARKS = {
    "acevedo20": ("basophil/BA_1.jpg", "erythroblast/ERB_1.jpg", "ig/x", "neutrophil/x", "platelet/x"),
    "matek19": ("BAS/BAS_0001.tiff", "NGS/NGS_0001.tiff", "MYO/MYO_0001.tiff"),
    "mll23": ("hairy_cell/x", "normoblast/x", "promyelocyte_atypical/x", "lymphocyte_neoplastic/x"),
    "raabin": ("Train/Neutrophil/x.jpg", "TestA/Neutrophil/x.jpg"),
    "lisc": ("Main Dataset/Baso/1.bmp", "Main Dataset/eosi/1.bmp", "Main Dataset/mixt/1.bmp"),
    "bccd": ("Neutrophil/BloodImage_1_1.jpg", "Eosinophil/x", "Lymphocyte/x", "Monocyte/x", "Basophil/x"),
    "bcisc": ("sub-images/images/baso_1-1_0.jpg", "sub-images/masks/baso_1-1_0.png"),
    "zheng1": ("Dataset 1/001.bmp", "Class Labels of Dataset 1.csv"),
    "zheng2": ("Dataset 2/001.bmp", "Class Labels of Dataset 2.csv"),
}


@pytest.mark.parametrize("name", MARKS)
def test_a_published_folder_is_recognised(tmp_path: Path, name: str) -> None:
    touch(tmp_path, *MARKS[name])
    assert [source.name for source in recognise(tmp_path)] == [name]
    spec = parse_spec(str(tmp_path))
    assert spec.source is not None
    assert (spec.kind, spec.source.name, spec.path) == ("source", name, tmp_path)


def test_int20_folders_of_codes_are_recognised(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{code}-NAME/1.tif" for code in ["01", "04", "05", "13", "15", "21", "22"]))
    assert [source.name for source in recognise(tmp_path)] == ["mll23"]


def test_an_archive_unpacked_into_a_folder_of_its_own_is_recognised(tmp_path: Path) -> None:
    touch(tmp_path / "AML-Cytomorphology_LMU", *MARKS["matek19"])
    spec = parse_spec(str(tmp_path))
    assert spec.source is not None
    assert (spec.source.name, spec.path.name) == ("matek19", "AML-Cytomorphology_LMU")


def test_bloodmnist_is_recognised_by_its_name_and_arrays(tmp_path: Path) -> None:
    arrays = {
        f"{part}_{what}": np.zeros(1) for part in ("train", "val", "test") for what in ("images", "labels")
    }
    np.savez(tmp_path / "bloodmnist_64.npz", **arrays)
    np.savez(tmp_path / "dermamnist.npz", **arrays)  # the same arrays, but no blood
    spec = parse_spec(str(tmp_path / "bloodmnist_64.npz"))
    assert spec.source is not None
    assert spec.source.name == "bloodmnist"
    with pytest.raises(DataError, match="no known image set"):
        parse_spec(str(tmp_path / "dermamnist.npz"))


def test_two_sets_in_one_folder_are_ambiguous(tmp_path: Path) -> None:
    touch(tmp_path, *MARKS["zheng1"], *MARKS["zheng2"])
    with pytest.raises(DataError, match=re.escape(f"write zheng1:{tmp_path} or zheng2:{tmp_path}")):
        parse_spec(str(tmp_path))
    source = parse_spec(f"zheng2:{tmp_path}").source
    assert source is not None
    assert source.name == "zheng2"


def test_a_folder_per_class_with_plain_names_is_not_taken_for_a_published_set(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *(f"{name}/1.jpg" for name in ["Basophil", "Eosinophil", "Lymphocyte", "Monocyte", "Neutrophil"]),
    )
    assert parse_spec(str(tmp_path)).kind == "folder"


def test_named_specs(tmp_path: Path) -> None:
    touch(tmp_path, "t.csv", "t.parquet")
    spec = parse_spec(f"Acevedo-20@thirteen:{tmp_path}")
    assert spec.source is not None
    assert spec.use is not None
    assert (spec.source.name, spec.use.name) == ("acevedo20", "thirteen")
    assert parse_spec(f"folder:{tmp_path}").kind == "folder"
    assert parse_spec(f"table:{tmp_path / 't.csv'}").kind == "table"
    assert parse_spec(str(tmp_path / "t.parquet")).kind == "table"


def test_a_description_of_ones_own_may_be_named(tmp_path: Path) -> None:
    own = tmp_path / "my set.toml"
    own.write_text(
        'name="lab"\ntitle="t"\ncitation="c"\nlicence="l"\n[uses.a]\ntitle="t"\nclasses="five"\n'
        '[[uses.a.rules]]\npath="**"\nlabel="monocyte"\n',
        encoding="utf-8",
    )
    for text in (f"{own}:{tmp_path}", f"{own}@a:{tmp_path}"):
        spec = parse_spec(text)
        assert spec.source is not None
        assert (spec.source.name, spec.path) == ("lab", tmp_path)
    with pytest.raises(DataError, match="no such use"):
        parse_spec(f"{own}@b:{tmp_path}")
    with pytest.raises(DataError, match=re.escape(f"{own}:DIR")):
        parse_spec(str(own))


def test_a_drive_letter_is_no_image_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        parse_spec("C:\\cells")
    with pytest.raises(DataError, match="does not exist"):
        parse_spec("acevedo20:D:\\cells")


def test_a_path_with_a_colon_is_a_path_if_it_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        touch(tmp_path, "lab:2024/a/1.png")
    except OSError:
        pytest.skip("this system has no colons in names")
    assert parse_spec("lab:2024").kind == "folder"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("acevedo2:{}", "unknown image set 'acevedo2'; did you mean 'acevedo20'"),
        ("foldr:{}", "did you mean 'folder'"),
        ("acevedo20@ten:{}", "no such use"),
        ("folder@x:{}", "folder has no uses"),
        ("folder:", "the path is missing"),
        ("bccd", "write bccd:PATH"),
        ("", "the path is missing"),
        ("{}/none/deeper", "does not exist"),
        ("folder:{}/t.csv", "is a file; folder: wants a folder"),
        ("table:{}", "is not a .csv or .parquet file"),
        ("table:{}/x.png", "is not a .csv or .parquet file"),
        ("bccd:{}/t.csv", "and {}/t.csv is a file"),
        ("bloodmnist:{}", "is an .npz file"),
        ("{}/x.png", "a single picture has no label"),
    ],
)
def test_mistakes_are_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    touch(tmp_path, "t.csv", "x.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        parse_spec(text.replace("{}", tmp_path.as_posix()))
    assert message.replace("{}", str(tmp_path)) in str(caught.value).replace("\\", "/")
