"""``leukonca segment``: outline the cells of pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from jsonargparse import ArgumentParser, Namespace

from leukonca.commands.common import add_progress, require_folder, shows_progress

__all__ = ["HELP", "parser", "run"]

HELP: Final = "outline the cell and its nucleus, and measure them"


def parser() -> ArgumentParser:
    """Return the parser of this command."""
    segmenting = ArgumentParser(
        description="Outline the cell in the middle of every picture and its nucleus, from the states of an "
        "automaton that never saw a mask. Writes masks, pictures with outlines, and cells.csv with areas in "
        "pixels, circularity and bounding box. A file that cannot be read becomes a row with its reason; the "
        "exit code is then 1."
    )
    segmenting.add_argument(
        "model", type=str, metavar="MODEL", help="model file, or folder of a training run"
    )
    segmenting.add_argument("paths", nargs="+", metavar="PATH", help="pictures, or folders with pictures")
    segmenting.add_argument("--out", type=str, metavar="DIR", required=True, help="folder to write into")
    segmenting.add_argument("--seeds", type=int, default=4, help="firing seeds to average over")
    add_progress(segmenting)
    return segmenting


def run(args: Namespace) -> int:
    """Run the command; 1 where some pictures could not be read."""
    require_folder("--out", args.out)
    from leukonca import api
    from leukonca.explanation.segmented import SegmentedFolder, segment_files

    model = api.load(args.model).trained
    files = api.files_of(args.paths)
    folder = SegmentedFolder(Path(args.out))
    interrupted = False
    try:
        for cell in segment_files(model, files, seeds=args.seeds, progress=shows_progress(args)):
            folder.add(cell)
    except KeyboardInterrupt:
        interrupted = True
    if interrupted and not folder.rows:
        raise KeyboardInterrupt("no file was done, nothing is written")
    table = folder.write_table()
    done = folder.to_frame()
    broken = int((done["error"] != "").sum())
    empty = int((done["area_px"] == 0).sum())
    sys.stdout.write(f"{len(done)} files, {broken} unreadable, {empty} without a cell: {table}\n")
    if interrupted:
        raise KeyboardInterrupt(f"{len(done)} of {len(files)} files are done and in {table}")
    return 1 if broken else 0
