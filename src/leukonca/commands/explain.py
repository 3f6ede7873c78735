"""``leukonca explain``: say why cells are called what they are called."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from jsonargparse import ArgumentParser, Namespace

from leukonca.commands.common import add_model, add_progress, require_folder, shows_progress

__all__ = ["HELP", "parser", "run"]

HELP: Final = "say why cells are called what they are called"


def parser() -> ArgumentParser:
    """Return the parser of this command."""
    explaining = ArgumentParser(
        description="Explain the name of every cell: which pixels speak for it and which against it, why "
        "this and not the next probable name, through which channels and steps, with the outline of the cell "
        "and, where the model has them, words and similar cells. Writes a page of HTML and an archive "
        "of arrays for each cell, index.html over all of them, and cells.csv. A file that cannot be read "
        "becomes a row with its reason; the exit code is then 1."
    )
    add_model(explaining)
    explaining.add_argument("paths", nargs="+", metavar="PATH", help="pictures, or folders with pictures")
    explaining.add_argument("--out", type=str, metavar="DIR", required=True, help="folder to write into")
    explaining.add_argument(
        "--class",
        dest="explained",
        type=str,
        metavar="NAME",
        help="explain this type instead of the called one",
    )
    explaining.add_argument(
        "--against",
        type=str,
        metavar="NAME",
        help="hold it against this type instead of the most probable of the others",
    )
    explaining.add_argument("--seeds", type=int, default=8, help="firing seeds to average relevance over")
    explaining.add_argument(
        "--probes",
        type=str,
        metavar="FILE",
        help="file of the command probe; by default that beside the model",
    )
    explaining.add_argument(
        "--similar",
        type=str,
        metavar="FILE",
        help="file of the command index; by default that beside the model",
    )
    explaining.add_argument("--no_animation", action="store_true", help="leave the film out: smaller pages")
    add_progress(explaining)
    return explaining


def run(args: Namespace) -> int:
    """Run the command; 1 where some pictures could not be read."""
    require_folder("--out", args.out)
    from leukonca import api

    table = api.load(args.model).explain(
        args.paths,
        args.out,
        explained=args.explained,
        against=args.against,
        seeds=args.seeds,
        probes=args.probes,
        similar=args.similar,
        animation=not args.no_animation,
        progress=shows_progress(args),
    )
    broken = int((table["error"] != "").sum())
    page = Path(args.out) / "index.html"
    sys.stdout.write(f"{len(table)} files, {broken} unreadable: {page}\n")
    return 1 if broken else 0
