"""``leukonca train``: from labelled pictures to a trained and tested model."""

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
from leukonca.errors import SettingError
from leukonca.learning.settings import Settings

__all__ = ["HELP", "parser", "run"]

HELP: Final = "train a model on labelled pictures and test it"


def parser() -> ArgumentParser:
    """Return the parser of this command."""
    training = ArgumentParser(
        description="Train a model on labelled pictures, test it on cells kept aside and write the report."
    )
    add_data(training, required=False)
    training.add_argument("--out", type=str, metavar="DIR", help="folder of the run, new or empty")
    training.add_argument("--resume", type=str, metavar="DIR", help="go on with the interrupted run in DIR")
    training.add_argument(
        "--cache", type=str, metavar="DIR", help="folder in which several runs share their prepared pictures"
    )
    training.add_argument("--no_report", action="store_true", help="do not test and report after training")
    add_progress(training)
    add_settings(training)
    return training


def run(args: Namespace) -> int:
    """Run the command."""
    settings = settings_of(args)
    if not args.resume and not (args.data and args.out):
        raise SettingError("give --data and --out for a new run, or --resume alone for an interrupted one")
    if args.resume and (args.data or args.out or settings != Settings()):
        raise SettingError(
            f"--resume {args.resume}: goes on with the data and settings of that run; leave all others away"
        )
    from leukonca import api

    progress = shows_progress(args)
    try:
        if args.resume:
            training = api.resume(args.resume, cache=args.cache, progress=progress)
        else:
            training = api.train(args.data, args.out, settings, cache=args.cache, progress=progress)
    except KeyboardInterrupt:
        place = Path(args.resume or args.out)
        if not (place / "run.json").is_file():
            raise
        raise KeyboardInterrupt(f"'leukonca train --resume {place}' goes on") from None
    folder = training.run.folder
    sys.stdout.write(f"model:  {folder / 'best.safetensors'}\n")
    tested = (training.run.manifest.frame["split"] == "test").any()
    if tested and not args.no_report:
        report = Path(folder) / "report"
        metrics = training.model.evaluate(None, report, progress=progress)
        sys.stdout.write(f"report: {report / 'report.html'}\n{headline(metrics)}\n")
    return 0
