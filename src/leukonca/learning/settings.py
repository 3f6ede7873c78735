"""Everything that a training run can be told, as one plain dataclass: flags, YAML and Python alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, Literal, get_args

from leukonca.cells.framing import Colour, Fit, Framing
from leukonca.errors import SettingError
from leukonca.learning.balance import Balance, WeightScheme
from leukonca.learning.shapes import BASELINES, Shape, shape_of
from leukonca.learning.variation import preset as augmentation_preset
from leukonca.nca.architecture import PoolingKind

__all__ = ["AS_PUBLISHED", "ArchitectureChanges", "LossName", "Normalisation", "Precision", "Settings"]

LossName = Literal["bce", "cross_entropy", "focal"]
Normalisation = Literal["training", "picture", "none"]
"""``training``: by mean and spread of the training cells, which the model carries with it; ``picture``: each
picture by its own, which also takes the tint of the stain and of the light away; ``none``."""
Precision = Literal["auto", "float32", "bfloat16"]
Schedule = Literal["one_cycle", "paper", "constant"]


@dataclass(frozen=True)
class ArchitectureChanges:
    """What to change in the preset's architecture, with the names of ``Architecture``; ``None`` keeps it."""

    size: int | None = None
    patch: int | None = None
    channels: int | None = None
    hidden: int | None = None
    steps: int | None = None
    firing: float | None = None
    pooling: PoolingKind | None = None
    head_hidden: int | None = None


