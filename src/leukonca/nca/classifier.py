"""The whole model: rule × steps, pooling, head."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leukonca.errors import SettingError
from leukonca.nca.architecture import Architecture
from leukonca.nca.engines import EngineName, engine
from leukonca.nca.firing import Firing
from leukonca.nca.pooling import pooling
from leukonca.nca.rule import Rule

__all__ = ["CellClassifier", "Rollout"]


@dataclass(frozen=True)
class Rollout:
    """What an automaton made of a batch of pictures.

    Attributes:
        logits: [B, classes].
        pooled: [B, P], what the head saw; [B, 0] for the ``conv`` head, which sees the grid.
        state: [B, C, H, W] after the last step.
        states: The recorded states by the number of finished steps.
    """

    logits: Tensor
    pooled: Tensor
    state: Tensor
    states: dict[int, Tensor] = field(default_factory=dict)


class _ChannelsHead(nn.Module):
    """The pooled channels after those of the picture are the logits (SimpleNCA)."""

    def __init__(self, first: int, classes: int) -> None:
        super().__init__()
        self.first, self.classes = first, classes

    def forward(self, pooled: Tensor) -> Tensor:
        return pooled[:, self.first : self.first + self.classes]


def _mlp_head(pooled: int, hidden: int, classes: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(pooled, hidden), nn.ReLU(), nn.Linear(hidden, classes))


def _conv_head(channels: int, grid: int, classes: int) -> nn.Sequential:
    # ConvNCA: halve, then three times convolve and halve, then two layers.
    layers: list[nn.Module] = [nn.MaxPool2d(2)]
    for before, after in ((channels, 64), (64, 128), (128, 256)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Flatten(), nn.Linear(256 * (grid // 16) ** 2, 512), nn.ReLU(), nn.Linear(512, classes)]
    return nn.Sequential(*layers)


class CellClassifier(nn.Module):
    """A neural cellular automaton that names the cell of a picture.

    Args:
        architecture: Its shape.
        classes: Number of classes, at least 2.

    Raises:
        SettingError: Fewer than 2 classes, or more than the ``channels`` head has channels for.
    """

    def __init__(self, architecture: Architecture, classes: int) -> None:
        super().__init__()
        if classes < 2:
            raise SettingError(f"a classifier needs at least 2 classes, not {classes}")
        self.architecture, self.classes = architecture, classes
        self.rule = Rule(architecture.channels, architecture.hidden, architecture.inputs)
        self.pool, length = pooling(architecture.pooling, architecture.channels)
        self.pooled_length = 0 if architecture.head == "conv" else length
        self.head: nn.Module
        if architecture.head == "mlp":
            self.head = _mlp_head(length, architecture.head_hidden, classes)
        elif architecture.head == "conv":
            self.head = _conv_head(architecture.channels, architecture.grid, classes)
        else:
            if architecture.channels - architecture.inputs < classes:
                raise SettingError(
                    f"head='channels' has {architecture.channels - architecture.inputs} free channels "
                    f"for {classes} classes; raise channels"
                )
            self.head = _ChannelsHead(architecture.inputs, classes)
        self.engine: EngineName = "auto"

    @property
    def parameter_count(self) -> int:
        """Number of learned values."""
        return sum(parameter.numel() for parameter in self.parameters())

    def seed_state(self, pictures: Tensor) -> Tensor:
        """Return the state before the first step: the picture in the leading channels, zeros after it.

        Args:
            pictures: [B, 3, size, size], normalised. Other sides work where they are multiples of ``patch``
                and give at least 2 sites, except for the ``conv`` head.

        Returns:
            [B, C, size / patch, size / patch].

        Raises:
            SettingError: The pictures have another shape.
        """
        patch, shape = self.architecture.patch, list(pictures.shape)
        if len(shape) != 4 or shape[1] != 3 or any(side % patch or side < 2 * patch for side in shape[2:]):
            raise SettingError(
                f"pictures of shape {shape} do not fit; expected [B, 3, H, W] with H and W multiples of "
                f"patch={patch} and at least {2 * patch}"
            )
        patches = F.pixel_unshuffle(pictures, patch)
        return F.pad(patches, (0, 0, 0, 0, 0, self.architecture.channels - patches.shape[1]))

    def decide(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits [B, classes] and pooled vector [B, P] of a state [B, C, H, W]."""
        # The head is a thousandth of the work: always in full precision, also under autocast.
        with torch.autocast(state.device.type, enabled=False):
            state = state.float()
            if self.architecture.head == "conv":
                return self.head(state), state.new_zeros(len(state), 0)
            pooled = self.pool(state)
            return self.head(pooled), pooled

    def rollout(
        self,
        pictures: Tensor,
        images: Tensor,
        *,
        seed: int = 0,
        steps: int | None = None,
        firing: float | None = None,
        record: frozenset[int] = frozenset(),
        recompute: bool | None = None,
    ) -> Rollout:
        """Run the automaton.

        Args:
            pictures: [B, 3, size, size], normalised.
            images: int64 [B], the identity of each picture for the firing.
            seed: Firing seed.
            steps: Number of steps; ``None``: the architecture's.
            firing: Probability with which a site fires, in [0, 1]; ``None``: the architecture's.
            record: After how many finished steps to keep the state.
            recompute: See :func:`leukonca.nca.engines.eager.rollout`.

        Raises:
            SettingError: The pictures have another shape, there is not one identity for each, or ``firing``
                is out of its range.
        """
        if images.shape != pictures.shape[:1]:
            # Broadcasting would let every picture of the batch fire alike.
            raise SettingError(
                f"image identities of shape {list(images.shape)} do not fit {len(pictures)} pictures; "
                "give each one"
            )
        probability = self.architecture.firing if firing is None else firing
        state, states = engine(self.engine)(
            self.rule,
            self.seed_state(pictures),
            Firing(seed, images, probability),
            self.architecture.steps if steps is None else steps,
            record=record,
            recompute=recompute,
        )
        logits, pooled = self.decide(state)
        return Rollout(logits, pooled, state, states)

    def logits_and_features(self, pictures: Tensor, images: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Return the logits, [B, classes], and :meth:`features`, [B, F]; arguments as in :meth:`rollout`."""
        result = self.rollout(pictures, images, seed=seed)
        return result.logits, self.features(result.state)

    def features(self, state: Tensor) -> Tensor:
        """Return what a picture is told by, [B, F], of a state [B, C, H, W].

        The mean of each channel over the grid, then the hidden layer of the ``mlp`` or ``conv`` head. The
        hidden layer keeps only what tells the classes apart; the means see the rest, but little of what is
        small in a large field.
        """
        with torch.autocast(state.device.type, enabled=False):
            state = state.float()
            means = state.mean(dim=(2, 3))
            if not isinstance(self.head, nn.Sequential):
                return means
            seen: Tensor = state if self.architecture.head == "conv" else self.pool(state)
            return torch.cat((means, self.head[:-1](seen)), dim=1)

    def forward(
        self,
        pictures: Tensor,
        images: Tensor,
        seed: int = 0,
        *,
        steps: int | None = None,
        firing: float | None = None,
    ) -> Tensor:
        """Return the logits, [B, classes]; arguments as in :meth:`rollout`."""
        return self.rollout(pictures, images, seed=seed, steps=steps, firing=firing).logits
