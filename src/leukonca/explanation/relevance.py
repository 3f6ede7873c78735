"""Relevance through the whole automaton, down to the colours of every pixel.

:func:`relevance` takes a target (a logit, or a contrast of logits) apart into shares: so much of it comes
from this pixel, so much was already there without the cell. The rules of a layer are in
:mod:`leukonca.explanation.rules`; what is propagated is chosen here:

``reference`` (the default)
    What the picture adds to the empty field of its own slide
    (:func:`leukonca.explanation.removal.clear_field`). The cell is put together in two halves of random
    patches of pixels, then the other way round, and each time the relevance of what was added is
    propagated; the result is the mean. A part is so judged both beside the rest of the cell and without it.
    It is the Shapley value's idea (Shapley 1953; Lundberg and Lee, NeurIPS 2017) with the two orders of two
    players for each firing seed, and propagation where the Shapley value would try all orders of all pixels.
``epsilon``
    The classical rule, against zero in every layer; kept for comparison. With a small epsilon it is gradient
    times input, which is mostly noise after many steps; a large one damps the noise, and what is sought.

Relevance at the input and what was absorbed on the way sum to the explained number. That is no tautology:
absorbed shares are computed from the terms that take them (the target of the empty field, biases,
stabilisers, quadratures), never by subtraction.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Final, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from leukonca.errors import SettingError
from leukonca.explanation.relevance_head import back_through_head, back_through_pooling, require_explainable
from leukonca.explanation.relevance_steps import Legs, Run
from leukonca.explanation.removal import clear_field, erase, halves, spread_patches
from leukonca.explanation.target import Target
from leukonca.nca.classifier import CellClassifier

__all__ = ["EPSILON", "PATCH", "SEEDS", "Relevance", "Rule", "relevance", "relevance_of_classes"]

Rule = Literal["reference", "epsilon"]

SEEDS: Final = 8
"""Over how many firing seeds an explanation is averaged. A prediction needs fewer: here the halves, which
each seed draws anew, leave chance of their own."""

PATCH: Final = 4
"""Side in pixels of the patches that a picture is halved into."""

EPSILON: Final = 1.0
"""Of the epsilon rule, in units of the root mean square of a layer's values."""


@dataclass(frozen=True, eq=False)
class Relevance:
    """A target taken apart, for B pictures; all means over the firing seeds.

    Attributes:
        value: [B], the number that is explained.
        pixels: [B, 3, S, S], relevance of the three colours of every pixel, in the unit of ``value``
            (logits). Positive speaks for the class, negative against it.
        by_channel: [B, steps + 1, C], relevance of each channel of the state after t finished steps, summed
            over sites. What is in the picture's own channels has arrived at the input.
        by_site: [B, steps + 1, H, W], the same of each site, summed over channels.
        pooled: [B, P], relevance of the pooled values, in their order.
        background: [B], what the model says of the empty field; 0 for the rule ``epsilon``.
        bias: [B, steps + 1], what biases took in step t; last in pooling and head.
        stabiliser: [B, steps + 1], the same of epsilon.
        remainder: [B, steps + 1], the same of what the rules leave over: the entropy of the other classes
            (rule ``epsilon``) and the error of quadratures.
        origin: int64 [seeds, B, C], in which site (row · W + column) each channel has its maximum after the
            last step, for each firing seed.
    """

    value: Tensor
    pixels: Tensor
    by_channel: Tensor
    by_site: Tensor
    pooled: Tensor
    background: Tensor
    bias: Tensor
    stabiliser: Tensor
    remainder: Tensor
    origin: Tensor

    def minus(self, other: Relevance) -> Relevance:
        """Return the relevance of the difference of two values of the same pictures.

        Every rule is linear in what is explained, so that the relevance of a difference is the difference.
        """
        parts = {
            one.name: getattr(self, one.name) - getattr(other, one.name)
            for one in fields(Relevance)
            if one.name != "origin"
        }
        return Relevance(**parts, origin=self.origin)

    @property
    def map(self) -> Tensor:
        """Signed relevance of each pixel, [B, S, S]: the sum of its colours."""
        return self.pixels.sum(1)

    @property
    def absorbed(self) -> Tensor:
        """All that did not arrive at the input, [B]."""
        return self.background + (self.bias + self.stabiliser + self.remainder).sum(1)

    @property
    def completeness_error(self) -> Tensor:
        """How far input and absorbed shares miss the value, relative to max(1, |value|); [B]."""
        total = self.pixels.flatten(1).sum(1) + self.absorbed
        return (total - self.value).abs() / self.value.abs().clamp(min=1)


