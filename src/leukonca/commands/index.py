"""``leukonca index``: remember the training cells of a model, to show which are like a new one."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Final

from jsonargparse import ArgumentParser, Namespace

from leukonca.commands.common import add_data, add_model, add_progress, require_file, shows_progress

__all__ = ["HELP", "parser", "run"]

HELP: Final = "gather what explain needs to show similar cells"


def parser() -> ArgumentParser:
    """Return the parser of this command."""
    indexing = ArgumentParser(
        description="Take down what the training cells of a model look like to it, so that explain can show "
        "those most like a cell. The model recognises its training cells among the data by their pixels; one "
        "that knows none (an imported one) takes all."
    )
    add_model(indexing)
    add_data(indexing, required=True)
    indexing.add_argument(
        "--out",
        type=str,
        metavar="FILE",
        help="file to write; by default beside the model, where explain finds it",
    )
    indexing.add_argument(
        "--per_class", type=int, metavar="N", help="at most so many cells of each type; without it, all"
    )
    indexing.add_argument(
        "--pictures", action="store_true", help="put small pictures in, so that the data need not be at hand"
    )
    indexing.add_argument(
        "--credit", type=str, default="", metavar="TEXT", help="where the cells come from; stands below them"
    )
    indexing.add_argument("--seeds", type=int, default=4, help="firing seeds to average over")
    add_progress(indexing)
    return indexing


def run(args: Namespace) -> int:
    """Run the command."""
    from leukonca import api
    from leukonca.cells.scan import scan
    from leukonca.explanation.companions import index_file
    from leukonca.explanation.similar import index_cells

    model, progress = api.load(args.model), shows_progress(args)
    out = Path(args.out) if args.out else index_file(model.file or args.model)
    require_file("--out", out)
    cells = scan(args.data, progress=progress)
    found = index_cells(model.trained, cells, seeds=args.seeds, per_class=args.per_class, progress=progress)
    found = replace(found, credit=args.credit)
    if args.pictures:
        found = found.with_pictures(model.trained.framing)
    found.save(out)
    for label, count in Counter(found.labels).items():
        sys.stdout.write(f"{count:>7}  {label or '(no label)'}\n")
    sys.stdout.write(f"{len(found):>7}  cells: {out}\n")
    return 0
