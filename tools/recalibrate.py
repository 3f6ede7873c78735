"""Calibrate the models of the package anew, each in its place; their weights stay as they are.

    python tools/recalibrate.py --cells ../shared/data

For models that were trained with a version that fitted less, or other things, than this one. ``--cells`` is
the folder with ``acevedo20``, whose pictures they were trained on: each model recognises its own.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from leukonca import api

MODELS = Path(__file__).resolve().parents[1] / "src" / "leukonca" / "delivery" / "models"


def main() -> None:
    """Calibrate all models, or those that are named."""
    names = sorted(file.stem for file in MODELS.glob("*.md"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}; all by default")
    parser.add_argument("--cells", type=Path, required=True, help="folder with acevedo20")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if unknown := set(options.names) - set(names):
        parser.error(f"no such model: {', '.join(sorted(unknown))}")
    for name in options.names or names:
        file = MODELS / f"{name}.safetensors"
        use = "acevedo20@thirteen" if name.endswith("-thirteen") else "acevedo20"
        api.load(file).calibrate(f"{use}:{options.cells / 'acevedo20'}", progress=True).save(file)
        sys.stdout.write(f"{file.name}: {file.stat().st_size} bytes\n")


if __name__ == "__main__":
    main()
