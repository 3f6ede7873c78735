"""Everything that is known of one decision, put together: what was called, why, and how it came about.

The call is that of ``classify``: probabilities averaged over its firing seeds, calibrated where the model is.
The explained number is a logit: that of the explained class (what speaks for it at all), and its difference
from that of another class (why this and not that); see :mod:`leukonca.explanation.relevance`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from leukonca.assessment.prediction import AMBIGUOUS, FOREIGN
from leukonca.cells.decode import content_hash
from leukonca.cells.framing import frame, window
from leukonca.errors import SettingError
from leukonca.explanation.automaton import automaton_of, require_seeds
from leukonca.explanation.channels import ChannelExplanation, explain_channels
from leukonca.explanation.evolution import Evolution, evolve
from leukonca.explanation.morphology import Morphology, Reading
from leukonca.explanation.relevance import PATCH, SEEDS, Relevance, relevance_of_classes
from leukonca.explanation.relevance_head import require_explainable
from leukonca.explanation.segmentation import Segmentation, segment
from leukonca.explanation.similar import CellIndex, Neighbour
from leukonca.explanation.storage import require_same_model
from leukonca.explanation.target import Target
from leukonca.learning.trained import TrainedModel
from leukonca.nca.firing import image_id

__all__ = ["NEIGHBOURS", "TOP", "Call", "CellExplanation", "Explainer"]

TOP: Final = 6
"""How many channels are shown."""

NEIGHBOURS: Final = 5
"""How many similar cells are shown."""

Picture = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Call:
    """What ``classify`` says of a cell.

    Attributes:
        probabilities: float64 [K], calibrated where the model is.
        spread: Standard deviation of the highest probability over the firing seeds; NaN where unknown.
        likely: Numbers of the classes in its prediction set; ``None`` for a model without calibration.
        familiarity: Share of held-out cells that are at least as unlike the training cells; ``None`` where
            the model cannot tell.
        foreign: Whether it is so unlike them that it is not named.
    """

    probabilities: Floats
    spread: float
    likely: tuple[int, ...] | None = None
    familiarity: float | None = None
    foreign: bool = False

    @property
    def winner(self) -> int:
        """Number of the most probable class."""
        return int(self.probabilities.argmax())

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why a person has to look at the cell, as in the table of ``classify``."""
        doubtful = self.likely is not None and len(self.likely) != 1
        return (*([AMBIGUOUS] if doubtful else []), *([FOREIGN] if self.foreign else []))


@dataclass(frozen=True, eq=False)
class CellExplanation:
    """One explained cell.

    Attributes:
        classes: Names of the K classes.
        picture: As decoded, uint8 [H, W, 3].
        framed: What the model sees, uint8 [S, S, 3].
        place: Where that lies in the picture: left, top, width and height, px.
        hash: Content hash of the picture.
        call: What the cell is called.
        explained: Number of the class that is explained.
        against: Number of the class that it is held against.
        relevance: Of the logit of the explained class, for one picture.
        contrast: Of the difference of both logits, for one picture.
        channels: The paper's explanation of the same logit, for one picture.
        evolution: The channels that speak most for the class, and all probabilities, over the steps.
        outline: The mask of cell and nucleus.
        reading: The cell in words; ``None`` without probes, or where these know no cells of the type that it
            is called.
        neighbours: Similar cells; ``None`` without an index.
    """

    classes: tuple[str, ...]
    picture: Picture
    framed: Picture
    place: tuple[float, float, float, float]
    hash: str
    call: Call
    explained: int
    against: int
    relevance: Relevance
    contrast: Relevance
    channels: ChannelExplanation
    evolution: Evolution
    outline: Segmentation
    reading: Reading | None
    neighbours: list[Neighbour] | None

    def seen(self, mask: Mask) -> Mask:
        """Return a mask of the picture, bool [H, W], at the pixels that the model sees, bool [S, S].

        Outside the picture it is false.
        """
        left, top, across, down = self.place
        side = len(self.framed)
        at = (np.arange(side) + 0.5) / side
        rows, columns = (np.floor(start + at * extent) for start, extent in ((top, down), (left, across)))
        inside = ((rows >= 0) & (rows < mask.shape[0]))[:, None] & (
            (columns >= 0) & (columns < mask.shape[1])
        )
        near = (
            rows.clip(0, mask.shape[0] - 1).astype(np.int64),
            columns.clip(0, mask.shape[1] - 1).astype(np.int64),
        )
        seen: Mask = mask[np.ix_(*near)] & inside
        return seen

    def shares(self, relevance: Relevance) -> dict[str, float]:
        """Return how much relevance lies in which part, by its name; together all that reached the pixels."""
        nucleus, cell = self.seen(self.outline.nucleus), self.seen(self.outline.cell)
        values = relevance.map[0].double().cpu().numpy()
        parts = {"nucleus": nucleus, "cytoplasm": cell & ~nucleus, "surroundings": ~cell}
        return {name: float(values[part].sum()) for name, part in parts.items()}


