"""``leukonca classify``: name the cells of pictures."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Final

from jsonargparse import ArgumentParser, Namespace

from leukonca.commands.common import add_progress, shows_progress
from leukonca.errors import SettingError

__all__ = ["HELP", "parser", "run"]

HELP: Final = "name the cells of pictures"
_SUFFIXES: Final = (".csv", ".jsonl", ".parquet")


def parser() -> ArgumentParser:
    """Return the parser of this command."""
    classifying = ArgumentParser(
        description="Name the cell of every picture, with the probability of every class and its spread over "
        "firing seeds. A file that cannot be read becomes a row with its reason; the exit code is then 1."
    )
    classifying.add_argument(
        "model", type=str, metavar="MODEL", help="model file, or folder of a training run"
    )
    classifying.add_argument("paths", nargs="+", metavar="PATH", help="pictures, or folders with pictures")
    classifying.add_argument(
        "--out",
        type=str,
        metavar="FILE",
        help=f"table to write ({', '.join(_SUFFIXES)}); without it, CSV here",
    )
    classifying.add_argument("--seeds", type=int, default=4, help="firing seeds to average over")
    add_progress(classifying)
    return classifying


def run(args: Namespace) -> int:
    """Run the command; 1 where some pictures could not be read."""
    # Refused now, not after an hour of work.
    if args.out and Path(args.out).suffix.lower() not in _SUFFIXES:
        raise SettingError(f"--out {args.out}: must end in {', '.join(_SUFFIXES)}")
    from leukonca import api
    from leukonca.assessment.predict import join, predict_in_parts

    model = api.load(args.model).trained
    files = api.files_of(args.paths)
    parts = []
    interrupted = False
    try:
        for part in predict_in_parts(model, files, seeds=args.seeds, progress=shows_progress(args)):
            parts.append(part)
    except KeyboardInterrupt:
        interrupted = True
    predictions = join(parts, model.classes)
    if args.out:
        predictions.write(args.out)
    else:
        predictions.to_frame().to_csv(sys.stdout, index=False, lineterminator="\n")
    broken = int((~predictions.ok).sum())
    if args.out:
        counts = Counter(label for label in predictions.labels if label)
        for name in model.classes:
            if counts[name]:
                sys.stdout.write(f"{counts[name]:>7}  {counts[name] / sum(counts.values()):6.1%}  {name}\n")
        sys.stdout.write(f"{len(predictions):>7}  files, {broken} unreadable: {args.out}\n")
    if interrupted:
        done = f"{len(predictions)} of {len(files)} files are done" + (
            f" and in {args.out}" if args.out else ""
        )
        raise KeyboardInterrupt(done)
    return 1 if broken else 0
