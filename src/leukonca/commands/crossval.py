"""``leukonca crossval``: train and test a fresh model for every fold."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from jsonargparse import ArgumentParser, Namespace

from leukonca.commands.common import (
    add_data,
    add_progress,
    add_settings,
    headline,
    settings_of,
    shows_progress,
)
from leukonca.learning.settings import AS_PUBLISHED

__all__ = ["HELP", "parser", "run"]

HELP: Final = "cross-validate: a fresh model for every fold"


def parser() -> ArgumentParser:
    """Return the parser of this command."""
    folding = ArgumentParser(
        description="Train and test a fresh model for every fold, then report mean, s.d. and pooled "
        "confusion. Given the same folder again, it goes on where it was interrupted."
    )
    add_data(folding, required=True)
    folding.add_argument(
        "--out", type=str, metavar="DIR", required=True, help="folder of the folds and the report"
    )
    folding.add_argument("--seeds", type=int, default=4, help="firing seeds to average over in the tests")
    folding.add_argument("--resamples", type=int, default=1000, help="of the bootstrap for the intervals")
    add_progress(folding)
    add_settings(folding, skip=frozenset({"fold"}))
    # Without folds there is no cross-validation; the paper's number is the default here.
    folding.set_defaults(folds=AS_PUBLISHED.folds)
    return folding


def run(args: Namespace) -> int:
    """Run the command."""
    settings = settings_of(args)
    from leukonca.assessment.crossvalidate import crossvalidate

    out = Path(args.out)
    options = {"seeds": args.seeds, "resamples": args.resamples, "progress": shows_progress(args)}
    try:
        metrics = crossvalidate(args.data, out, settings, **options)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command again goes on") from None
    sys.stdout.write(f"report: {out / 'crossval.html'}\n{headline(metrics)}\n")
    return 0
