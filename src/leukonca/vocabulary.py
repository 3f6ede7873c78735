"""Cell types: their names, their order, their kinship, colours and synonyms.

Every label in leukonca is one of these names. A *class set* is an ordered tuple of names that a
model may be trained on; the order is that of its outputs.

- ``thirteen``: the order of Deutges et al., MICCAI 2024 (arXiv 2404.05584).
- ``eight``: the order of BloodMNIST (Acevedo-20 by folder).
- ``five``: the five-part differential of normal blood.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from leukonca.errors import DataError

__all__ = [
    "CELL_TYPES",
    "CLASS_SETS",
    "CellType",
    "cell_type",
    "class_set_of",
    "nearest",
    "project",
    "resolve",
]


@dataclass(frozen=True, slots=True)
class CellType:
    """One kind of blood cell.

    Attributes:
        name: The name used in tables, models and commands.
        title: The name for people.
        colour: ``#rrggbb`` used in every plot; neighbouring types stay apart for colour-blind readers.
        parent: The name of the coarser type that it belongs to, or ``None``.
        synonyms: Other names that are understood, in lower case with single spaces.
    """

    name: str
    title: str
    colour: str
    parent: str | None = None
    synonyms: frozenset[str] = field(default=frozenset())


def _types() -> Iterable[CellType]:
    def entry(name: str, title: str, colour: str, parent: str | None = None, *synonyms: str) -> CellType:
        return CellType(name, title, colour, parent, frozenset(synonyms))

    granulocyte = "immature_granulocyte"
    return (
        entry("basophil", "Basophil", "#332288", None, "baso", "basophils", "bas"),
        entry("eosinophil", "Eosinophil", "#cc6677", None, "eosino", "eosi", "eosinophils", "eos"),
        entry("erythroblast", "Erythroblast", "#882255", None, "normoblast", "nrbc", "erythroblasts", "ebo"),
        entry("myeloblast", "Myeloblast", "#661100", None, "blast", "myeloblasts", "myo"),
        entry("promyelocyte", "Promyelocyte", "#6699cc", granulocyte, "promyelocytes", "pmy", "pmo"),
        entry("myelocyte", "Myelocyte", "#4477aa", granulocyte, "myelocytes", "my", "myb"),
        entry("metamyelocyte", "Metamyelocyte", "#88ccee", granulocyte, "metamyelocytes", "mmy", "mmz"),
        entry(
            "neutrophil_banded",
            "Neutrophil, banded",
            "#999933",
            "neutrophil",
            "banded neutrophil",
            "band neutrophil",
            "neutrophil band",
            "band",
            "bne",
            "ngb",
        ),
        entry(
            "neutrophil_segmented",
            "Neutrophil, segmented",
            "#ddcc77",
            "neutrophil",
            "segmented neutrophil",
            "neutrophil segment",
            "sne",
            "ngs",
        ),
        entry("monocyte", "Monocyte", "#117733", None, "mono", "monocytes", "mon"),
        entry(
            "lymphocyte_typical",
            "Lymphocyte, typical",
            "#44aa99",
            "lymphocyte",
            "typical lymphocyte",
            "lyt",
        ),
        entry(
            "lymphocyte_atypical",
            "Lymphocyte, atypical",
            "#1b6f66",
            "lymphocyte",
            "atypical lymphocyte",
            "reactive lymphocyte",
            "lya",
        ),
        entry("smudge_cell", "Smudge cell", "#aaaaaa", None, "smudge", "smudge cells", "gumprecht", "ksc"),
        entry(
            granulocyte,
            "Immature granulocyte",
            "#5f8fd3",
            None,
            "immature granulocytes",
            "ig",
        ),
        entry("lymphocyte", "Lymphocyte", "#44aa99", None, "lymph", "lymp", "lymphocytes"),
        entry("neutrophil", "Neutrophil", "#ddaa33", None, "neut", "neutro", "neutrophils"),
        entry("platelet", "Platelet", "#777777", None, "platelets", "thrombocyte", "plt"),
    )


CELL_TYPES: Final[dict[str, CellType]] = {kind.name: kind for kind in _types()}

CLASS_SETS: Final[dict[str, tuple[str, ...]]] = {
    "thirteen": (
        "basophil",
        "eosinophil",
        "erythroblast",
        "myeloblast",
        "promyelocyte",
        "myelocyte",
        "metamyelocyte",
        "neutrophil_banded",
        "neutrophil_segmented",
        "monocyte",
        "lymphocyte_typical",
        "lymphocyte_atypical",
        "smudge_cell",
    ),
    "eight": (
        "basophil",
        "eosinophil",
        "erythroblast",
        "immature_granulocyte",
        "lymphocyte",
        "monocyte",
        "neutrophil",
        "platelet",
    ),
    "five": ("neutrophil", "lymphocyte", "monocyte", "eosinophil", "basophil"),
}

_SYNONYMS: Final[dict[str, str]] = {
    synonym: kind.name for kind in CELL_TYPES.values() for synonym in kind.synonyms
}


def _plain(label: str) -> str:
    return re.sub(r"[\s_\-]+", " ", label).strip().lower()


def resolve(label: str) -> str | None:
    """Return the vocabulary's name for ``label``, or ``None`` where it has none.

    Case, spaces, hyphens and underscores do not matter; synonyms are understood.
    """
    plain = _plain(label)
    name = plain.replace(" ", "_")
    return name if name in CELL_TYPES else _SYNONYMS.get(plain)


def nearest(label: str) -> str | None:
    """Return the known name closest in spelling to ``label``, or ``None`` if nothing is close."""
    known = {_plain(name): name for name in CELL_TYPES} | _SYNONYMS
    found = difflib.get_close_matches(_plain(label), known, n=1, cutoff=0.6)
    return known[found[0]] if found else None


def cell_type(name: str) -> CellType:
    """Return the entry of a name.

    Raises:
        DataError: The name is not in the vocabulary; the message offers the nearest.
    """
    try:
        return CELL_TYPES[name]
    except KeyError:
        hint = nearest(name)
        remedy = f"did you mean {hint!r}?" if hint else f"known: {', '.join(CELL_TYPES)}"
        raise DataError(f"cell type {name!r} is not in the vocabulary; {remedy}") from None


def project(name: str, classes: Iterable[str]) -> str | None:
    """Return which of ``classes`` a cell called ``name`` belongs to: itself or its parent, else ``None``.

    ``project("neutrophil_banded", CLASS_SETS["five"])`` is ``"neutrophil"``.
    """
    allowed = set(classes)
    current: str | None = name
    while current is not None:
        if current in allowed:
            return current
        kind = CELL_TYPES.get(current)
        current = kind.parent if kind else None
    return None


def class_set_of(labels: Iterable[str]) -> tuple[str, ...]:
    """Return the labels that occur in the order of the smallest class set that holds them all.

    Labels that no class set holds together, or that are not in the vocabulary (a user's own classes),
    come in alphabetical order.
    """
    present = set(labels)
    for classes in sorted(CLASS_SETS.values(), key=len):
        if present <= set(classes):
            return tuple(name for name in classes if name in present)
    return tuple(sorted(present))
