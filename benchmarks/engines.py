"""Speed of the engines side by side, interleaved, for inference and for a training step of each preset.

python benchmarks/engines.py --out benchmarks/results/engines.json

`straightforward` is the paper's formulation as one would write it, step by step in PyTorch. Besides the time
that passed, the time that the processor worked is given: its ratios hold on a busy machine too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from machine import machine
from torch import Tensor

from leukonca.nca.architecture import PRESETS
from leukonca.nca.engines import eager, fused
from leukonca.nca.firing import Firing, fires
from leukonca.nca.rule import Rule


def straightforward(rule: Rule, state: Tensor, firing: Firing, steps: int) -> tuple[Tensor, None]:
    for step in range(steps):
        state = rule(state, fires(firing, step, *state.shape[2:]))
    return state, None


def fused_bf16(rule: Rule, state: Tensor, firing: Firing, steps: int) -> tuple[Tensor, Any]:
    with torch.autocast("cpu", torch.bfloat16):
        return fused.rollout(rule, state, firing, steps)


ENGINES: dict[str, Callable[..., tuple[Tensor, Any]]] = {
    "straightforward": straightforward,
    "eager": eager.rollout,
    "fused_fp32": fused.exact_rollout,
    "fused": fused_bf16,
}


def measure(preset: str, batch: int, repeats: int, *, training: bool) -> list[dict[str, Any]]:
    shape = PRESETS[preset]
    torch.manual_seed(0)
    rule = Rule(shape.channels, shape.hidden, shape.inputs)
    with torch.no_grad():
        rule.update_weight.uniform_(-0.05, 0.05)
    state = torch.randn(batch, shape.channels, shape.grid, shape.grid)
    firing = Firing(0, torch.arange(batch), shape.firing)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ENGINES}
    for repeat in range(repeats + 1):
        for name, run in ENGINES.items():
            start = time.perf_counter(), time.process_time()
            with torch.set_grad_enabled(training):
                last, _ = run(rule, state, firing, shape.steps)
            if training:
                last.square().mean().backward()
            del last
            if repeat:  # the first is to warm up
                taken[name].append((time.perf_counter() - start[0], time.process_time() - start[1]))
    rows = []
    for name, times in taken.items():
        wall, work = (statistics.median(column) for column in zip(*times, strict=True))
        row = {"preset": preset, "training": training, "batch": batch, "engine": name}
        row |= {"cells_per_second": batch / wall, "cells_per_processor_second": batch / work}
        first = rows[0] if rows else row
        for figure in ("cells_per_second", "cells_per_processor_second"):
            row[figure.replace("cells", "ratio")] = round(row[figure] / first[figure], 2)
        rows.append(row)
        print(row, file=sys.stderr, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--presets", nargs="+", default=["paper", "base", "tiny"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    rows = [
        row
        for preset in options.presets
        for training in (False, True)
        # The straightforward training step of `paper` keeps two gigabytes for a picture.
        for row in measure(
            preset, min(options.batch, 2 if preset == "paper" else 64), options.repeats, training=training
        )
    ]
    level = fused.status().level.name
    facts = {"machine": machine(), "level": level, "threads": torch.get_num_threads(), "rows": rows}
    text = json.dumps(facts, indent=2) + "\n"
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
