"""``leukonca classify``: name the cells of pictures."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jsonargparse import ArgumentParser, Namespace

from leukonca.commands.common import (
    add_expect,
    add_model,
    add_progress,
    add_settle,
    add_views,
    require_file,
    shows_progress,
)
from leukonca.errors import SettingError

if TYPE_CHECKING:
    from leukonca.assessment.prediction import Predictions

__all__ = ["HELP", "parser", "run"]

HELP: Final = "name the cells of pictures"
_SUFFIXES: Final = (".csv", ".jsonl", ".parquet")


def parser() -> ArgumentParser:
    """Return the parser of this command."""
    classifying = ArgumentParser(
        description="Name the cell of every picture, with the probability of every class and how much it "
        "varies, and say which pictures a person has to review. A file that cannot be read becomes "
        "a row with its reason; the exit code is then 1."
    )
    add_model(classifying)
    classifying.add_argument("paths", nargs="+", metavar="PATH", help="pictures, or folders with pictures")
    classifying.add_argument(
        "--out",
        type=str,
        metavar="FILE",
        help=f"table to write ({', '.join(_SUFFIXES)}); without it, CSV here",
    )
    classifying.add_argument(
        "--seeds", type=int, default=4, help="firing seeds to average over, where sites fire by chance"
    )
    classifying.add_argument(
        "--coverage",
        type=float,
        metavar="C",
        help="add the set of classes that holds the true one with probability C, such as 0.95",
    )
    classifying.add_argument(
        "--foreign",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="do not name pictures that are stranger than all but this share of held-out cells; 0: name all",
    )
    add_expect(classifying)
    add_views(classifying)
    add_settle(classifying)
    add_progress(classifying)
    return classifying


def run(args: Namespace) -> int:
    """Run the command; 1 where some pictures could not be read."""
    # Refused now, not after an hour of work.
    if args.out and Path(args.out).suffix.lower() not in _SUFFIXES:
        raise SettingError(f"--out {args.out}: must end in {', '.join(_SUFFIXES)}")
    if args.out:
        require_file("--out", Path(args.out))
    if args.expect and args.coverage is not None:
        raise SettingError(
            f"--coverage {args.coverage} --expect {args.expect}: a coverage is known for the shares of the "
            "training cells only; give one of the two"
        )
    import numpy as np

    from leukonca import api
    from leukonca.assessment.expected import expectation, shares_of
    from leukonca.assessment.predict import join, predict_in_parts

    model = api.load(args.model).views(args.views).settling(args.settle).trained
    told = expectation(shares_of(args.expect), model) if args.expect else None
    files = api.files_of(args.paths)
    parts = []
    interrupted = False
    try:
        for part in predict_in_parts(
            model,
            files,
            seeds=args.seeds,
            coverage=args.coverage,
            foreign=args.foreign,
            progress=shows_progress(args),
        ):
            parts.append(told(part) if told else part)
    except KeyboardInterrupt:
        interrupted = True
    predictions = join(parts, model.classes)
    if interrupted and not parts:
        raise KeyboardInterrupt("no file was done, nothing is written")
    if args.out:
        predictions.write(args.out)
    else:
        # As in a file: every text quoted, because a carriage return in a file name would else end the row.
        table = predictions.to_frame()
        table.to_csv(sys.stdout, index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    broken = int((~predictions.ok).sum())
    _summarise(predictions, broken, args.out)
    if args.out and predictions.steps is not None and broken < len(predictions):
        every = model.steps
        sys.stdout.write(f"        {np.nanmean(predictions.steps):.1f} of {every} steps on average\n")
    if interrupted:
        place = f" and in {args.out}" if args.out else ""
        raise KeyboardInterrupt(f"{len(predictions)} of {len(files)} files are done{place}")
    return 1 if broken else 0


def _summarise(predictions: Predictions, broken: int, out: str | None) -> None:
    if out:
        counts = Counter(label for label in predictions.labels if label)
        for name in predictions.classes:
            if counts[name]:
                sys.stdout.write(f"{counts[name]:>7}  {counts[name] / counts.total():6.1%}  {name}\n")
        if predictions.foreign is not None and predictions.foreign.any():
            sys.stdout.write(f"{int(predictions.foreign.sum()):>7}  not named: unlike the training cells\n")
        if predictions.reasons is not None:
            sys.stdout.write(f"{sum(map(bool, predictions.reasons)):>7}  to review\n")
        sys.stdout.write(f"{len(predictions):>7}  files, {broken} unreadable: {out}\n")
    elif broken:
        # Not among the rows: they may go to another program.
        sys.stderr.write(f"{broken} of {len(predictions)} files are unreadable; column 'error' says why\n")
