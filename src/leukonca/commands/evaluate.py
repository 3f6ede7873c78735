"""``leukonca evaluate``: how good a model is on cells that it has not seen."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from jsonargparse import ArgumentParser, Namespace

from leukonca.commands.common import (
    add_data,
    add_expect,
    add_model,
    add_progress,
    add_settle,
    add_views,
    headline,
    shows_progress,
)
from leukonca.errors import SettingError

__all__ = ["HELP", "parser", "run"]

HELP: Final = "measure a model on labelled pictures that it has not seen"


def parser() -> ArgumentParser:
    """Return the parser of this command."""
    evaluating = ArgumentParser(
        description="Measure a model and write metrics.json, report.html, tables and figures. Pictures that "
        "the model was trained on are recognised by their content and left out."
    )
    add_model(evaluating)
    add_data(evaluating, required=False)
    evaluating.add_argument(
        "--out",
        type=str,
        metavar="DIR",
        help="folder of the report; may be left away without --data: the run's folder / report",
    )
    evaluating.add_argument(
        "--split",
        choices=("auto", "train", "val", "test", "all"),
        default="auto",
        help="which cells; auto: the test cells where data or model know a split, else all",
    )
    evaluating.add_argument(
        "--seeds", type=int, default=4, help="firing seeds to average over, where sites fire by chance"
    )
    evaluating.add_argument("--resamples", type=int, default=1000, help="of the bootstrap for the intervals")
    evaluating.add_argument(
        "--statistics",
        choices=("model", "target"),
        default="model",
        help="target: normalise with the statistics of the assessed cells, the paper's leak, to reproduce it",
    )
    evaluating.add_argument("--allow_seen", action="store_true", help="count cells seen in training, too")
    add_expect(evaluating)
    add_views(evaluating)
    add_settle(evaluating)
    add_progress(evaluating)
    return evaluating


def run(args: Namespace) -> int:
    """Run the command; 1 where some pictures could not be read."""
    # The report of a run is that of its own test cells; other data must not take its place unasked.
    if args.data and not args.out:
        raise SettingError("--out is missing: name a folder for the report on these cells")
    from leukonca import api
    from leukonca.assessment.expected import shares_of

    expect = shares_of(args.expect) if args.expect else None
    model = api.load(args.model).views(args.views).settling(args.settle)
    out = Path(args.out) if args.out else Path(args.model) / "report"
    metrics = model.evaluate(
        args.data,
        out,
        split=args.split,
        allow_seen=args.allow_seen,
        statistics=args.statistics,
        seeds=args.seeds,
        resamples=args.resamples,
        expect=expect,
        progress=shows_progress(args),
    )
    sys.stdout.write(f"report: {out / 'report.html'}\n{headline(metrics)}\n")
    return 1 if metrics.unreadable else 0