@torch.no_grad()
def relevance(
    network: CellClassifier,
    pictures: Tensor,
    images: Tensor,
    target: Target,
    *,
    rule: Rule = "reference",
    seeds: int = SEEDS,
    first_seed: int = 0,
    patch: int = PATCH,
    epsilon: float = EPSILON,
    exact: bool = False,
    batch: int = 8,
    progress: bool = False,
) -> Relevance:
    """Take a target apart into the relevance of every pixel.

    The result of a picture does not depend on the others (to the rounding of sums).

    Args:
        network: The automaton.
        pictures: float32 [B, 3, S, S], normalised by the model (``TrainedModel.normalised``).
        images: int64 [B], their identities, which decide firing and halves.
        target: What is explained.
        rule: ``reference`` or ``epsilon``; see the module.
        seeds: How many firing seeds to average over; each has its own halves.
        first_seed: The first of them.
        patch: Side of the patches that a picture is halved into, px; for ``reference``.
        epsilon: For ``epsilon``, relative to the values of a layer.
        exact: Compute in float64, to prove that nothing gets lost; float32 serves for use.
        batch: Pictures at a time. One takes about ``16 · √steps`` states of memory.
        progress: Whether to show a progress bar.

    Raises:
        SettingError: The network is no automaton or has the ``conv`` head, a value is out of its range, or
            shapes do not fit.
    """
    (found,) = _relevance_of_each(
        network, pictures, images, [target], rule, seeds, first_seed, patch, epsilon, exact, batch, progress
    )
    return found


@torch.no_grad()
def relevance_of_classes(
    network: CellClassifier,
    pictures: Tensor,
    images: Tensor,
    classes: Tensor,
    *,
    seeds: int = SEEDS,
    first_seed: int = 0,
    patch: int = PATCH,
    batch: int = 8,
) -> list[Relevance]:
    """Take the logits of several classes apart, which takes less time than one after the other.

    The automaton runs once for all of them, forwards, and so do the steps that are computed again.

    Args:
        network: See :func:`relevance`, as for the other arguments; the rule is ``reference``.
        pictures: See there.
        images: See there.
        classes: int64 [n, B], n classes of each picture.
        seeds: See there.
        first_seed: See there.
        patch: See there.
        batch: See there.

    Returns:
        n results, each for all pictures. Their differences are contrasts (:meth:`Relevance.minus`).

    Raises:
        SettingError: See there.
    """
    targets = [Target("logit", one) for one in classes]
    return _relevance_of_each(
        network,
        pictures,
        images,
        targets,
        "reference",
        seeds,
        first_seed,
        patch,
        EPSILON,
        False,
        batch,
        False,
    )


def _relevance_of_each(
    network: CellClassifier,
    pictures: Tensor,
    images: Tensor,
    targets: Sequence[Target],
    rule: Rule,
    seeds: int,
    first_seed: int,
    patch: int,
    epsilon: float,
    exact: bool,
    batch: int,
    progress: bool,
) -> list[Relevance]:
    """One result for each target, which are all of one kind."""
    require_explainable(network)
    for target in targets:
        _require(network, pictures, images, target, rule, seeds, patch, epsilon, batch)
    if exact:
        network, pictures = copy.deepcopy(network).double(), pictures.double()
    parts: list[list[Relevance]] = []
    with tqdm(total=len(pictures), desc="relevance", unit=" cells", disable=not progress) as bar:
        for start in range(0, len(pictures), batch):
            rows = slice(start, start + batch)
            chunk = pictures[rows], images[rows], [target.rows(rows) for target in targets]
            several = [
                _relevance(network, *chunk, rule, seed, patch, epsilon if rule == "epsilon" else 0.0)
                for seed in range(first_seed, first_seed + seeds)
            ]
            parts.append([_mean(list(of_one)) for of_one in zip(*several, strict=True)])
            bar.update(len(chunk[0]))
    return [_joined(list(of_one)) for of_one in zip(*parts, strict=True)]


def _joined(parts: list[Relevance]) -> Relevance:
    """The pictures of several results in one."""
    return Relevance(
        *(
            torch.cat([getattr(part, one.name) for part in parts], dim=1 if one.name == "origin" else 0)
            for one in fields(Relevance)
        )
    )


