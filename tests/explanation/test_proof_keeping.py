from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from leukonca.explanation.proof.keeping import Arrays, Kept


class Maker:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Arrays:
        self.calls += 1
        return {"values": np.arange(3) + self.calls}


def test_a_piece_is_made_once_for_its_key_and_basis(tmp_path: Path) -> None:
    make = Maker()
    first = Kept(tmp_path, {"model": "a"}).arrays("maps", {"cells": 1}, make)
    again = Kept(tmp_path, {"model": "a"})
    np.testing.assert_array_equal(again.arrays("maps", {"cells": 1}, make)["values"], first["values"])
    assert (make.calls, again.found) == (1, 1)
    for basis, part, key in (("b", "maps", 1), ("a", "curves", 1), ("a", "maps", 2)):
        Kept(tmp_path, {"model": basis}).arrays(part, {"cells": key}, make)
    assert make.calls == 4


def test_time_counts_from_when_a_piece_was_made(tmp_path: Path) -> None:
    kept = Kept(tmp_path, {})
    kept.arrays("maps", {}, Maker())
    kept.arrays("maps", {}, Maker())
    assert len(kept.used) == 1
    again = Kept(tmp_path, {})
    again.arrays("maps", {}, Maker())
    assert again.used == kept.used


def test_what_is_damaged_is_made_anew(tmp_path: Path) -> None:
    make, kept = Maker(), Kept(tmp_path, {})
    kept.arrays("maps", {}, make)
    file = kept.file("maps", {})
    for damaged in (file.read_bytes()[:-40], b"", b"not an archive"):
        file.write_bytes(damaged)
        kept.arrays("maps", {}, make)
    assert make.calls == 4
    # An archive of somebody else's, in the place of the piece.
    np.savez(file, values=np.zeros(2))
    assert kept.arrays("maps", {}, make)["values"].tolist() == [5, 6, 7]


def test_what_was_interrupted_is_not_kept(tmp_path: Path) -> None:
    def interrupted() -> Arrays:
        raise KeyboardInterrupt

    kept, make = Kept(tmp_path, {}), Maker()
    with pytest.raises(KeyboardInterrupt):
        kept.arrays("maps", {}, interrupted)
    assert kept.arrays("maps", {}, make)["values"].tolist() == [1, 2, 3]


def test_a_note_holds_json_values(tmp_path: Path) -> None:
    note = {"said": {"ä": ["x", None, 1.5]}}
    for _ in range(2):
        assert Kept(tmp_path, {}).note("readers", {}, lambda: note) == note
