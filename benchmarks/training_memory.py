"""Peak memory and speed of a training step of each preset and engine, each in a process of its own.

python benchmarks/training_memory.py --out benchmarks/results/training_memory.json
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from machine import machine

from leukonca.nca.architecture import PRESETS
from leukonca.nca.classifier import CellClassifier
from leukonca.nca.engines import auto


def measure(preset: str, batch: int, steps: int, precision: str) -> dict[str, Any]:
    torch.manual_seed(0)
    network = CellClassifier(PRESETS[preset], 13)
    optimizer = torch.optim.Adam(network.parameters())
    size = network.architecture.size
    pictures, images = torch.randn(batch, 3, size, size), torch.arange(batch)
    labels = torch.arange(batch) % 13
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for step in range(steps):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            loss = torch.nn.functional.cross_entropy(network(pictures, images, step), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "preset": preset,
        "engine": auto.choose()[0],
        "precision": precision,
        "batch": batch,
        "parameters": network.parameter_count,
        "peak_process_mb": round(peak / 1024),
        "peak_above_import_mb": round((peak - before) / 1024),
        "cells_per_second": round(batch / statistics.median(seconds[1:] or seconds), 2),
        "steps": steps,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", nargs=4, metavar=("PRESET", "BATCH", "STEPS", "PRECISION"))
    options = parser.parse_args()
    if options.one:
        preset, batch, steps, precision = options.one
        print(json.dumps(measure(preset, int(batch), int(steps), precision)))
        return
    rows = []
    for preset, steps in (("paper", 4), ("base", 12), ("tiny", 20)):
        for precision in ("float32", "bfloat16"):
            for engine in ("eager", "auto"):
                one = [sys.executable, __file__, "--one", preset, "16", str(steps), precision]
                chosen = {**os.environ, auto.VARIABLE: engine}
                done = subprocess.run(one, env=chosen, capture_output=True, text=True, check=True)
                rows.append(json.loads(done.stdout))
                print(rows[-1], file=sys.stderr)
    text = json.dumps({"machine": machine(), "rows": rows}, indent=2) + "\n"
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
