from __future__ import annotations

from pathlib import Path

import pytest

from leukonca.cells.rules import Verdict
from leukonca.cells.source import Use, find_source, known_sources, load_source
from leukonca.errors import DataError
from leukonca.vocabulary import CELL_TYPES, CLASS_SETS

OWN = """
name = "lab"
title = "Our laboratory"
citation = "us"
licence = "ours"

[group]
path = "**/{group}_*"
meaning = "slide"

[uses.all]
title = "all"
classes = ["neutrophil", "our cell"]

[[uses.all.rules]]
path = "**/{code}/*"

[uses.all.rules.labels]
N = "neutrophil"
O = "our cell"
"""


def own(tmp_path: Path, text: str = OWN) -> Path:
    file = tmp_path / "lab.toml"
    file.write_text(text, encoding="utf-8")
    return file


def judge(use: Use, path: str) -> Verdict | None:
    return next((said for rule in use.rules if (said := rule.judge(path))), None)


def label(use: Use, path: str) -> str | None:
    """The label of a path, "" where it is left out, None where it is unmatched."""
    said = judge(use, path)
    return said.label if said else None


def test_the_ten_published_sets_are_described() -> None:
    sources = known_sources()
    assert sorted(sources) == sorted(
        ["matek19", "mll23", "acevedo20", "raabin", "lisc", "bccd", "bcisc", "zheng1", "zheng2", "bloodmnist"]
    )
    for source in sources.values():
        assert source.citation
        assert source.licence
        assert source.doi.startswith("10.")
        assert source.recognise
        assert source.layout
        for use in source.uses.values():
            assert set(use.classes) <= set(CELL_TYPES)
            assert use.cells is not None
            assert source.pictures is not None
            assert use.cells <= source.pictures


def test_names_and_aliases_lead_to_one_set_each() -> None:
    names = [name for source in known_sources().values() for name in (source.name, *source.aliases)]
    assert len(names) == len({name.casefold() for name in names})
    assert find_source("INT20").name == "mll23"
    with pytest.raises(DataError, match="'acevedo21'; did you mean 'acevedo20'"):
        find_source("acevedo21")
    with pytest.raises(DataError, match="leukonca sources"):
        find_source("xyzzy")


def test_matek_codes_are_those_of_the_paper() -> None:
    use = find_source("matek19").use()
    expected = {
        "BAS": "basophil",
        "EBO": "erythroblast",
        "EOS": "eosinophil",
        "KSC": "smudge_cell",
        "LYA": "lymphocyte_atypical",
        "LYT": "lymphocyte_typical",
        "MMZ": "metamyelocyte",
        "MOB": "monocyte",
        "MON": "monocyte",
        "MYB": "myelocyte",
        "MYO": "myeloblast",
        "NGB": "neutrophil_banded",
        "NGS": "neutrophil_segmented",
        "PMO": "promyelocyte",
        "PMB": "",
        "XYZ": None,
    }
    assert {code: label(use, f"AML/{code}/{code}_0001.tiff") for code in expected} == expected
    assert use.classes == CLASS_SETS["thirteen"]
    counts = [8484, 3937, 3268, 1789, 424, 109, 79, 78, 70, 42, 26, 15, 15, 11]  # all but PMB (18)
    assert use.cells == sum(counts) == 18365 - 18


INT20 = {
    "01": "erythroblast",
    "05": "monocyte",
    "08": "lymphocyte_atypical",
    "09": "basophil",
    "10": "eosinophil",
    "11": "neutrophil_banded",
    "12": "lymphocyte_atypical",
    "13": "myeloblast",
    "14": "lymphocyte_typical",
    "15": "neutrophil_segmented",
    "17": "smudge_cell",
    "18": "promyelocyte",
    "19": "myelocyte",
    "20": "metamyelocyte",
    "04": "",
    "16": "",
    "21": "",
    "22": "",
    "02": None,
}
# The folders of the Zenodo archive and their pictures, and the code that each had before.
ZENODO = {
    "myeloblast": (8606, "13"),
    "neutrophil_segmented": (7170, "15"),
    "lymphocyte": (5532, "14"),
    "hairy_cell": (3265, "21"),
    "monocyte": (2510, "05"),
    "eosinophil": (2448, "10"),
    "normoblast": (2071, "01"),
    "promyelocyte_atypical": (2033, "22"),
    "lymphocyte_large_granular": (1849, "04"),
    "plasma_cell": (1658, "16"),
    "smudge_cell": (988, "17"),
    "myelocyte": (747, "19"),
    "promyelocyte": (745, "18"),
    "neutrophil_band": (687, "11"),
    "basophil": (616, "09"),
    "metamyelocyte": (483, "20"),
    "lymphocyte_neoplastic": (180, "08"),
    "lymphocyte_reactive": (33, "12"),
}


@pytest.mark.parametrize("folder", ["{}", "MLL/{}", "{}-NAME"])
def test_mll23_codes_are_those_of_the_paper(folder: str) -> None:
    use = find_source("mll23").use()
    assert {code: label(use, f"{folder.format(code)}/x.TIF") for code in INT20} == INT20
    assert use.classes == CLASS_SETS["thirteen"]