@dataclass(frozen=True)
class Settings:
    """Settings of a training run.

    Attributes:
        preset: Architecture: ``base``, ``tiny``, ``paper``, ``paper_simple`` or ``paper_conv``; or a baseline
            to compare with: ``resnet18``, ``seresnext50``, ``densenet121`` or ``efficientnet_b0``.
        change: What to change in that architecture; of a baseline only ``size``.
        classes: Class set to train on: ``auto`` (the labels as they are), ``five``, ``eight`` or
            ``thirteen``; finer labels go to the coarser class, and cells without a place are left out.
        crop: Share of the picture's side that the model looks at, from the centre, in (0, 1].
        fit: ``square`` keeps the proportions, ``stretch`` (the paper) does not; ``cell`` finds the cell and
            brings its nucleus to the middle and to one size.
        colour: ``as_is``; ``light`` divides the light of the empty field out; ``nucleus`` also brings the
            nucleus to one absorbance.
        reach: For ``fit="cell"``: from the middle to the side, in radii of the nucleus, 1 to 20.
        normalisation: ``training``: mean and s.d. of the training cells; ``picture``: of each picture itself.
        augmentation: ``none``, ``paper``, ``light``, ``standard``, ``strong``, ``laboratories``
            or ``laboratories_wide``; with changes of single kinds as ``laboratories,scale=0,stain=0.8``.
        loss: ``cross_entropy``, ``bce`` (the paper) or ``focal``.
        label_smoothing: Of ``cross_entropy``, in [0, 1).
        focal_gamma: Of ``focal``, at least 0.
        teachers: Model files of trained models from whose answers the new one learns beside the labels.
        distill: Share of the loss that the teachers have, in (0, 1].
        distill_temperature: What logits are divided by when answers are compared, above 0.
        consistency: Weight of the disagreement between the answers to two versions of each cell, varied
            independently; 0: there is one version. Doubles the time.
        restraint: Weight of how far the state has grown (:func:`leukonca.learning.restraint.growth`), of an
            automaton only; 0: nothing restrains it; ``None``: 0.01 where every site fires, else 0.
        restraint_bound: Root mean square of the state from which on its growth counts.
        start: Start weights of the rule's last layer: ``random`` like those of all layers; ``still`` (the
            paper): zero, so that an untrained automaton leaves its state alone.
        pooled_norm: ``batch``: in training, the pooled channels are normalised over the batch before an
            ``mlp`` head, and the model that is kept has this folded into its head; ``none`` (the paper).
        vary_steps: Largest difference of a training batch's number of steps from the architecture's, as a
            share of it, in [0, 1).
        vary_firing: The same of the firing probability, which stays at most 1.
        balance: ``none``; ``sampling``: classes drawn equally often (the paper), ``sqrt``: half-way;
            ``weights``: all cells once, classes weighted in the loss.
        weight_scheme: How ``balance="weights"`` weighs a class: ``inverse``, ``sqrt`` or ``effective``.
        optimizer: ``adam`` (the paper), ``adamw``, or ``muon``: Muon for the matrices of the rule and AdamW
            for the rest; of an automaton only. ``auto``: ``muon`` for an automaton, ``adamw`` for a baseline.
        learning_rate: Highest learning rate.
        weight_decay: Of the optimizer.
        schedule: ``one_cycle``; ``paper``: times 0.9999 after each batch; ``constant``.
        epochs: Passes over the training cells.
        batch: Pictures a batch.
        clip: Largest norm of the gradient, 0 for no limit.
        ema: Decay of the moving average of the weights, which is then what is validated and kept; 0 without.
        patience: Stop when the monitored figure has not improved for so many epochs; 0 never.
        monitor: What decides on the best epoch: ``macro_f1``, ``accuracy`` or ``loss`` of the validation.
        fractions: Shares of training, validation and test cells, where the data do not say.
        folds: Instead of ``fractions``: number of folds, of which ``fold`` is the test set; 0 without.
        fold: Which fold is the test set, from 0.
        limit_per_class: Train on so many cells a class at most; 0 for all.
        precision: ``auto``: bfloat16 where the processor multiplies it natively, else float32.
        seed: Decides on split, start weights, order, augmentation and firing.
    """

    preset: str = "base"
    change: ArchitectureChanges = field(default_factory=ArchitectureChanges)
    classes: Literal["auto", "five", "eight", "thirteen"] = "auto"
    crop: float = 1.0
    fit: Fit = "square"
    colour: Colour = "as_is"
    reach: float = 1.7
    normalisation: Normalisation = "training"
    augmentation: str = "standard"
    loss: LossName = "cross_entropy"
    label_smoothing: float = 0.05
    focal_gamma: float = 2.0
    teachers: tuple[str, ...] = ()
    distill: float = 0.5
    distill_temperature: float = 2.0
    consistency: float = 0.0
    restraint: float | None = None
    restraint_bound: float = 30.0
    start: Literal["random", "still"] = "random"
    pooled_norm: Literal["batch", "none"] = "batch"
    vary_steps: float = 0.0
    vary_firing: float = 0.0
    balance: Balance = "sqrt"
    weight_scheme: WeightScheme = "effective"
    optimizer: Literal["auto", "adam", "adamw", "muon"] = "auto"
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    schedule: Schedule = "one_cycle"
    epochs: int = 20
    batch: int = 32
    clip: float = 1.0
    ema: float = 0.998
    patience: int = 0
    monitor: Literal["macro_f1", "accuracy", "loss"] = "macro_f1"
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2)
    folds: int = 0
    fold: int = 0
    limit_per_class: int = 0
    precision: Precision = "auto"
    seed: int = 42

    def __post_init__(self) -> None:
        def require(name: str, holds: bool, range_: str) -> None:
            if not holds:
                raise SettingError(f"{name}={getattr(self, name)!r} must be {range_}")

        # A run file or a Python caller may hold any type; what is no number cannot be compared below.
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.name in _WHOLE:
                require(entry.name, _is_whole(value), "a whole number")
            elif entry.name in _REAL:
                require(entry.name, _is_number(value), "a number")
        # NaN fails each of these, because it compares false with everything.
        require("crop", 0 < self.crop <= 1, "in (0, 1]")
        require("label_smoothing", 0 <= self.label_smoothing < 1, "in [0, 1)")
        require("focal_gamma", 0 <= self.focal_gamma < float("inf"), "at least 0")
        require(
            "teachers",
            isinstance(self.teachers, tuple) and all(isinstance(file, str) for file in self.teachers),
            "a list of model files",
        )
        require("teachers", not self.teachers or self.loss != "bce", "empty with loss='bce'")
        require("distill", 0 < self.distill <= 1, "in (0, 1]")
        require("distill_temperature", 0 < self.distill_temperature < float("inf"), "above 0")
        require("consistency", 0 <= self.consistency < float("inf"), "at least 0")
        require("consistency", not self.consistency or self.loss != "bce", "0 with loss='bce'")
        require("restraint", self.restraint is None or _is_number(self.restraint), "a number")
        require("restraint", 0 <= (self.restraint or 0) < float("inf"), "at least 0")
        require("restraint_bound", 0 < self.restraint_bound < float("inf"), "above 0")
        for name in ("vary_steps", "vary_firing"):
            require(name, 0 <= getattr(self, name) < 1, "in [0, 1)")
        with_rule = self.preset not in BASELINES
        for name in ("vary_steps", "vary_firing", "restraint"):
            require(name, with_rule or not getattr(self, name), f"0 with the baseline {self.preset}")
        other = f"adam or adamw with the baseline {self.preset}"
        require("optimizer", self.optimizer != "muon" or with_rule, other)
        require("learning_rate", 0 < self.learning_rate < 1, "in (0, 1)")
        require("weight_decay", 0 <= self.weight_decay < 1, "in [0, 1)")
        require("epochs", self.epochs >= 1, "at least 1")
        require("batch", self.batch >= 1, "at least 1")
        require("clip", 0 <= self.clip < float("inf"), "at least 0")
        require("ema", 0 <= self.ema < 1, "in [0, 1)")
        require("patience", self.patience >= 0, "at least 0")
        require("folds", self.folds == 0 or self.folds >= 2, "0, or at least 2")
        require("fold", 0 <= self.fold < max(1, self.folds), f"in [0, folds={self.folds})")
        require("limit_per_class", self.limit_per_class >= 0, "at least 0")
        require("seed", 0 <= self.seed < 1 << 63, "in [0, 2^63)")
        for entry in fields(self):
            allowed = _CHOICES.get(entry.name)
            if allowed is not None and getattr(self, entry.name) not in allowed:
                raise SettingError(
                    f"{entry.name}={getattr(self, entry.name)!r} is unknown; known: {', '.join(allowed)}"
                )
        require(
            "fractions",
            isinstance(self.fractions, tuple)
            and len(self.fractions) == 3
            and all(_is_number(share) and 0 <= share <= 1 for share in self.fractions)
            and math.isclose(sum(self.fractions), 1, abs_tol=1e-6),
            "three shares in [0, 1] that sum to 1",
        )
        require("preset", isinstance(self.preset, str), "a name")
        require("augmentation", isinstance(self.augmentation, str), "a name")
        require("change", isinstance(self.change, ArchitectureChanges), "changes of the architecture")
        # Whatever is wrong shall be known before a hundred thousand pictures are prepared.
        augmentation_preset(self.augmentation)
        self.framing()

    def architecture(self) -> Shape:
        """Return the preset's architecture with the changes.

        Raises:
            SettingError: The preset is unknown or the changes do not fit together.
        """
        changes = {name: value for name, value in asdict(self.change).items() if value is not None}
        return shape_of(self.preset, changes)

    def optimizer_name(self) -> str:
        """Return the optimizer, as ``optimizer`` or the kind of network has it."""
        if self.optimizer != "auto":
            return self.optimizer
        return "adamw" if self.preset in BASELINES else "muon"

    def restraint_weight(self) -> float:
        """Return the weight of how far the state has grown, as ``restraint`` or the architecture has it."""
        if self.restraint is not None:
            return self.restraint
        # Chance alone restrains a rule of which some sites rest at each step.
        return _RESTRAINT if getattr(self.architecture(), "firing", 0) == 1 else 0.0

    def framing(self) -> Framing:
        """Return how a picture becomes the input.

        Raises:
            SettingError: A value is out of its range.
        """
        return Framing(self.architecture().size, self.crop, self.fit, self.colour, self.reach)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON values."""
        return {**asdict(self), "fractions": list(self.fractions), "teachers": list(self.teachers)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Settings:
        """Rebuild from :meth:`to_dict`.

        Raises:
            SettingError: A setting is unknown or has a value that it cannot have.
        """
        values = dict(values)
        unknown = set(values) - {entry.name for entry in fields(cls)}
        change = values.pop("change", {})
        if not isinstance(change, Mapping):
            raise SettingError(f"change={change!r} must be a table of names and values")
        unknown |= {f"change.{name}" for name in set(change) - {f.name for f in fields(ArchitectureChanges)}}
        if unknown:
            raise SettingError(f"unknown settings: {', '.join(sorted(unknown))}")
        for name in ("fractions", "teachers"):
            if isinstance(values.get(name), list):
                values[name] = tuple(values[name])
        return cls(**values, change=ArchitectureChanges(**change))


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_RESTRAINT: Final = 0.01

_WHOLE: Final = frozenset({"epochs", "batch", "patience", "folds", "fold", "limit_per_class", "seed"})
_REAL: Final = frozenset(
    {
        "crop",
        "reach",
        "label_smoothing",
        "focal_gamma",
        "distill",
        "distill_temperature",
        "consistency",
        "restraint_bound",
        "vary_steps",
        "vary_firing",
        "learning_rate",
        "weight_decay",
        "clip",
        "ema",
    }
)

_CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "classes": ("auto", "five", "eight", "thirteen"),
    "fit": get_args(Fit),
    "colour": get_args(Colour),
    "normalisation": get_args(Normalisation),
    "loss": get_args(LossName),
    "balance": get_args(Balance),
    "weight_scheme": get_args(WeightScheme),
    "start": ("random", "still"),
    "pooled_norm": ("batch", "none"),
    "optimizer": ("auto", "adam", "adamw", "muon"),
    "schedule": get_args(Schedule),
    "monitor": ("macro_f1", "accuracy", "loss"),
    "precision": get_args(Precision),
}

AS_PUBLISHED: Final = Settings(
    preset="paper",
    fit="stretch",
    augmentation="paper",
    loss="bce",
    start="still",
    pooled_norm="none",
    balance="sampling",
    optimizer="adam",
    learning_rate=4e-4,
    weight_decay=0.0,
    schedule="paper",
    epochs=32,
    batch=16,
    clip=0.0,
    ema=0.0,
    folds=5,
    precision="float32",
)
"""The training of Deutges et al. (MICCAI 2024), without its leaks; ``fold`` chooses the fold."""
