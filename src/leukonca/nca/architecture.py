"""The shape of a model, as plain data: what a preset names and what a model file stores."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal, get_args

from leukonca.errors import SettingError

__all__ = ["PRESETS", "Architecture", "Head", "PoolingKind", "preset"]

PoolingKind = Literal["max", "mean", "max_mean", "attention"]
Head = Literal["mlp", "channels", "conv"]


@dataclass(frozen=True, slots=True)
class Architecture:
    """The shape of a neural cellular automaton that classifies pictures.

    Attributes:
        size: Side of the square input picture, px.
        patch: Side of the square of pixels that one site holds; the grid has ``size / patch`` sites a side.
            With 1 (the paper) a site is a pixel.
        channels: Channels of the state, among them the ``3 · patch²`` fixed ones of the picture.
        hidden: Width of the rule's hidden layer.
        steps: Steps from the picture to the decision.
        firing: Probability with which a site fires at a step, in (0, 1].
        pooling: How the grid becomes a vector; see :mod:`leukonca.nca.pooling`.
        head: ``mlp``: two layers on the pooled channels (MaxNCA). ``channels``: the pooled channels after the
            fixed ones are the logits (SimpleNCA). ``conv``: three 3×3 convolutions on the grid, no pooling
            (ConvNCA).
        head_hidden: Width of the ``mlp`` head's hidden layer; the ``conv`` head has 512 as published.
    """

    size: int = 64
    patch: int = 1
    channels: int = 128
    hidden: int = 128
    steps: int = 64
    firing: float = 0.5
    pooling: PoolingKind = "max"
    head: Head = "mlp"
    head_hidden: int = 128

    def __post_init__(self) -> None:
        for name in ("size", "patch", "channels", "hidden", "steps", "head_hidden"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise SettingError(f"{name}={value!r} must be a whole number of at least 1")
        firing = self.firing  # may come from a model file, so its type is not yet known
        if not isinstance(firing, (int, float)) or isinstance(firing, bool) or not 0 < firing <= 1:
            raise SettingError(f"firing={firing!r} must be a number in (0, 1]")
        for name, allowed in (("pooling", get_args(PoolingKind)), ("head", get_args(Head))):
            if getattr(self, name) not in allowed:
                raise SettingError(f"{name}={getattr(self, name)!r} is unknown; known: {', '.join(allowed)}")
        if self.size % self.patch:
            raise SettingError(f"size={self.size} is not a multiple of patch={self.patch}")
        if not 2 <= self.grid <= 512:
            raise SettingError(
                f"size={self.size} with patch={self.patch} gives {self.grid} sites a side; 2 to 512 work"
            )
        if self.channels <= self.inputs:
            raise SettingError(
                f"channels={self.channels} leaves no hidden channel beside the {self.inputs} of the picture "
                f"(3 · patch²); raise it above {self.inputs}"
            )
        if self.head == "conv" and self.grid < 16:
            raise SettingError(
                f"head='conv' halves the grid four times and needs 16 sites a side, not {self.grid}"
            )

    @property
    def grid(self) -> int:
        """Sites a side."""
        return self.size // self.patch

    @property
    def inputs(self) -> int:
        """Fixed channels, which hold the picture."""
        return 3 * self.patch**2

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Architecture:
        """Rebuild from :meth:`to_dict`.

        Raises:
            SettingError: A field is unknown or has a value that it cannot have.
        """
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise SettingError(f"architecture has unknown fields: {', '.join(sorted(unknown))}")
        return cls(**values)


PRESETS: Final[dict[str, Architecture]] = {
    # MaxNCA as published: 86,413 parameters for 13 classes.
    "paper": Architecture(),
    "paper_simple": Architecture(pooling="mean", head="channels"),
    "paper_conv": Architecture(channels=64, head="conv"),
    # Two pixels a side in one site: the picture keeps its 64 px and the grid has a quarter of the sites.
    # Every site fires, so that eight steps update each as often as sixteen of which half fires.
    "base": Architecture(
        patch=2, channels=64, hidden=192, steps=8, firing=1.0, pooling="max_mean", head_hidden=64
    ),
    "tiny": Architecture(
        size=48, patch=2, channels=32, hidden=64, steps=8, firing=1.0, pooling="max_mean", head_hidden=32
    ),
}


def preset(name: str) -> Architecture:
    """Return a preset by name.

    Raises:
        SettingError: The name is unknown.
    """
    try:
        return PRESETS[name]
    except KeyError:
        raise SettingError(f"preset {name!r} is unknown; known: {', '.join(PRESETS)}") from None
