"""Put probes of morphology and an index of similar cells beside the models of the package.

    python tools/ship_explanations.py --wbcatt DIR --acevedo20 DIR [NAME…]

Both are tied to the weights of their model, so this has to be run again whenever a model is shipped anew;
what is left of an older model is not used. Takes a few minutes a model.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

from leukonca import api
from leukonca.cells.manifest import Manifest
from leukonca.cells.scan import scan
from leukonca.delivery.shipped import shipped_models
from leukonca.explanation.companions import index_file, probes_file
from leukonca.explanation.probing import probe, read_wbcatt
from leukonca.explanation.similar import index_cells

PER_CLASS = 40
CREDIT = (
    "Cells from A. Acevedo et al., Data in Brief 30 (2020) 105474, doi 10.1016/j.dib.2020.105474, CC BY 4.0; "
    "cut and made smaller."
)
USES = ("eight", "thirteen")


def cells_of(classes: tuple[str, ...], folder: str) -> Manifest:
    """Acevedo-20 in the division that has all types of a model."""
    for use in USES:
        cells = scan([f"acevedo20@{use}:{folder}"])
        if set(classes) <= set(cells.classes):
            return cells
    raise SystemExit(f"no division of Acevedo-20 has all of {', '.join(classes)}")


def main() -> None:
    """Write both files for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="models; all where none is named")
    parser.add_argument("--wbcatt", required=True, metavar="DIR")
    parser.add_argument("--acevedo20", required=True, metavar="DIR")
    options = parser.parse_args()
    described, progress = read_wbcatt(options.wbcatt, options.acevedo20), sys.stderr.isatty()
    for name in options.names or shipped_models():
        model = api.load(name)
        file = Path(model.file or "")
        probe(model.trained, described, progress=progress).save(probes_file(file))
        cells = cells_of(model.classes, options.acevedo20)
        index = index_cells(model.trained, cells, per_class=PER_CLASS, progress=progress)
        index = index.with_pictures(model.trained.framing)
        # Where the cells lay on the machine that this ran on is nobody's business.
        paths = tuple(Path(os.path.relpath(path, options.acevedo20)).as_posix() for path in index.paths)
        replace(index, paths=paths, credit=CREDIT).save(index_file(file))
        for written in (probes_file(file), index_file(file)):
            print(f"{written.name}: {written.stat().st_size:,} bytes", flush=True)


if __name__ == "__main__":
    main()
