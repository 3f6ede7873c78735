"""``leukonca data``: look at pictures before anything is trained on them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final, Literal

from jsonargparse import ArgumentParser, Namespace

from leukonca.cells.check import check
from leukonca.cells.manifest import TABLE_SUFFIXES
from leukonca.cells.scan import scan
from leukonca.commands.common import shows_progress
from leukonca.errors import SettingError
from leukonca.writing import write_text

__all__ = ["HELP", "parser", "run"]

HELP: Final = "check pictures and labels before training"


def parser() -> ArgumentParser:
    """Return the parser of this command."""
    # A positional choice and not a subcommand: jsonargparse adds nested subcommands in level order only,
    # and this parser is complete before the main program takes it.
    data = ArgumentParser(
        description="check: read every picture and report counts, broken files, duplicates, leaks between "
        "splits and doubtful labels. Exits 1 where something would corrupt a result."
    )
    data.add_argument("action", type=Literal["check"], metavar="check", help="what to do with the pictures")
    data.add_argument(
        "specs", nargs="+", metavar="SPEC", help="NAME:PATH, NAME@USE:PATH, folder:DIR, table:FILE, or a path"
    )
    data.add_argument("--out", type=str, metavar="FILE.json", help="also write the whole report here")
    data.add_argument(
        "--manifest",
        type=str,
        metavar="FILE",
        help="write the table of pictures with hashes (.csv or .parquet)",
    )
    data.add_argument("--quiet", action="store_true", help="show no progress on stderr")
    return data


def run(args: Namespace) -> int:
    """Run the command; 0 where all is well, 1 where something would corrupt a result.

    Raises:
        LeukoncaError: A SPEC or an output file is wrong.
    """
    # Refused now, not after an hour of reading.
    if args.manifest and Path(args.manifest).suffix.lower() not in TABLE_SUFFIXES:
        raise SettingError(f"--manifest {args.manifest}: must end in {' or '.join(TABLE_SUFFIXES)}")
    report = check(scan(args.specs, progress=shows_progress(args)), progress=shows_progress(args))
    if args.out:
        write_text(args.out, json.dumps(report.to_dict(), indent=2, ensure_ascii=True) + "\n")
    if args.manifest:
        report.manifest.write(args.manifest)
    sys.stdout.write(_printable(report.to_text()) + "\n")
    return 0 if report.ok else 1


def _printable(text: str) -> str:
    # A file name, or an old terminal, may hold no more than ASCII; a report must not fail on its last line.
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
