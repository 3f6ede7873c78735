"""What can be trained, as plain data: the automaton's presets, and the baselines it is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal, get_args

from leukonca.errors import SettingError
from leukonca.nca.architecture import PRESETS, Architecture

__all__ = ["BASELINES", "BaselineKind", "BaselineShape", "Shape", "shape_from_dict", "shape_of"]

BaselineKind = Literal["resnet18", "seresnext50", "densenet121", "efficientnet_b0"]
BASELINES: Final[tuple[BaselineKind, ...]] = get_args(BaselineKind)

# Each of them halves the picture five times. Were a single site left then, batch normalisation could not
# normalise a batch of one picture, which the last of an epoch may be.
_SMALLEST: Final = 64


@dataclass(frozen=True, slots=True)
class BaselineShape:
    """The shape of a baseline: a convolutional network as published, built by MONAI.

    Attributes:
        kind: Which network.
        size: Side of the square input picture, px, at least 64.

    Raises:
        SettingError: The kind is unknown, or the size too small.
    """

    kind: BaselineKind
    size: int = 64

    def __post_init__(self) -> None:
        if self.kind not in BASELINES:
            raise SettingError(f"baseline {self.kind!r} is unknown; known: {', '.join(BASELINES)}")
        if not isinstance(self.size, int) or isinstance(self.size, bool) or self.size < _SMALLEST:
            raise SettingError(
                f"size={self.size!r} must be a whole number of at least {_SMALLEST} for the baseline "
                f"{self.kind}, which halves its picture five times"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values; ``kind`` tells them from those of an automaton."""
        return asdict(self)


Shape = Architecture | BaselineShape
"""The shape of a network: an automaton's or a baseline's."""


def shape_of(preset: str, changes: Mapping[str, Any]) -> Shape:
    """Return the shape of a preset with changes of some of its fields.

    Raises:
        SettingError: The preset is unknown, has no such field, or the changes do not fit together.
    """
    if preset in PRESETS:
        return replace(PRESETS[preset], **changes)
    kind = next((kind for kind in BASELINES if kind == preset), None)
    if kind is None:
        raise SettingError(f"preset {preset!r} is unknown; known: {', '.join((*PRESETS, *BASELINES))}")
    if odd := [f"change.{name}" for name in changes if name != "size"]:
        raise SettingError(
            f"{', '.join(odd)}: the baseline {preset} is taken as published; only change.size can be given"
        )
    return BaselineShape(kind, **changes)


def shape_from_dict(values: dict[str, Any]) -> Shape:
    """Rebuild a shape from its ``to_dict``.

    Raises:
        SettingError: A field is unknown or has a value that it cannot have.
    """
    if "kind" not in values:
        return Architecture.from_dict(values)
    if unknown := sorted(set(values) - {"kind", "size"}):
        raise SettingError(f"the shape of a baseline has unknown fields: {', '.join(unknown)}")
    return BaselineShape(**values)
