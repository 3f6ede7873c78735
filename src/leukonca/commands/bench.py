"""``leukonca bench``: how fast the automaton runs on this machine, beside what else one could take."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jsonargparse import ArgumentParser, Namespace

from leukonca.commands.common import require_file
from leukonca.writing import write_text

if TYPE_CHECKING:
    from leukonca.assessment.speed.bench import Row

__all__ = ["HELP", "parser", "run"]

HELP: Final = "measure speed and memory on this machine"
_PARTS: Final = ("peak", "inference", "training", "memory", "networks", "scaling")
_QUICK_PARTS: Final = ("peak", "inference", "training")
_TITLES: Final = {
    "peak": "Peak of matrix products, measured",
    "inference": "Inference",
    "training": "Training step",
    "memory": "Peak memory for a picture",
    "networks": "Other networks",
    "scaling": "Growth with sites, steps, pictures, threads (preset base)",
}


def parser() -> ArgumentParser:
    """Return the parser of this command."""
    measuring = ArgumentParser(
        description="Measure, side by side and in turn, the paper's formulation as one would write it, the "
        "eager and the fused engine, and other networks (pip install 'leukonca[baselines]'): cells a second, "
        "memory for a picture, and the share of the machine's own peak in matrix products. Takes about ten "
        "minutes on two cores; let the machine do nothing else. Ctrl-C keeps what is finished."
    )
    measuring.add_argument("--out", type=str, metavar="FILE", help="JSON to write, after every piece anew")
    measuring.add_argument(
        "--only", nargs="+", metavar="PART", choices=_PARTS, help=f"some of the parts: {', '.join(_PARTS)}"
    )
    measuring.add_argument(
        "--presets", nargs="+", metavar="NAME", default=["paper", "base", "tiny"], help="of the automaton"
    )
    measuring.add_argument("--rounds", type=int, help="how often each is measured; 5, or 2 with --quick")
    measuring.add_argument("--threads", type=int, help="threads to use; by default all cores")
    measuring.add_argument(
        "--quick",
        action="store_true",
        help=f"rough figures in a minute: one batch size each, and only {', '.join(_QUICK_PARTS)} unless "
        "--only says otherwise",
    )
    return measuring


def run(args: Namespace) -> int:
    """Run the command."""
    if args.out:
        require_file("--out", Path(args.out))
    from leukonca.assessment.speed.bench import PARTS, Plan, bench, cores
    from leukonca.assessment.speed.machine import machine
    from leukonca.nca.architecture import preset

    wanted = args.only or (_QUICK_PARTS if args.quick else PARTS)
    plan = Plan(
        parts=tuple(part for part in PARTS if part in wanted),
        presets=tuple(args.presets),
        rounds=args.rounds if args.rounds is not None else 2 if args.quick else 5,
        threads=args.threads if args.threads is not None else cores(),
        quick=args.quick,
    )
    note: dict[str, Any] = {
        "machine": {**machine(), "threads": plan.threads},
        "presets": {name: preset(name).to_dict() for name in plan.presets},
        "quick": plan.quick,
        "rounds": plan.rounds,
        "seconds": 0.0,
        "finished": False,
        "parts": {},
    }
    start, part = time.monotonic(), ""
    try:
        for part, rows in bench(plan):
            if part not in note["parts"]:
                sys.stdout.write(f"\n{_TITLES[part]}\n")
            note["parts"].setdefault(part, []).extend(rows)
            sys.stdout.write(_table(rows))
            sys.stdout.flush()
            _keep(note, args.out, start)
    except KeyboardInterrupt:
        count = sum(map(len, note["parts"].values()))
        place = f" and in {args.out}" if args.out and count else ""
        raise KeyboardInterrupt(f"{count} rows are finished{place}") from None
    note["finished"] = True
    _keep(note, args.out, start)
    return 0


def _keep(note: dict[str, Any], out: str | None, start: float) -> None:
    note["seconds"] = round(time.monotonic() - start, 1)
    if out:
        write_text(out, json.dumps(note, indent=1) + "\n")


def _table(rows: Sequence[Row]) -> str:
    """Return rows as columns, each as wide as its widest entry; below, why something is left out."""
    heads = list(dict.fromkeys(head for row in rows for head in row if head != "left_out"))
    cells = [[_said(row.get(head)) for head in heads] for row in rows]
    titles = [head.replace("_", " ") for head in heads]
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
    lines = [
        "  ".join(entry.rjust(width) for entry, width in zip(line, widths, strict=True))
        for line in (titles, *cells)
    ]
    reasons = dict.fromkeys(row["left_out"] for row in rows if "left_out" in row)
    return "".join(f"{line}\n" for line in (*lines, *(f"left out: {reason}" for reason in reasons), ""))


def _said(value: Any) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
