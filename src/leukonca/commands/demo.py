"""``leukonca demo``: the main job on the embedded cells, from training to tables of named cells."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from jsonargparse import ArgumentParser, Namespace

from leukonca.commands.common import add_progress, headline, shows_progress
from leukonca.learning.settings import Settings

__all__ = ["HELP", "parser", "run"]

HELP: Final = "train, test and classify on the cells that come with leukonca"
_EPOCHS: Final = 40
_QUICK_EPOCHS: Final = 2
_SHIPPED: Final = "acevedo20-base"
# Whole fields of the analyser: the cell in the middle fills about a third of the side.
_CROP: Final = 0.75


def parser() -> ArgumentParser:
    """Return the parser of this command."""
    demonstration = ArgumentParser(
        description="Train a small automaton on the embedded cells (480 cells of Acevedo et al. 2020 in "
        "eight classes), test it on those kept aside, and name them, by it and by a model that comes along. "
        "Takes about two minutes on two cores."
    )
    demonstration.add_argument(
        "--out", type=str, metavar="DIR", default="leukonca-demo", help="folder to write"
    )
    demonstration.add_argument(
        "--quick",
        action="store_true",
        help=f"{_QUICK_EPOCHS} epochs only: to see that it works, not how well",
    )
    add_progress(demonstration)
    return demonstration


def run(args: Namespace) -> int:
    """Run the command."""
    from leukonca import api
    from leukonca.cells.embedded import embedded_table
    from leukonca.learning.run import Run

    out, progress = Path(args.out), shows_progress(args)
    settings = Settings(
        preset="tiny",
        crop=_CROP,
        epochs=_QUICK_EPOCHS if args.quick else _EPOCHS,
        batch=16,
        learning_rate=4e-3,
        ema=0.98,
    )
    folder = out / "automaton"
    if Run.is_run(folder) and Run.open(folder).settings == settings:
        # A second call goes on with the first, or finds it finished.
        training = api.resume(folder, progress=progress)
    else:
        training = api.train(f"table:{embedded_table()}", folder, settings, progress=progress)
    metrics = training.model.evaluate(None, out, progress=progress)
    manifest = training.run.manifest
    held_out = manifest.frame["path"][manifest.frame["split"] == "test"].tolist()
    named = training.model.classify(held_out, progress=progress)
    named.write(out / "classified.csv")
    # The model of the package has seen most of these cells in its own training, at another size: what it says
    # of them shows how it is used, and no figure is made of it.
    by_shipped = api.load(_SHIPPED).classify(held_out, progress=progress)
    by_shipped.write(out / f"classified-{_SHIPPED}.csv")
    sys.stdout.write(
        f"model:       {folder / 'best.safetensors'}\n"
        f"classified:  {out / 'classified.csv'}\n"
        f"             {out / f'classified-{_SHIPPED}.csv'} (by the model {_SHIPPED}, which comes along)\n"
        f"report:      {out / 'report.html'}\n"
        f"{headline(metrics)}\n"
    )
    return 0
