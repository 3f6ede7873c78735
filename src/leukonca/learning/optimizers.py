"""What turns gradients into steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Muon, Optimizer

from leukonca.nca.classifier import CellClassifier

__all__ = ["MuonWithAdamW", "make_optimizer"]


class MuonWithAdamW(Optimizer):
    """Muon for the matrices of an automaton's rule, AdamW for all else, as one optimizer.

    Muon (K. Jordan et al., 2024) makes each step of a matrix orthogonal, so that directions with small
    gradients are learnt as fast as those with large ones. The step has the size that AdamW's would have
    (J. Liu et al., arXiv 2502.16982, 2025), hence one learning rate for both.

    Args:
        network: Whose parameters are learnt.
        learning_rate: Of both.
        weight_decay: Of both.
    """

    def __init__(self, network: CellClassifier, learning_rate: float, weight_decay: float) -> None:
        matrices = [network.rule.hidden_weight, network.rule.update_weight]
        of_muon = {id(parameter) for parameter in matrices}
        rest = [parameter for parameter in network.parameters() if id(parameter) not in of_muon]
        common: dict[str, Any] = {"lr": learning_rate, "weight_decay": weight_decay}
        self._both: tuple[Optimizer, Optimizer] = (
            Muon(matrices, adjust_lr_fn="match_rms_adamw", **common),
            AdamW(rest, **common),
        )
        super().__init__([{"params": matrices}, {"params": rest}], common)
        self._share_groups()

    def _share_groups(self) -> None:
        # Schedules write the learning rate into the groups, from which the two have to read it.
        self.param_groups = [group for optimizer in self._both for group in optimizer.param_groups]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step with both; returns what ``closure`` returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for optimizer in self._both:
            optimizer.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return the states of both."""
        muon, adamw = self._both
        return {"muon": muon.state_dict(), "adamw": adamw.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the states of both from :meth:`state_dict`."""
        for name, optimizer in zip(("muon", "adamw"), self._both, strict=True):
            optimizer.load_state_dict(state_dict[name])
        self._share_groups()


def make_optimizer(name: str, network: nn.Module, learning_rate: float, weight_decay: float) -> Optimizer:
    """Return an optimizer by the name that the settings give it.

    Raises:
        ValueError: The name is unknown, or ``muon`` is asked for a network that is no automaton.
    """
    if name == "muon" and isinstance(network, CellClassifier):
        return MuonWithAdamW(network, learning_rate, weight_decay)
    kinds: dict[str, type[torch.optim.Adam]] = {"adam": torch.optim.Adam, "adamw": AdamW}
    if name not in kinds:
        raise ValueError(f"no optimizer {name!r} for a {type(network).__name__}")
    return kinds[name](network.parameters(), lr=learning_rate, weight_decay=weight_decay)
