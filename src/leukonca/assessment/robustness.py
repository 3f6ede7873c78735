"""How a model bears spoilt pictures: balanced error against kind and severity, after BloodMNIST-C."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from leukonca.assessment.corruptions import CORRUPTIONS, FIELD, SEVERITIES, corrupt
from leukonca.assessment.intervals import Estimate
from leukonca.assessment.metrics import measure
from leukonca.assessment.predict import FIRING_SEEDS, predict
from leukonca.assessment.views import align
from leukonca.cells.framing import Framing, frame
from leukonca.cells.manifest import Manifest
from leukonca.errors import SettingError
from leukonca.learning.trained import TrainedModel
from leukonca.nca.firing import image_id

__all__ = ["ALEXNET", "BLOODMNIST_SHARE", "CLEAN", "Balance", "Row", "robustness", "spoil", "summary"]

CLEAN: Final = "clean"
"""What a row is called whose pictures are not spoilt."""

BLOODMNIST_SHARE: Final = 200 / 360
"""Share of the shorter side of Acevedo-20's pictures that BloodMNIST shows."""

ALEXNET: Final[dict[str, float]] = {
    CLEAN: 0.018369,
    "pixelate": 0.059756,
    "jpeg_compression": 0.139762,
    "defocus_blur": 0.223998,
    "motion_blur": 0.184519,
    "brightness_up": 0.069463,
    "brightness_down": 0.079008,
    "contrast_up": 0.052154,
    "contrast_down": 0.079661,
    "saturate": 0.034786,
    "stain_deposit": 0.185361,
    "bubble": 0.128988,
}
"""Balanced error of the benchmark's baseline, AlexNet at 224 px on BloodMNIST-C: the mean over severities, as
the package medmnistc brings it (Di Salvo et al., arXiv 2406.17536)."""