class Explainer:
    """Explains the decisions of one model.

    Args:
        model: An automaton with an ``mlp`` or a ``channels`` head.
        explained: Name of the class to explain; ``None``: for each cell the most probable.
        against: Name of the class to hold it against; ``None``, or where it is the explained one: the most
            probable of the others.
        seeds: Over how many firing seeds relevance is averaged, at least 1.
        morphology: Probes of this model, for the cell in words.
        index: An index of this model, for similar cells.

    Raises:
        ModelError: The network is no automaton, or probes or index belong to another model.
        SettingError: A class is none of the model's, one is held against itself, ``seeds`` is below 1, or the
            model has a ``conv`` head.
    """

    def __init__(
        self,
        model: TrainedModel,
        *,
        explained: str | None = None,
        against: str | None = None,
        seeds: int = SEEDS,
        morphology: Morphology | None = None,
        index: CellIndex | None = None,
    ) -> None:
        require_seeds(seeds)
        self.network = automaton_of(model, "an explanation")
        require_explainable(self.network)
        self.model, self.seeds, self.morphology, self.index = model, seeds, morphology, index
        # Some pictures cannot be halved into patches of the usual size.
        self.patch = next(one for one in (PATCH, 5, 3, 2, 1) if model.framing.size % one == 0)
        self.explained = None if explained is None else _number(model, explained)
        self.against = None if against is None else _number(model, against)
        if explained is not None and explained == against:
            raise SettingError(f"class {explained!r} is held against itself; name another")
        for kept, what in ((morphology, "the probes of morphology"), (index, "the index of cells")):
            if kept is not None:
                require_same_model(model, kept.model, what)

    def explain(self, picture: Picture, call: Call) -> CellExplanation:
        """Explain one cell.

        Args:
            picture: As decoded, uint8 [H, W, 3].
            call: What it is called.
        """
        hash_ = content_hash(picture)
        framed, image = frame(picture, self.model.framing), image_id(hash_)
        chosen, other = self._classes(call)
        inputs, ids = self.model.normalised(framed[None]), self._tensor(image)
        both = torch.cat((self._tensor(chosen), self._tensor(other)))[:, None]
        found, of_other = relevance_of_classes(
            self.network, inputs, ids, both, seeds=self.seeds, patch=self.patch
        )
        logit = Target("logit", self._tensor(chosen))
        top = min(TOP, self.network.architecture.channels)
        channels = explain_channels(self.network, inputs, ids, logit, top=top)
        images = np.array([image], dtype=np.int64)
        return CellExplanation(
            classes=self.model.classes,
            picture=picture,
            framed=framed,
            place=window(picture, self.model.framing),
            hash=hash_,
            call=call,
            explained=chosen,
            against=other,
            relevance=found,
            contrast=found.minus(of_other),
            channels=channels,
            evolution=evolve(self.model, framed, image, channels=channels.order[0, :top].tolist()),
            outline=segment(self.model, [picture])[0],
            reading=self.morphology.read(self.model, framed[None], images, [chosen])[0]
            if self.morphology and self.morphology.describes(self.model.classes[call.winner])
            else None,
            neighbours=self.index.nearest(self.model, framed[None], [hash_], NEIGHBOURS)[0]
            if self.index
            else None,
        )

    def _classes(self, call: Call) -> tuple[int, int]:
        """Which class is explained for a cell, and against which."""
        ranked = np.argsort(-call.probabilities, kind="stable").tolist()
        chosen = ranked[0] if self.explained is None else self.explained
        if self.against is not None and self.against != chosen:
            return chosen, self.against
        return chosen, next(number for number in ranked if number != chosen)

    def _tensor(self, number: int) -> Tensor:
        return torch.tensor([number], dtype=torch.int64, device=self.model.device)


def _number(model: TrainedModel, name: str) -> int:
    if name not in model.classes:
        raise SettingError(f"class {name!r} is none of this model's; known: {', '.join(model.classes)}")
    return model.classes.index(name)
