"""``leukonca calibrate``: give an existing model probabilities that mean something."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from jsonargparse import ArgumentParser, Namespace

from leukonca.commands.common import add_data, add_progress, add_views, require_file, shows_progress

__all__ = ["HELP", "parser", "run"]

HELP: Final = "calibrate a model that was trained elsewhere or before"


def parser() -> ArgumentParser:
    """Return the parser of this command."""
    calibrating = ArgumentParser(
        description="Fit what a training run fits at its end: the temperature of the probabilities, the "
        "scores of the prediction sets, and what the training cells are like, so that foreign pictures are "
        "noticed. "
        "The model recognises its validation and training cells among the data. If there are no validation "
        "cells of its own, all labelled cells that it was not trained on are used and never counted in an "
        "assessment of it again."
    )
    calibrating.add_argument(
        "model", type=str, metavar="MODEL", help="model file, or folder of a training run"
    )
    add_data(calibrating, required=True)
    calibrating.add_argument("--out", type=str, metavar="FILE", required=True, help="model file to write")
    calibrating.add_argument(
        "--seeds", type=int, default=4, help="firing seeds to average over, as many as will be used later"
    )
    add_views(calibrating)
    add_progress(calibrating)
    return calibrating


def run(args: Namespace) -> int:
    """Run the command."""
    require_file("--out", Path(args.out))
    from leukonca import api

    model = api.load(args.model).views(args.views)
    model = model.calibrate(args.data, seeds=args.seeds, progress=shows_progress(args))
    model.save(args.out)
    trust = model.trained.trust
    if trust is not None:
        why = "are not noticed: needs its training cells and 20 cells to calibrate on"
        known = "are noticed" if trust.familiarity else why
        sys.stdout.write(
            f"model:            {args.out}\n"
            f"calibrated on:    {trust.fitted['cells']} cells, {trust.fitted['kind']}\n"
            f"temperature:      {trust.temperature:.3f}\n"
            f"foreign pictures: {known}\n"
        )
    return 0
