"""The cells that come with the package are what their table and their attribution say."""

from __future__ import annotations

import csv
import runpy
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from leukonca.cells import embedded
from leukonca.cells.decode import content_hash, decode
from leukonca.cells.embedded import embedded_table
from leukonca.cells.splits import leaks
from leukonca.errors import DataError
from leukonca.vocabulary import CLASS_SETS

ROOT = Path(__file__).resolve().parents[2]


def rows_of(table: Path) -> list[dict[str, str]]:
    with open(table, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    return rows_of(embedded_table())


def test_eight_classes_of_sixty(rows: list[dict[str, str]]) -> None:
    counts = Counter((row["label"], row["split"]) for row in rows)
    expected = {"train": 40, "val": 6, "test": 14}
    assert counts == {(name, split): n for name in CLASS_SETS["eight"] for split, n in expected.items()}


def test_the_folder_holds_the_table_and_nothing_else(rows: list[dict[str, str]]) -> None:
    folder = embedded_table().parent
    files = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert files == {row["path"] for row in rows} | {"cells.csv", "ATTRIBUTION.md"}
    assert len(rows) == len({row["path"] for row in rows})
    assert sum((folder / file).stat().st_size for file in files) < 3_000_000


def test_every_cell_decodes_and_none_is_in_two_splits(rows: list[dict[str, str]]) -> None:
    pictures = [decode(embedded_table().parent / row["path"]) for row in rows]
    assert {picture.shape for picture in pictures} == {(96, 96, 3)}
    hashes = [content_hash(picture) for picture in pictures]
    assert len(set(hashes)) == len(hashes)
    assert leaks([row["split"] for row in rows], [Path(row["path"]).name for row in rows], hashes) == []
    assert all(np.ptp(picture) > 60 for picture in pictures)


def test_attribution_names_authors_licence_and_changes() -> None:
    text = (embedded_table().parent / "ATTRIBUTION.md").read_text(encoding="utf-8")
    for words in ("Acevedo", "10.1016/j.dib.2020.105474", "CC BY 4.0", "Changes made", "The 480 pictures"):
        assert words in text


def test_an_incomplete_installation_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded.resources, "files", lambda _: tmp_path)
    with pytest.raises(DataError, match="install leukonca again"):
        embedded_table()


def test_the_tool_makes_them_again(shared_data: Path, tmp_path: Path, rows: list[dict[str, str]]) -> None:
    tool = runpy.run_path(str(ROOT / "tools" / "make_embedded_cells.py"))
    assert tool["make"](shared_data / "acevedo20", tmp_path / "cells") == 480
    assert rows_of(tmp_path / "cells" / "cells.csv") == rows
    for name in ("cells.csv", "ATTRIBUTION.md"):
        assert (tmp_path / "cells" / name).read_bytes() == (embedded_table().parent / name).read_bytes()
    for row in rows:
        again, kept = (
            decode(folder / row["path"]) for folder in (tmp_path / "cells", embedded_table().parent)
        )
        assert np.abs(again.astype(int) - kept).mean() < 1.0  # another libjpeg may round otherwise
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells"]
