"""Running the automaton of a trained model so that its states can be looked at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from leukonca.errors import ModelError, SettingError
from leukonca.learning.trained import TrainedModel
from leukonca.nca.classifier import CellClassifier
from leukonca.nca.engines import engine
from leukonca.nca.firing import Firing

__all__ = ["automaton_of", "mean_states", "require_seeds", "states_of"]

Floats = npt.NDArray[np.float32]


def automaton_of(model: TrainedModel, purpose: str) -> CellClassifier:
    """Return the automaton of a model, ready to be used.

    Args:
        model: The model.
        purpose: What it is wanted for, for the message.

    Raises:
        ModelError: Its network is no automaton, so that there are no states to look at.
    """
    network = model.network
    if not isinstance(network, CellClassifier):
        raise ModelError(
            f"{purpose} looks at the states of an automaton, but this model is a {type(network).__name__}; "
            "take a model with a preset such as 'base'"
        )
    return network.eval()


def require_seeds(seeds: int) -> None:
    """Refuse a number of firing seeds that is none.

    Raises:
        SettingError: ``seeds`` is below 1.
    """
    if seeds < 1:
        raise SettingError(f"seeds={seeds} must be at least 1")


def states_of(
    model: TrainedModel,
    pictures: npt.NDArray[np.uint8],
    images: npt.NDArray[np.int64],
    steps: Iterable[int],
    *,
    seeds: int,
    purpose: str,
) -> Iterator[dict[int, Tensor]]:
    """Run the steps of the automaton, and not its head.

    Args:
        model: The model.
        pictures: Framed pictures, uint8 [B, H, W, 3]; another size than the model's own works where its
            sides are multiples of the automaton's patch.
        images: Identities of the pictures, int64 [B].
        steps: After how many finished steps states are wanted.
        seeds: Firing seeds 0 … ``seeds`` - 1, at least 1.
        purpose: What they are wanted for, for messages.

    Yields:
        For each firing seed that matters float32 [B, C, rows, columns] by step.

    Raises:
        ModelError: The network is no automaton.
        SettingError: ``seeds`` is below 1, or the size does not fit.
    """
    require_seeds(seeds)
    network, wanted = automaton_of(model, purpose), frozenset(steps)
    ids = torch.from_numpy(np.ascontiguousarray(images)).to(model.device)
    with torch.inference_mode():
        start = network.seed_state(model.normalised(pictures))
    for seed in model.firing_seeds(seeds):
        firing = Firing(seed, ids, network.architecture.firing)
        with torch.inference_mode():
            _, states = engine(network.engine)(network.rule, start, firing, max(wanted), record=wanted)
        yield states


def mean_states(
    model: TrainedModel,
    pictures: npt.NDArray[np.uint8],
    images: npt.NDArray[np.int64],
    step: int,
    *,
    seeds: int,
    purpose: str,
) -> Floats:
    """Return the states after one step, averaged over firing seeds: what chance adds cancels out.

    Arguments and errors are those of :func:`states_of`.

    Returns:
        float32 [B, C, rows, columns].
    """
    runs = states_of(model, pictures, images, [step], seeds=seeds, purpose=purpose)
    total = torch.stack([states[step] for states in runs]).mean(dim=0)
    mean: Floats = total.float().cpu().numpy()
    return mean