@dataclass(frozen=True, slots=True)
class Row:
    """A model on cells that were spoilt in one way.

    Attributes:
        corruption: Its name, or ``clean``.
        severity: 1 to 5; 0 where clean.
        cells: Number of cells measured.
        accuracy: Share of cells called by their true class.
        balanced_accuracy: Mean recall over the classes present.
        balanced_error: One minus that.
    """

    corruption: str
    severity: int
    cells: int
    accuracy: Estimate
    balanced_accuracy: Estimate
    balanced_error: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON can hold it; an estimate is ``{"value", "low", "high"}``."""
        named = ("accuracy", "balanced_accuracy", "balanced_error")
        return asdict(self) | {name: getattr(self, name).to_dict() for name in named}


def spoil(
    picture: npt.NDArray[np.uint8],
    framing: Framing,
    corruption: str,
    severity: int,
    *,
    identity: int,
    seed: int = 0,
    share: float = BLOODMNIST_SHARE,
) -> npt.NDArray[np.uint8]:
    """Return what a model sees of a spoilt picture.

    The whole picture is spoilt at the benchmark's scale and only then framed: a file, a lens and a bubble
    know nothing of the model, so every model meets the same damage, strengths mean what they mean in the
    benchmark, and a model that finds the cell or divides the light out has to do so in the spoilt picture.

    Args:
        picture: uint8 [H, W, 3], as decoded.
        framing: Of the model.
        corruption: One of the corruptions, or ``clean`` with severity 0, which goes through the same scale.
        severity: 0 to 5.
        identity: Of the picture.
        seed: Of what is random.
        share: Of the picture's shorter side that the benchmark's 224 px show, in (0, 1].

    Returns:
        uint8 [size, size, 3].

    Raises:
        SettingError: ``share`` is out of range, or corruption or severity are unknown.
    """
    if not 0 < share <= 1:
        raise SettingError(f"share={share!r} must be in (0, 1]")
    height, width = picture.shape[:2]
    scale = FIELD / (share * min(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    canvas = np.array(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))
    if corruption != CLEAN:
        canvas = corrupt(canvas, corruption, severity, identity=identity, seed=seed)
    return frame(canvas, framing)


def robustness(
    model: TrainedModel,
    manifest: Manifest,
    *,
    corruptions: Sequence[str] = CORRUPTIONS,
    done: Iterable[tuple[str, int]] = (),
    seed: int = 0,
    share: float = BLOODMNIST_SHARE,
    seeds: int = FIRING_SEEDS,
    resamples: int = 1000,
    progress: bool = False,
) -> Iterator[Row]:
    """Measure a model on clean and on spoilt pictures of the same cells, one row at a time.

    A cell fires as its clean picture does, so that a row differs from the clean one by the damage alone.

    Args:
        model: The model.
        manifest: Labelled cells that it has not seen; see :func:`leukonca.assessment.evaluate.choose`.
        corruptions: Which of them.
        done: (corruption, severity) of rows that are known already and not measured again.
        seed: Of what is random in the damage.
        share: See :func:`spoil`.
        seeds: Firing seeds to average over.
        resamples: Of the bootstrap.
        progress: Whether to show progress bars.

    Yields:
        The clean row, then five rows a corruption.

    Raises:
        DataError: No cell can be measured.
        SettingError: A corruption is unknown or a number out of range.
    """
    if unknown := sorted(set(corruptions) - set(CORRUPTIONS)):
        raise SettingError(f"corruption={unknown[0]!r} is unknown; known: {', '.join(CORRUPTIONS)}")
    known = set(done)
    frame_ = manifest.frame
    paths, labels = frame_["path"].tolist(), frame_["label"].tolist()
    groups = frame_["group"].tolist() if (frame_["group"] != "").any() else None
    for corruption, severity in [(CLEAN, 0), *((name, s) for name in corruptions for s in SEVERITIES)]:
        if (corruption, severity) in known:
            continue
        view = _view(corruption, severity, seed, share)
        predictions = predict(model, paths, seeds=seeds, view=view, progress=progress)
        aligned, truth, _ = align(predictions, labels)
        metrics = measure(truth, aligned.probabilities, aligned.classes, groups=groups, resamples=resamples)
        balanced = metrics.balanced_accuracy
        yield Row(
            corruption=corruption,
            severity=severity,
            cells=metrics.n,
            accuracy=metrics.accuracy,
            balanced_accuracy=balanced,
            balanced_error=Estimate(1 - balanced.value, 1 - balanced.high, 1 - balanced.low),
        )


def _view(
    corruption: str, severity: int, seed: int, share: float
) -> Callable[[npt.NDArray[np.uint8], str, Framing], npt.NDArray[np.uint8]]:
    def view(picture: npt.NDArray[np.uint8], hash_: str, framing: Framing) -> npt.NDArray[np.uint8]:
        return spoil(picture, framing, corruption, severity, identity=image_id(hash_), seed=seed, share=share)

    return view


@dataclass(frozen=True, slots=True)
class Balance:
    """The figures of the benchmark for one corruption, or their means over all.

    Attributes:
        error: Balanced error, mean over the five severities.
        lost: That minus the clean balanced error: what the damage cost.
        be: The error as a share of the baseline's (Di Salvo et al., BE); below 1 is better than the baseline.
        rbe: What the damage cost as a share of what it cost the baseline (rBE).
    """

    error: float
    lost: float
    be: float
    rbe: float


def summary(rows: Iterable[Row]) -> dict[str, Balance]:
    """Return the benchmark's figures of every corruption with all its severities, and ``mean`` over these.

    With E(c, s) the balanced error of the model, E(clean) the clean one, and A those of the baseline
    (`ALEXNET`): BE(c) = mean over s of E(c, s) / A(c); rBE(c) = (mean over s of E(c, s) - E(clean)) /
    (A(c) - A(clean)).

    Args:
        rows: Of one model; without the clean row there are no figures.
    """
    errors = {(row.corruption, row.severity): row.balanced_error.value for row in rows}
    if (CLEAN, 0) not in errors:
        return {}
    clean = errors[CLEAN, 0]
    found: dict[str, Balance] = {}
    for name in CORRUPTIONS:
        if all((name, severity) in errors for severity in SEVERITIES):
            error = fmean(errors[name, severity] for severity in SEVERITIES)
            lost = error - clean
            found[name] = Balance(error, lost, error / ALEXNET[name], lost / (ALEXNET[name] - ALEXNET[CLEAN]))
    if found:
        columns = zip(*((b.error, b.lost, b.be, b.rbe) for b in found.values()), strict=True)
        found["mean"] = Balance(*map(fmean, columns))
    return found
