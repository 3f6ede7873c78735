"""``leukonca explain-check``: how true the explanations of a model are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from jsonargparse import ArgumentParser, Namespace

from leukonca.commands.common import add_data, add_model, add_progress, require_folder, shows_progress

__all__ = ["HELP", "parser", "run"]

HELP: Final = "test how true the explanations of a model are"
_PARTS: Final = ("completeness", "faithfulness", "localisation", "sanity", "segmentation", "morphology")


def parser() -> ArgumentParser:
    """Return the parser of this command."""
    checking = ArgumentParser(
        description="Put the explanations of a model to the test, beside other methods: does relevance sum "
        "to the explained number (completeness), does the answer go where relevance goes (faithfulness), "
        "does it lie on the cell (localisation, on sets with masks), does it follow the weights and not "
        "chance (sanity); how well do the states outline cells (segmentation) and tell their morphology "
        "(morphology, with WBCAtt). Writes explain-check.json and explain-check.html. What needs data that "
        "are not named is left out with a reason. Ctrl-C loses some seconds: the same command goes on."
    )
    add_model(checking)
    add_data(checking, required=True)
    checking.add_argument("--out", type=str, metavar="DIR", required=True, help="folder to write into")
    checking.add_argument(
        "--only", nargs="+", metavar="PART", choices=_PARTS, help=f"some of the parts: {', '.join(_PARTS)}"
    )
    checking.add_argument("--wbcatt", type=str, metavar="DIR", help="tables of WBCAtt, for morphology")
    checking.add_argument(
        "--cells",
        type=int,
        default=200,
        help="unseen cells of each set",
    )
    checking.add_argument("--seeds", type=int, default=8, help="firing seeds that relevance averages")
    checking.add_argument("--resamples", type=int, default=1000, help="of the bootstrap for the intervals")
    add_progress(checking)
    return checking


def run(args: Namespace) -> int:
    """Run the command."""
    require_folder("--out", args.out)
    from leukonca import api
    from leukonca.explanation.proof.check import Check, check
    from leukonca.explanation.proof.page import FIGURES, PAGE, write_check
    from leukonca.explanation.proof.settings import Sizes

    out = Path(args.out)
    sizes = Sizes(cells=args.cells, seeds=args.seeds, resamples=args.resamples)
    wanted = Check(data=args.data, parts=args.only, wbcatt=args.wbcatt, sizes=sizes)
    model = api.load(args.model)
    try:
        for result in check(model.trained, model.name, wanted, out, progress=shows_progress(args)):
            write_check(out, result)
            name, found = list(result["parts"].items())[-1]
            said = f"left out: {found['skipped']}" if "skipped" in found else f"{found['seconds']:.0f} s"
            sys.stdout.write(f"{name}: {said}\n")
            sys.stdout.flush()
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"what is done is kept in {out}; the same command goes on") from None
    sys.stdout.write(f"page: {out / PAGE}\nfigures: {out / FIGURES}\n")
    return 0
