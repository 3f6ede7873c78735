"""How well the attributes of WBCAtt are read from an automaton's channels, and the probes that read them.

    python benchmarks/morphology.py MODEL --wbcatt DIR --acevedo20 DIR --out FILE.json [--probes FILE]

The figures are those of the part morphology of `leukonca explain-check`, see
leukonca.explanation.proof.reading; this also writes the probes. Ctrl-C loses some seconds: the same command
goes on, with what it kept beside FILE.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from machine import machine
from tqdm import tqdm

import leukonca
from leukonca.explanation.probing import read_wbcatt
from leukonca.explanation.proof.keeping import Kept
from leukonca.explanation.proof.reading import SETS, morphology, morphology_work
from leukonca.explanation.proof.settings import Bench, Sizes
from leukonca.explanation.storage import fingerprint
from leukonca.writing import write_text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--wbcatt", required=True, metavar="DIR")
    parser.add_argument("--acevedo20", required=True, metavar="DIR")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--probes", type=Path, help="also write the probes, for explanations")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    model = leukonca.load(options.model).trained
    cells = read_wbcatt(options.wbcatt, options.acevedo20)
    kept = Kept(options.out.with_suffix(".kept"), {"model": fingerprint(model)})
    with tqdm(total=morphology_work(len(cells.paths)), desc="morphology", unit=" cells", disable=None) as bar:
        bench = Bench(model, kept, Sizes(), bar.update)
        found = morphology(bench, cells, seeds=options.seeds, probes=options.probes)
    note = {"machine": machine(), "model": Path(options.model).name, "framing": repr(model.framing)}
    write_text(options.out, json.dumps(note | found, indent=1) + "\n")
    for part in SETS:
        for name, values in found.get(part, {}).items():
            mean = values["mean"]
            print(f"{part:7} {name:13} {mean['value']:.3f} ({mean['low']:.3f} to {mean['high']:.3f})")


if __name__ == "__main__":
    main()