def _relevance(
    network: CellClassifier,
    pictures: Tensor,
    images: Tensor,
    targets: Sequence[Target],
    rule: Rule,
    seed: int,
    patch: int,
    epsilon: float,
) -> list[Relevance]:
    count = len(pictures)
    rows = torch.arange(count)
    if rule == "epsilon":
        stages, legs, share = [pictures], Legs(rows, None), 1.0
    else:
        stages = [pictures, *_stages(pictures, images, seed, patch)]
        whole, field, half, other = (rows + k * count for k in range(4))
        # Field → half → whole, and field → other half → whole: each leg counts for one of two ways.
        legs = Legs(torch.cat((half, whole, other, whole)), torch.cat((field, half, field, other)))
        share = 0.5
    ways, several = len(stages), len(targets)  # as many legs as stages: one, or four
    # All legs once for each target, those of the first target first.
    legs = Legs(legs.after.repeat(several), None if legs.before is None else legs.before.repeat(several))

    def joined(values: Tensor) -> Tensor:
        return values.reshape(several, ways, count, *values.shape[1:]).sum(1) * share

    run = Run(network, torch.cat(stages), images.repeat(ways), seed)
    pooled = network.pool(run.last)
    on_legs = _all_of([target.rows(rows.repeat(ways)) for target in targets])
    values = on_legs.value(network.head(pooled).repeat(several, 1)).reshape(several, ways, count)
    of_pooled, in_head = back_through_head(network, on_legs, *legs.ends(pooled), epsilon=epsilon)
    of_last, in_pool = back_through_pooling(network.pool, of_pooled, *legs.ends(run.last), epsilon=epsilon)
    absorbed = [in_head + in_pool]
    now = joined(of_last * legs.difference(run.last))
    by_channel, by_site = [now.sum((3, 4))], [now.sum(2)]
    for _, relevance_before, in_step in run.back(of_last, legs, epsilon):
        now = joined(relevance_before)
        by_channel.insert(0, now.sum((3, 4)))
        by_site.insert(0, now.sum(2))
        absorbed.insert(0, in_step)
    value = values[:, 0]
    parts = {
        "value": value,
        "pixels": F.pixel_shuffle(now[:, :, : network.architecture.inputs], network.architecture.patch),
        "by_channel": torch.stack(by_channel, dim=2),
        "by_site": torch.stack(by_site, dim=2),
        "pooled": joined(of_pooled * legs.difference(pooled)),
        "background": values[:, 1] if rule == "reference" else torch.zeros_like(value),
        "bias": torch.stack([joined(part.bias) for part in absorbed], dim=2),
        "stabiliser": torch.stack([joined(part.stabiliser) for part in absorbed], dim=2),
        "remainder": torch.stack([joined(part.remainder) for part in absorbed], dim=2),
    }
    origin = run.last[:count].flatten(2).argmax(2)[None]
    return [
        Relevance(**{name: values[number] for name, values in parts.items()}, origin=origin)
        for number in range(several)
    ]


def _all_of(targets: Sequence[Target]) -> Target:
    """Targets of one kind as one, those of the first first."""
    others = [target.others for target in targets if target.others is not None]
    classes = torch.cat([target.classes for target in targets])
    return Target(targets[0].kind, classes, torch.cat(others) if others else None)


def _stages(pictures: Tensor, images: Tensor, order: int, patch: int) -> Iterator[Tensor]:
    """The empty field, and the picture with one and with the other half of its patches in that field."""
    field = clear_field(pictures)
    height, width = pictures.shape[2:]
    chosen = halves(images, order, height // patch, width // patch)
    half = spread_patches(chosen.flatten(1), height, width, patch)
    yield field
    yield erase(pictures, ~half, field)
    yield erase(pictures, half, field)


def _mean(several: list[Relevance]) -> Relevance:
    means = {
        one.name: torch.stack([getattr(part, one.name) for part in several]).mean(0)
        for one in fields(Relevance)
        if one.name != "origin"
    }
    return Relevance(**means, origin=torch.cat([part.origin for part in several]))


def _require(
    network: CellClassifier,
    pictures: Tensor,
    images: Tensor,
    target: Target,
    rule: Rule,
    seeds: int,
    patch: int,
    epsilon: float,
    batch: int,
) -> None:
    if rule not in get_args(Rule):
        raise SettingError(f"rule={rule!r} is unknown; known: {', '.join(get_args(Rule))}")
    for name, value in (("seeds", seeds), ("patch", patch), ("batch", batch)):
        if value < 1:
            raise SettingError(f"{name}={value} must be at least 1")
    if not 0 <= epsilon < float("inf"):
        raise SettingError(f"epsilon={epsilon} must be a finite number of at least 0")
    if not len(pictures):
        raise SettingError("there is no picture to explain; give at least one")
    if not len(pictures) == len(images) == len(target):
        raise SettingError(
            f"{len(pictures)} pictures, {len(images)} identities and {len(target)} targets do not fit; "
            "give each picture one of both"
        )
    network.seed_state(pictures[:0])  # refuses other shapes
    if any(side % patch for side in pictures.shape[2:]):
        raise SettingError(f"patch={patch} px does not divide pictures of {tuple(pictures.shape[2:])} px")
