"""Make the embedded cells of `leukonca.cells.embedded` from the Acevedo-20 image set.

    python tools/make_embedded_cells.py --source PATH/TO/acevedo20

The choice is by a hash of the seed and the file's name, so it is the same on every machine, with every
version of every library, and nobody picked the cells by eye. (The bytes of the JPEG files may differ with
the version of libjpeg; the pixels differ by a grey level or two at most.)
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from leukonca.cells.decode import content_hash, decode
from leukonca.cells.framing import Framing, frame
from leukonca.errors import LeukoncaError

SEED = "leukonca embedded cells 1"
SIZE = 96
QUALITY = 90
SPLIT = {"train": 40, "val": 6, "test": 14}
LABEL_OF_FOLDER = {
    "basophil": "basophil",
    "eosinophil": "eosinophil",
    "erythroblast": "erythroblast",
    "ig": "immature_granulocyte",
    "lymphocyte": "lymphocyte",
    "monocyte": "monocyte",
    "neutrophil": "neutrophil",
    "platelet": "platelet",
}
OUT = Path(__file__).resolve().parents[1] / "src" / "leukonca" / "cells" / "embedded_cells"

ATTRIBUTION = """\
# Embedded cells: where they come from

The {number} pictures in this folder are taken from

> A. Acevedo, A. Merino, S. Alférez, Á. Molina, L. Boldú, J. Rodellar:
> A dataset of microscopic peripheral blood cell images for development of automatic recognition systems.
> Data in Brief 30 (2020) 105474, doi:10.1016/j.dib.2020.105474.
> Data: Mendeley Data, doi:10.17632/snkd93bnjr.1 (PBC_dataset_normal_DIB), Hospital Clínic de Barcelona.

They are licensed under the Creative Commons Attribution 4.0 International licence (CC BY 4.0,
https://creativecommons.org/licenses/by/4.0/), unlike the rest of this package. The authors of the image set
do not endorse this use.

Changes made: {each} cells of each of the eight folders were chosen at random and divided into
training, validation and test cells; each picture (360 × 363 pixels as published, halved in the copy
that was used) was cut to its central square, resized to {size} × {size} pixels and saved again as JPEG
(quality {quality}, no chroma subsampling). Each keeps the name of its original file.

Made by `tools/make_embedded_cells.py` of the project's repository. The cells let leukonca run at once after
installation; they are far too few to train a model for any other use.
"""


def ordered(folder: Path) -> list[Path]:
    """Return the pictures of a folder in an order that depends on nothing but the seed and their names."""
    return sorted(
        folder.glob("*.jpg"),
        key=lambda file: hashlib.sha256(f"{SEED}/{folder.name}/{file.name}".encode()).digest(),
    )


def chosen(source: Path) -> Iterator[tuple[str, str, Path]]:
    """Yield label, split and file of each embedded cell; no picture comes twice."""
    seen: set[str] = set()
    for folder, label in LABEL_OF_FOLDER.items():
        files = iter(ordered(source / folder))
        for split, wanted in SPLIT.items():
            for _ in range(wanted):
                for file in files:
                    digest = content_hash(decode(file))
                    if digest not in seen:
                        seen.add(digest)
                        yield label, split, file
                        break
                else:
                    sys.exit(f"{source / folder} has too few different *.jpg; is it Acevedo-20?")


def make(source: Path, out: Path) -> int:
    """Write the cells, their table and their attribution into ``out``; return how many there are."""
    fresh = out.with_name(out.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    rows = []
    for label, split, file in chosen(source):
        path = f"{label}/{file.stem}.jpg"
        (fresh / label).mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(frame(decode(file), Framing(SIZE)))
        picture.save(fresh / path, quality=QUALITY, subsampling=0, optimize=True)
        rows.append((path, label, split, "acevedo20"))
    with open(fresh / "cells.csv", "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("path", "label", "split", "source"))
        writer.writerows(sorted(rows))
    text = ATTRIBUTION.format(number=len(rows), each=sum(SPLIT.values()), size=SIZE, quality=QUALITY)
    (fresh / "ATTRIBUTION.md").write_text(text, encoding="utf-8", newline="\n")
    shutil.rmtree(out, ignore_errors=True)
    os.replace(fresh, out)
    return len(rows)


def main() -> None:
    """Read the command line and do it."""
    parser = argparse.ArgumentParser(description="Make the embedded cells from Acevedo-20.")
    parser.add_argument("--source", type=Path, required=True, help="folder with one folder per class")
    parser.add_argument("--out", type=Path, default=OUT, help="folder to replace (default: the package's)")
    options = parser.parse_args()
    try:
        number = make(options.source, options.out)
    except LeukoncaError as error:
        sys.exit(str(error))
    size = sum(file.stat().st_size for file in options.out.rglob("*") if file.is_file())
    print(f"{number} cells, {size / 1e6:.2f} MB, in {options.out}")


if __name__ == "__main__":
    main()
