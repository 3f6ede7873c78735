"""``leukonca probe``: teach explanations of a model the pathologist's words."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from jsonargparse import ArgumentParser, Namespace

from leukonca.commands.common import add_model, add_progress, require_file, shows_progress

__all__ = ["HELP", "parser", "run"]

HELP: Final = "fit what explain needs to describe cells in words"


def parser() -> ArgumentParser:
    """Return the parser of this command."""
    probing = ArgumentParser(
        description="Fit linear probes that read the eleven attributes of WBCAtt (shape of the nucleus, "
        "colour of the granules, …) from the channels of a model. With them explain describes each cell in "
        "words and says which of them speak for its name. Fitted on WBCAtt's training part, chosen on its "
        "validation part."
    )
    add_model(probing)
    probing.add_argument(
        "--wbcatt", type=str, metavar="DIR", required=True, help="folder with the tables of WBCAtt"
    )
    probing.add_argument(
        "--acevedo20",
        type=str,
        metavar="DIR",
        required=True,
        help="folder of Acevedo-20, whose cells they describe",
    )
    probing.add_argument(
        "--out",
        type=str,
        metavar="FILE",
        help="file to write; by default beside the model, where explain finds it",
    )
    probing.add_argument("--seeds", type=int, default=4, help="firing seeds to average over")
    add_progress(probing)
    return probing


def run(args: Namespace) -> int:
    """Run the command."""
    from leukonca import api
    from leukonca.explanation.companions import probes_file
    from leukonca.explanation.probing import probe, read_wbcatt

    model = api.load(args.model)
    out = Path(args.out) if args.out else probes_file(model.file or args.model)
    require_file("--out", out)
    cells = read_wbcatt(args.wbcatt, args.acevedo20)
    found = probe(model.trained, cells, seeds=args.seeds, progress=shows_progress(args))
    found.save(out)
    sys.stdout.write("macro-F1 on validation cells:\n")
    for name, chosen in found.provenance["chosen"].items():
        sys.stdout.write(f"  {chosen['validation_macro_f1']:.3f}  {name}\n")
    sys.stdout.write(f"probes: {out}\n")
    return 0
