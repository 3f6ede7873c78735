from __future__ import annotations

from leukonca.explanation.naming import UniqueNames


def test_names_are_those_of_the_files_and_each_is_given_once() -> None:
    names = UniqueNames()
    found = [
        names.of(path) for path in ("a/cell.png", "b/Cell.jpg", "c/cell.tif", "cell-2.png", "x.npz::m/3")
    ]
    assert found == ["cell", "Cell-2", "cell-3", "cell-2-2", "m-3"]


def test_a_name_fits_into_a_file_system_whatever_its_letters() -> None:
    names = UniqueNames()
    first, second = names.of("細" * 83 + ".png"), names.of("細" * 83 + ".jpg")
    assert first != second
    for name in (first, second):
        assert len(f"{name}.html".encode()) <= 255
    assert names.of(".png") == ".png"
    assert names.of("\udcff.png") == "\\udcff"
    assert names.of("../../up.png") == "up"
    assert names.of("x.npz::../../up/3") == "..-..-up-3"
