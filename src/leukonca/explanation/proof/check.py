"""The proof of a model's explanations: which parts can be measured, and all of them one after the other."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from leukonca._version import __version__
from leukonca.assessment.speed.machine import machine
from leukonca.cells.manifest import Manifest
from leukonca.cells.masks import Masks
from leukonca.cells.scan import scan
from leukonca.cells.spec import parse_spec
from leukonca.errors import DataError, SettingError
from leukonca.explanation.probing import read_wbcatt
from leukonca.explanation.proof.alike import sanity, sanity_work
from leukonca.explanation.proof.cells import ExplainedCells, draw_cells
from leukonca.explanation.proof.faithful import (
    completeness,
    completeness_work,
    faithfulness,
    faithfulness_work,
)
from leukonca.explanation.proof.inside import localisation
from leukonca.explanation.proof.keeping import Kept
from leukonca.explanation.proof.outlines import HOW, segmentation
from leukonca.explanation.proof.reading import morphology, morphology_work
from leukonca.explanation.proof.settings import Bench, Sizes
from leukonca.explanation.storage import fingerprint
from leukonca.learning.trained import TrainedModel
from leukonca.nca.classifier import CellClassifier
from leukonca.writing import require_writable

__all__ = ["PARTS", "Check", "check"]

_LOG = logging.getLogger(__name__)

PARTS: Final = ("completeness", "faithfulness", "localisation", "sanity", "segmentation", "morphology")
"""What can be measured, in this order."""

_DESCRIBED: Final = "acevedo20"  # whose cells WBCAtt describes


@dataclass(frozen=True)
class Check:
    """What is to be measured, and on what.

    Attributes:
        data: SPECs. The cells of the first are those whose explanations are tested; every set with masks
            shows whether relevance and outlines lie on the cell.
        parts: Which parts; ``None``: all that the model and the data allow. A part that is named and cannot
            be measured is a mistake, one that is not named is left out with a reason.
        wbcatt: Folder of the tables of WBCAtt, for the part ``morphology``.
        sizes: How much is measured.

    Raises:
        SettingError: A part is unknown.
    """

    data: Sequence[str]
    parts: Sequence[str] | None = None
    wbcatt: str | None = None
    sizes: Sizes = field(default_factory=Sizes)

    def __post_init__(self) -> None:
        for part in self.parts or ():
            if part not in PARTS:
                raise SettingError(f"part {part!r} is unknown; known: {', '.join(PARTS)}")


def check(
    model: TrainedModel, name: str, wanted: Check, out: Path, *, progress: bool = False
) -> Iterator[dict[str, Any]]:
    """Measure, part by part.

    Everything that takes time is kept below ``out`` in pieces: the same call after an interruption goes on
    where it was.

    Args:
        model: The model.
        name: What the result calls it.
        wanted: What is to be measured.
        out: Folder of the results; the pieces are kept in its folder ``kept``.
        progress: Whether to show progress bars.

    Yields:
        The whole result as it is so far, JSON values, after each part.

    Raises:
        DataError: The data cannot be used, or lack what a named part needs.
        ModelError: The model cannot be used.
        SettingError: The model's network does not fit a named part.
        PictureError: A mask is missing or cannot be read.
    """
    require_writable(out)
    # Nothing is learned here, and nobody else's copy of the network is changed.
    network = copy.deepcopy(model.network).eval().requires_grad_(False)
    model = replace(model, network=network, settling=None)
    data = _Data.of(wanted.data, progress=progress)
    reasons = {part: _missing(part, model, data, wanted) for part in PARTS}
    parts = PARTS if wanted.parts is None else [part for part in PARTS if part in wanted.parts]
    if wanted.parts is not None:
        for part in parts:
            if reasons[part]:
                raise SettingError(f"the part {part} cannot be measured: {reasons[part]}")
    if all(reasons[part] for part in parts):
        raise SettingError(f"nothing can be measured: {reasons[parts[0]]}")
    kept = Kept(out / "kept", {"model": fingerprint(model), "loss": model.loss, "leukonca": __version__})
    result: dict[str, Any] = {
        "machine": machine(),
        "model": name,
        "parameters": model.network.parameter_count,
        "framing": repr(model.framing),
        "data": list(data.sets),
        "sizes": asdict(wanted.sizes) | {"patches": list(wanted.sizes.patches)},
        "notes": [],
        "finished": False,
        "parts": {},
    }
    work = _Work(model, data, wanted, kept, result["notes"], progress)
    for part in parts:
        kept.used.clear()
        found: dict[str, Any] = {"skipped": reasons[part]} if reasons[part] else _RUN[part](work)
        result["parts"][part] = found
        if "skipped" not in found:
            # Of all its pieces, those of earlier runs and those shared with other parts included.
            found["seconds"] = round(sum(kept.used.values()), 1)
        result["finished"] = len(result["parts"]) == len(parts)
        yield result


@dataclass(frozen=True)
class _Data:
    """The image sets by name, in the order in which they were named, and where their masks are."""

    sets: dict[str, Manifest]
    masks: dict[str, Masks]
    folders: dict[str, Path]

    @classmethod
    def of(cls, specs: Sequence[str], *, progress: bool) -> _Data:
        whole = scan(specs, progress=progress)
        sources = {spec.source.name: spec for spec in map(parse_spec, specs) if spec.source is not None}
        names = dict.fromkeys(whole.frame["source"])
        return cls(
            sets={name: whole.subset((whole.frame["source"] == name).to_numpy()) for name in names},
            masks={
                name: spec.source.masks
                for name, spec in sources.items()
                if spec.source is not None and spec.source.masks is not None
            },
            folders={name: spec.path for name, spec in sources.items()},
        )


class _Work:
    """What the parts share: cells drawn once, and a bar for each part."""

    def __init__(
        self,
        model: TrainedModel,
        data: _Data,
        wanted: Check,
        kept: Kept,
        notes: list[str],
        progress: bool,
    ) -> None:
        self.model, self.data, self.wanted, self.kept = model, data, wanted, kept
        self.notes, self.progress = notes, progress
        self._cells: dict[tuple[str, bool], ExplainedCells] = {}

    def cells(self, source: str, *, right: bool = False) -> ExplainedCells:
        if (source, right) not in self._cells:
            drawn = draw_cells(
                self.model,
                self.data.sets[source],
                self.wanted.sizes.cells,
                right=right,
                progress=self.progress,
            )
            for note in drawn.notes:
                if note not in self.notes:
                    _LOG.info("%s", note)
                    self.notes.append(note)
            self._cells[source, right] = drawn
        return self._cells[source, right]

    def first(self) -> ExplainedCells:
        return self.cells(next(iter(self.data.sets)))

    def run(self, title: str, total: int, measure: Callable[[Bench], dict[str, Any]]) -> dict[str, Any]:
        with tqdm(total=total, desc=title, unit=" cells", disable=not self.progress) as bar:
            return measure(Bench(self.model, self.kept, self.wanted.sizes, bar.update))

    def bench(self) -> Bench:
        return Bench(self.model, self.kept, self.wanted.sizes, lambda _: None)


def _completeness(work: _Work) -> dict[str, Any]:
    cells = work.first()
    return work.run("completeness", completeness_work(len(cells)), lambda bench: completeness(bench, cells))


def _faithfulness(work: _Work) -> dict[str, Any]:
    cells = work.first()
    total = faithfulness_work(work.bench(), len(cells))
    found = work.run("faithfulness", total, lambda bench: faithfulness(bench, cells))
    return {"of_class": cells.counts(), "named_rightly": int(cells.right.sum()), **found}


def _sanity(work: _Work) -> dict[str, Any]:
    cells = work.first().rows(slice(work.wanted.sizes.sanity_cells))
    total = sanity_work(work.bench(), len(cells))
    return work.run("sanity", total, lambda bench: sanity(bench, cells))


def _localisation(work: _Work) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, masks in work.data.masks.items():
        try:
            cells = work.cells(name, right=True)
        except DataError as error:
            # The other sets, and the work done before, are not lost for that.
            found[name] = {"skipped": str(error)}
            continue
        found[name] = work.run(
            f"relevance on the masks of {name}",
            len(cells),
            lambda bench, cells=cells, masks=masks: localisation(bench, cells, masks),  # type: ignore[misc]
        )
    if all("skipped" in entry for entry in found.values()):
        reason = "; ".join(entry["skipped"] for entry in found.values())
        if work.wanted.parts is not None:
            raise DataError(f"the part localisation cannot be measured: {reason}")
        return {"skipped": reason}
    return {"sets": found}


def _segmentation(work: _Work) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, masks in work.data.masks.items():
        cells = work.data.sets[name]
        found[name] = work.run(
            f"outlines of {name}",
            len(cells) * len(HOW),
            lambda bench, cells=cells, masks=masks: segmentation(bench, cells, masks),  # type: ignore[misc]
        )
    return {"sets": found}


def _morphology(work: _Work) -> dict[str, Any]:
    assert work.wanted.wbcatt is not None  # else there is a reason to skip this part
    cells = read_wbcatt(work.wanted.wbcatt, work.data.folders[_DESCRIBED])
    return work.run("morphology", morphology_work(len(cells.paths)), lambda bench: morphology(bench, cells))


_RUN: Final[Mapping[str, Callable[[_Work], dict[str, Any]]]] = {
    "completeness": _completeness,
    "faithfulness": _faithfulness,
    "localisation": _localisation,
    "sanity": _sanity,
    "segmentation": _segmentation,
    "morphology": _morphology,
}


def _missing(part: str, model: TrainedModel, data: _Data, wanted: Check) -> str:
    """Why a part cannot be measured; empty where it can."""
    network = model.network
    if part in ("completeness", "localisation", "segmentation", "morphology"):
        if not isinstance(network, CellClassifier):
            return f"it needs an automaton, and this model is a {type(network).__name__}"
        if part in ("completeness", "localisation") and network.architecture.head == "conv":
            return "relevance does not go through the head 'conv' of this model"
    if part in ("localisation", "segmentation") and not data.masks:
        return "none of the data has masks; name a set that has, such as bcisc:DIR or zheng1:DIR"
    if part == "morphology" and wanted.wbcatt is None:
        return "it needs the tables of WBCAtt; name their folder with --wbcatt"
    if part == "morphology" and _DESCRIBED not in data.folders:
        return f"WBCAtt describes cells of Acevedo-20; name them with --data {_DESCRIBED}:DIR"
    return ""
