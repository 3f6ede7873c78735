from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leukonca.cells.listing import walk
from leukonca.errors import DataError

NAME = st.text("ab .-_0é", min_size=1, max_size=4).filter(
    lambda name: not name.startswith(".") and name.strip(" .")
)
TREES = st.sets(st.lists(NAME, min_size=1, max_size=3).map("/".join), max_size=12)


@settings(max_examples=60)
@given(trees=TREES)
def test_order_is_that_of_the_whole_relative_paths(
    tmp_path_factory: pytest.TempPathFactory, trees: set[str]
) -> None:
    root = tmp_path_factory.mktemp("tree")
    made = set()
    for path in trees:
        file = root / f"{path}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        made.add(f"{path}.jpg")
    listed = [found.relative for found in walk(root)]
    assert listed == sorted(made)
    assert [os.path.relpath(found.path, root).replace(os.sep, "/") for found in walk(root)] == listed


def test_what_is_no_picture_is_told_apart(tmp_path: Path) -> None:
    for name in ("a.JPG", "b.tiff", "c.txt", ".DS_Store", "Thumbs.db", "LICENSE", "._a.jpg"):
        (tmp_path / name).touch()
    for folder in (".git", "__MACOSX"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.jpg").touch()
    kinds = {found.relative: found.kind for found in walk(tmp_path)}
    assert [name for name, kind in kinds.items() if kind == "picture"] == ["a.JPG", "b.tiff"]
    assert len(kinds) == 7


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.png").touch()
    (tmp_path / "a" / "back").symlink_to(tmp_path)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert [found.relative for found in walk(tmp_path)] == ["a/x.png"]


def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none: the folder cannot be listed"):
        list(walk(tmp_path / "none"))
