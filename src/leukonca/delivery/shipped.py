"""Trained models that come with the package, by name.

Each is a model file and its card, ``NAME.safetensors`` and ``NAME.md``, in the folder ``models`` beside
this module. The card says what it was trained on, how good it is at home and elsewhere, what it is for, and
where it fails. Beside a model may stand what explanations need: probes of morphology and an index of cells,
under the names that :mod:`leukonca.explanation.companions` gives them.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from leukonca.errors import ModelError

__all__ = ["Shipped", "find_shipped", "shipped_models"]


@dataclass(frozen=True, slots=True)
class Shipped:
    """A model of the package.

    Attributes:
        name: What it is called on the command line.
        file: The model file.
        card: What people should know before they use it, Markdown; its second paragraph says it in short.
    """

    name: str
    file: Path
    card: str

    @property
    def summary(self) -> str:
        """The card in a sentence or two."""
        paragraphs = self.card.split("\n\n")
        return " ".join(paragraphs[1].split()) if len(paragraphs) > 1 else ""


def shipped_models() -> dict[str, Shipped]:
    """Return the models of the package by name, in alphabetical order."""
    folder = Path(str(resources.files("leukonca"))) / "delivery" / "models"
    return {
        card.stem: Shipped(card.stem, card.with_suffix(".safetensors"), card.read_text(encoding="utf-8"))
        for card in sorted(folder.glob("*.md"))
    }


def find_shipped(name: str) -> Shipped:
    """Return the model of a name.

    Raises:
        ModelError: There is none; the message offers the nearest.
    """
    models = shipped_models()
    if name in models:
        return models[name]
    close = difflib.get_close_matches(name, models, n=1)
    remedy = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(models) or 'none'}"
    raise ModelError(f"{name}: no such model file, and none of that name comes with leukonca; {remedy}")
