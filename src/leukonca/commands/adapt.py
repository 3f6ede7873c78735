"""``leukonca adapt``: fit a model to another laboratory with a few of its cells."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from jsonargparse import ArgumentParser, Namespace

from leukonca.commands.common import add_data, add_progress, require_file, shows_progress

__all__ = ["HELP", "parser", "run"]

HELP: Final = "fit a model to another laboratory with a few of its cells"


def parser() -> ArgumentParser:
    """Return the parser of this command."""
    adapting = ArgumentParser(
        description="Fit a model to another laboratory with a few of its cells, labelled or not, and write "
        "the adapted model. The cells count as seen in training: 'leukonca evaluate' leaves them out."
    )
    adapting.add_argument("model", type=str, metavar="MODEL", help="model file, or folder of a training run")
    add_data(adapting, required=True)
    adapting.add_argument("--out", type=str, metavar="FILE", required=True, help="model file (.safetensors)")
    adapting.add_argument(
        "--labels",
        type=int,
        help="how many labels of each type to use; 0: all cells, and no label is read; by default all labels",
    )
    adapting.add_argument("--seed", type=int, default=0, help="chooses the cells")
    adapting.add_argument(
        "--source",
        nargs="+",
        metavar="SPEC",
        help="the cells that the model was trained on, where its file does not know what its features are "
        "like on them",
    )
    add_progress(adapting)
    return adapting


def run(args: Namespace) -> int:
    """Run the command."""
    require_file("--out", Path(args.out))
    from leukonca import api

    model = api.load(args.model).adapt(
        args.data,
        labels=args.labels,
        seed=args.seed,
        source=args.source,
        progress=shows_progress(args),
    )
    model.save(args.out)
    note = model.trained.provenance["adapted"][-1]
    used = ", ".join(f"{count} {label}" for label, count in note["labels"].items()) or "no labels"
    sys.stdout.write(f"{args.out}: adapted with {note['cells']} cells ({used})\n")
    return 0
