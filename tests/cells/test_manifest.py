from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leukonca.cells.manifest import COLUMNS, Listing, Manifest, read_table
from leukonca.errors import DataError


def manifest(**columns: list[object]) -> Manifest:
    return Manifest(pd.DataFrame(columns))


def test_columns_are_always_the_same_and_text() -> None:
    table = manifest(path=["a", "b"], label=["monocyte", None], group=[7, np.nan], extra=[1, 2])
    assert list(table.frame) == list(COLUMNS)
    assert table.frame["label"].tolist() == ["monocyte", ""]
    assert table.frame["group"].tolist() == ["7", ""]
    assert table.frame["split"].tolist() == ["", ""]
    assert all(type(value) is str for value in table.frame.to_numpy().ravel())


def test_classes_are_in_the_order_of_their_set() -> None:
    assert manifest(path=list("abc"), label=["basophil", "neutrophil", ""]).classes == (
        "neutrophil",
        "basophil",
    )


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("name", ["a.jpg", 'ünïcode, "x"\r\n;.jpg', "NA", "  spaces "])
def test_what_is_written_is_read_again(tmp_path: Path, suffix: str, name: str) -> None:
    table = manifest(path=[name, "b"], label=["NA", "monocyte"], group=["007", ""], split=["train", ""])
    file = tmp_path / "new" / f"m{suffix}"
    table.write(file)
    table.write(file)  # an old file is replaced
    again = Manifest.read(file)
    pd.testing.assert_frame_equal(again.frame, table.frame)
    assert [each.name for each in file.parent.iterdir()] == [file.name]


def test_a_name_that_is_not_utf8_survives_in_csv(tmp_path: Path) -> None:
    table = Manifest(pd.DataFrame({"path": ["caf\udce9.jpg"], "label": ["monocyte"]}, dtype=object))
    table.write(tmp_path / "m.csv")
    assert Manifest.read(tmp_path / "m.csv").frame["path"][0] == "caf\udce9.jpg"
    with pytest.raises(DataError, match="cannot be written"):
        table.write(tmp_path / "m.parquet")
    assert not (tmp_path / "m.parquet").exists()


def test_a_failure_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "m.csv"
    manifest(path=["old"], label=[""]).write(file)
    before = file.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(pd.DataFrame, "to_csv", fail)
    with pytest.raises(DataError, match="the disk is full"):
        manifest(path=["new"], label=[""]).write(file)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_subset_by_mask_and_by_number() -> None:
    table = Manifest(pd.DataFrame({"path": list("abcd")}), (Listing("s", "s", "", 4),))
    assert table.subset([True, False, False, True]).frame["path"].tolist() == ["a", "d"]
    assert table.subset(np.array([2, 0])).frame["path"].tolist() == ["c", "a"]
    assert table.subset([]).frame.empty
    assert table.subset([1]).frame.index.tolist() == [0]
    assert table.subset([1]).listings == table.listings
    for wrong in ([True, False], [4], [-5], [0.5]):
        with pytest.raises(DataError):
            table.subset(wrong)


def test_with_column_leaves_the_original_alone() -> None:
    table = manifest(path=["a"])
    assert table.with_column("split", ["test"]).frame["split"][0] == "test"
    assert table.frame["split"][0] == ""


def test_tables_of_other_programs_are_understood(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("\ufeff Path ,LABEL\r\na,NA\r\n".encode())
    assert read_table(tmp_path / "a.csv").to_dict("list") == {"path": ["a"], "label": ["NA"]}
    pd.DataFrame({"path": ["a", "b"], "group": [7, None]}).to_parquet(tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet")["group"].tolist() == ["7", ""]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as a table"),
        (b"path,path \na,b\n", "two columns called 'path'"),
        (b"file,label\na,b\n", "it has no column path"),
        (b"path,label,split\na,b,dev\n", "split 'dev'"),
    ],
)
def test_a_broken_table_is_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "m.csv"
    file.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        Manifest.read(file)
    assert str(file) in str(caught.value)


def test_other_kinds_of_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "m.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match="cannot be read as a table"):
        Manifest.read(tmp_path / "m.parquet")
    with pytest.raises(DataError, match=r"written as \.csv or \.parquet"):
        manifest(path=["a"]).write(tmp_path / "m.xlsx")
    with pytest.raises(DataError, match="needs a column path"):
        manifest(file=["a"])
