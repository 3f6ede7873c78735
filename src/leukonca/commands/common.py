"""What several commands share: flags, and how a result is said in a few lines."""

from __future__ import annotations

import sys
from dataclasses import fields
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from leukonca.learning.settings import Settings

if TYPE_CHECKING:
    from leukonca.assessment.intervals import Estimate
    from leukonca.assessment.metrics import Metrics

__all__ = ["add_data", "add_progress", "headline", "settings_of", "shows_progress"]


def add_data(parser: ArgumentParser, *, required: bool) -> None:
    """Add ``--data SPEC…``."""
    parser.add_argument(
        "--data",
        nargs="+",
        metavar="SPEC",
        required=required,
        help="NAME:PATH, NAME@USE:PATH, folder:DIR, table:FILE or a path; several may be given",
    )


def add_progress(parser: ArgumentParser) -> None:
    """Add ``--quiet``."""
    parser.add_argument("--quiet", action="store_true", help="show no progress bars")


def shows_progress(args: Namespace) -> bool:
    """Whether progress bars are wanted and there is a person to see them."""
    return not args.quiet and sys.stderr.isatty()


def settings_of(args: Namespace) -> Settings:
    """Return the training settings among the arguments.

    Raises:
        SettingError: A value does not fit.
    """
    values = args.as_dict()
    return Settings.from_dict({entry.name: values[entry.name] for entry in fields(Settings)})


def headline(metrics: Metrics) -> str:
    """Return the main figures in three lines."""

    def said(name: str, estimate: Estimate) -> str:
        return f"{name} {estimate.value:.3f} (95 % interval {estimate.low:.3f} to {estimate.high:.3f})"

    lines = [
        said("accuracy", metrics.accuracy),
        said("macro-F1", metrics.macro_f1),
        said("calibration error", metrics.ece),
    ]
    unread = f", {metrics.unreadable} unreadable" if metrics.unreadable else ""
    return f"{metrics.n} cells{unread}: " + "\n  ".join(lines)
