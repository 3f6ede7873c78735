"""``leukonca import-published``: the paper's released checkpoints as leukonca models."""

from __future__ import annotations

import sys
from typing import Final

from jsonargparse import ArgumentParser, Namespace

__all__ = ["HELP", "parser", "run"]

HELP: Final = "convert a checkpoint that the paper's authors released"


def parser() -> ArgumentParser:
    """Return the parser of this command."""
    importing = ArgumentParser(
        description="Convert a state dict of Deutges et al. (MICCAI 2024) into a leukonca model. No code in "
        "the file is run. The released code normalises with the statistics of the pictures that it is tested "
        "on, so a checkpoint brings none: give the mean and spread of its training set, or accept the "
        "normalisation of each picture by itself."
    )
    importing.add_argument("state_dict", type=str, metavar="STATE_DICT", help="the released file")
    importing.add_argument("--out", type=str, metavar="FILE", required=True, help="model file (.safetensors)")
    importing.add_argument("--steps", type=int, default=64, help="steps that it was trained with")
    importing.add_argument("--firing", type=float, default=0.5, help="firing probability")
    importing.add_argument("--size", type=int, default=64, help="side of the input, px")
    importing.add_argument(
        "--mean", type=float, nargs=3, metavar=("R", "G", "B"), help="of the training pictures, in 0–1"
    )
    importing.add_argument(
        "--std", type=float, nargs=3, metavar=("R", "G", "B"), help="of the training pictures, in 0–1"
    )
    return importing


def run(args: Namespace) -> int:
    """Run the command."""
    from leukonca.learning.imported import import_published

    model = import_published(
        args.state_dict,
        args.out,
        steps=args.steps,
        firing=args.firing,
        size=args.size,
        mean=args.mean,
        std=args.std,
    )
    sys.stdout.write(
        f"{args.out}: {model.network.parameter_count:,} parameters, {len(model.classes)} classes, "
        f"normalisation: {model.normalisation}\n"
    )
    return 0
