"""``leukonca models``: the trained models that come with leukonca."""

from __future__ import annotations

import textwrap
from typing import Final

from jsonargparse import ArgumentParser, Namespace

from leukonca.delivery.shipped import find_shipped, shipped_models

__all__ = ["HELP", "parser", "run"]

HELP: Final = "list the trained models that come with leukonca"
_WIDTH: Final = 100


def parser() -> ArgumentParser:
    """Return the parser of this command."""
    models = ArgumentParser(
        description="List the trained models that come with leukonca, or show the card of one: what it was "
        "trained on, how good it is at home and elsewhere, what it is for, and where it fails. Wherever a "
        "command takes a MODEL, such a name will do."
    )
    models.add_argument("name", nargs="?", type=str, metavar="NAME", help="one model")
    return models


def run(args: Namespace) -> int:
    """Run the command."""
    if args.name:
        print(find_shipped(args.name).card.rstrip())
        return 0
    for model in shipped_models().values():
        print(f"{model.name}  ({model.file.stat().st_size / 1000:,.0f} kB)")
        print(textwrap.fill(model.summary, _WIDTH, initial_indent="  ", subsequent_indent="  "))
    return 0