def test_mll23_folders_of_the_public_archive_mean_the_same() -> None:
    source = find_source("mll23")
    for folder, (_, code) in ZENODO.items():
        assert label(source.use(), f"{folder}/{folder}_0001.TIF") == INT20[code], folder
    assert source.pictures == sum(count for count, _ in ZENODO.values())
    assert source.use().cells == sum(count for count, code in ZENODO.values() if INT20[code])


def test_acevedo_prefixes_are_those_of_the_paper() -> None:
    use = find_source("acevedo20").use("thirteen")
    expected = {
        "basophil/BA": "basophil",
        "eosinophil/EO": "eosinophil",
        "erythroblast/ERB": "erythroblast",
        "lymphocyte/LY": "lymphocyte_typical",
        "monocyte/MO": "monocyte",
        "ig/PMY": "promyelocyte",
        "ig/MY": "myelocyte",
        "ig/MMY": "metamyelocyte",
        "neutrophil/BNE": "neutrophil_banded",
        "neutrophil/SNE": "neutrophil_segmented",
        "ig/IG": "",
        "neutrophil/NEUTROPHIL": "",
        "platelet/PLATELET": "",
        "platelet/STRANGE": None,
    }
    assert {stem: label(use, f"{stem}_123.jpg") for stem in expected} == expected
    assert find_source("acevedo20").use().name == "eight"
    assert label(find_source("acevedo20").use(), "ig/IG_1.jpg") == "immature_granulocyte"


def test_bloodmnist_codes_are_the_eight_classes_in_order() -> None:
    use = find_source("bloodmnist").use()
    assert [use.labels[str(code)] for code in range(8)] == list(CLASS_SETS["eight"])


@pytest.mark.parametrize(
    ("name", "path", "group"),
    [
        ("bcisc", "sub-images/images/baso_1-2_0.jpg", "bcisc:1-2"),
        ("bccd", "Basophil/BloodImage_00008_1.jpg", "bccd:00008"),
        ("bccd", "Basophil/other.jpg", ""),
        ("acevedo20", "basophil/BA_1.jpg", ""),
    ],
)
def test_groups_come_from_the_file_name(name: str, path: str, group: str) -> None:
    assert find_source(name).group_of(path) == group


def test_a_set_of_ones_own_needs_no_code(tmp_path: Path) -> None:
    source = load_source(own(tmp_path))
    assert source.use().classes == ("neutrophil", "our cell")
    assert label(source.use(), "N/7_1.jpg") == "neutrophil"
    assert source.group_of("N/7_1.jpg") == "lab:7"


def test_an_unknown_use_is_answered_with_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"acevedo20@thirten: no such use; did you mean 'thirteen'\?.*eight"):
        find_source("acevedo20").use("thirten")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('title = "Our', 'titel = "Our', "unknown key 'titel'; did you mean 'title'"),
        ('licence = "ours"', "", "licence is missing"),
        ('licence = "ours"', "licence = 3", "licence must be a string, not 3"),
        ('licence = "ours"', 'licence = " "', "licence is empty"),
        ('licence = "ours"', 'licence = "ours"\npictures = -1', "must not be negative"),
        ('licence = "ours"', 'licence = "ours"\npictures = true', "must be a whole number"),
        ('licence = "ours"', 'licence = "ours"\naliases = [1]', "must be a list of strings"),
        ('licence = "ours"', 'licence = "ours"\nrecognise = ["a"]', "list of lists"),
        ('licence = "ours"', 'licence = "ours"\ndefault_use = "al"', "default_use 'al'"),
        ('name = "lab"', 'name = "folder"', "name 'folder' must be"),
        ('name = "lab"', 'name = "x"', "name 'x' must be"),
        ('name = "lab"', 'name = "a:b"', "name 'a:b' must be"),
        ("meaning", "meening", "[group] unknown key 'meening'; did you mean 'meaning'"),
        ("**/{group}_*", "**/*", "has to catch {group}"),
        ('"our cell"]', '"our cel"]', "label 'our cell' is not among its classes; did you mean 'our cel'"),
        ('["neutrophil", "our cell"]', '"twelve"', "classes must be thirteen, eight, five or a list"),
        ("[[uses.all.rules]]", "[[uses.all.rulse]]", "unknown key 'rulse'; did you mean 'rules'"),
        ('N = "neutrophil"', "N = ", "is not valid TOML"),
        ('title = "all"', 'title = "all"\nsplit = {path = "{split}/*", names = {a = "dev"}}', "split 'dev'"),
        ('title = "all"', 'title = "all"\nlabels = {0 = "neutrophil"}', "belong together"),
    ],
)
def test_a_mistake_is_named_with_its_file(tmp_path: Path, old: str, new: str, message: str) -> None:
    file = own(tmp_path, OWN.replace(old, new))
    with pytest.raises(DataError) as caught:
        load_source(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert message in str(caught.value)


def test_a_description_needs_a_use(tmp_path: Path) -> None:
    head = OWN.split("[uses.all]")[0]
    for text in (head, head + "[uses]\n"):
        with pytest.raises(DataError, match="use"):
            load_source(own(tmp_path, text))
    with pytest.raises(DataError, match="cannot be read"):
        load_source(tmp_path / "none.toml")
