"""What is measured: who runs what, and for which task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leukonca.assessment.speed.straightforward import Straightforward
from leukonca.learning.baselines import Baseline
from leukonca.learning.shapes import BaselineShape, shape_of
from leukonca.nca.architecture import Architecture, preset
from leukonca.nca.classifier import CellClassifier
from leukonca.nca.engines import fused

__all__ = ["AUTOMATA", "CLASSES", "Case", "Precision", "Task", "job", "missing", "useful_flops"]

Task = Literal["inference", "training"]
Precision = Literal["float32", "bfloat16"]
CLASSES: Final = 13

AUTOMATA: Final = ("straightforward", "eager", "fused_fp32", "fused")
"""Who runs the automaton: the paper's formulation, and our engines by name."""


@dataclass(frozen=True)
class Case:
    """One thing to be measured.

    Attributes:
        contender: One of ``AUTOMATA``, or a baseline.
        model: A preset, or for a baseline the side of its picture, px.
        task: ``inference``, or ``training`` for a step of it: forward, backward, and the update by Adam.
        precision: Of the products.
        recompute: Whether our engines save memory in a training step; see
            :func:`leukonca.nca.engines.eager.rollout`.
    """

    contender: str
    model: str
    task: Task
    precision: Precision = "float32"
    recompute: bool | None = None

    @property
    def shape(self) -> Architecture | BaselineShape:
        """What is built."""
        if self.contender in AUTOMATA:
            return preset(self.model)
        return shape_of(self.contender, {"size": int(self.model)})

    def bytes_of(self, batch: int) -> int:
        """Return about how much memory it takes, where that may be too much; 0 where it will not."""
        shape = self.shape
        if not isinstance(shape, Architecture):
            return 0
        values = batch * shape.grid**2 * (4 * shape.channels + 2 * shape.hidden)
        # Of every step the straightforward training keeps about twice what the engines would keep of one.
        kept = 2 * shape.steps if self.contender == "straightforward" and self.task == "training" else 4
        return 4 * values * kept


def missing(contender: str) -> str:
    """Say why an automaton's contender cannot run here; empty where it can."""
    if contender.startswith("fused") and fused.status().library is None:
        return f"the fused engine does not run here: {fused.status().reason}"
    if contender == "fused" and not fused.status().level.half:
        return "this processor does not multiply bf16 natively; fused_fp32 is what runs"
    return ""


def _network(case: Case) -> nn.Module:
    shape = case.shape
    if isinstance(shape, BaselineShape):
        return Baseline(shape, CLASSES)
    network: nn.Module
    if case.contender == "straightforward":
        network = straightforward = Straightforward(shape, CLASSES)
        update = straightforward.fc1.weight
    else:
        network = ours = CellClassifier(shape, CLASSES)
        ours.engine = case.contender  # type: ignore[assignment]
        update = ours.rule.update_weight
    with torch.no_grad():
        # As of a trained automaton: one that does nothing could be faster by chance.
        update.uniform_(-0.05, 0.05)
    return network


def job(case: Case, batch: int) -> Callable[[], None]:
    """Return what does the work of a case once, for a batch of made-up pictures."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = _network(case)
        pictures = torch.randn(batch, 3, case.shape.size, case.shape.size)
    if isinstance(network, Baseline):
        # The layout that convolutions prefer on a processor.
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        pictures = pictures.contiguous(memory_format=torch.channels_last)
    images, labels = torch.arange(batch), torch.arange(batch) % CLASSES
    half = torch.autocast("cpu", torch.bfloat16, enabled=case.precision == "bfloat16")

    def logits() -> Tensor:
        if case.recompute is not None and isinstance(network, CellClassifier):
            return network.rollout(pictures, images, recompute=case.recompute).logits
        arguments = (pictures,) if case.contender == "straightforward" else (pictures, images)
        found: Tensor = network(*arguments)
        return found

    if case.task == "inference":
        network.eval()

        def infer() -> None:
            with torch.inference_mode(), half:
                logits()

        return infer
    network.train()
    optimizer = torch.optim.Adam(network.parameters())

    def train() -> None:
        with half:
            loss = F.cross_entropy(logits().float(), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return train


def useful_flops(shape: Architecture, task: Task) -> float:
    """Return the operations of the matrix products for one picture, counted on the sites that fire alone.

    Two for each multiplication with its addition. A training step has three times those of inference: a
    product forward has two backward. Perception, pooling and head are not counted.
    """
    products = 2 * (3 * shape.channels * shape.hidden + shape.hidden * shape.channels)
    return (3 if task == "training" else 1) * shape.steps * shape.grid**2 * shape.firing * products
