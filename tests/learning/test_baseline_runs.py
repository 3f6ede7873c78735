"""A baseline goes the same way as an automaton: trained, interrupted, resumed, kept, used, assessed."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from micro import assert_same_run, micro, write_cells
from safetensors.torch import load_file, save_file
from torch import nn

import leukonca
import runs
from leukonca.assessment.crossvalidate import crossvalidate
from leukonca.cells.embedded import embedded_table
from leukonca.cells.framing import Framing
from leukonca.cells.scan import scan
from leukonca.errors import ModelError, SettingError
from leukonca.learning import baselines
from leukonca.learning.augmentation import preset as augmentation_preset
from leukonca.learning.baselines import Baseline
from leukonca.learning.batches import Batch
from leukonca.learning.bundle import load_bundle, save_bundle
from leukonca.learning.losses import make_loss
from leukonca.learning.networks import build
from leukonca.learning.run import Run
from leukonca.learning.settings import ArchitectureChanges
from leukonca.learning.statistics import InputStatistics
from leukonca.learning.task import ClassificationTask
from leukonca.learning.trained import TrainedModel
from leukonca.learning.training import resume, train
from leukonca.nca.classifier import CellClassifier

# The real one that drops values and whole blocks in training, and has batch normalisation.
SETTINGS = micro(
    preset="efficientnet_b0", change=ArchitectureChanges(), epochs=2, learning_rate=2e-3, balance="sqrt"
)
SMALL = replace(SETTINGS, preset="resnet18", learning_rate=0.02)
MODEL = Path(__file__).resolve().parents[2] / "benchmarks" / "models" / "acevedo20-at-home.safetensors"


def small(nets: Any, classes: int) -> nn.Module:
    """A network with all that is special about the large ones: running statistics and dropping."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 4, stride=4),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, classes),
    )


@pytest.fixture
def small_resnet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(baselines._BUILDERS, "resnet18", small)


@pytest.fixture(scope="module", autouse=True)
def _undrawn() -> Iterator[None]:
    with runs.undrawn():
        yield


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_cells(tmp_path_factory.mktemp("cells"))


@pytest.fixture(scope="module")
def whole(cells: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An uninterrupted run."""
    return train([cells], tmp_path_factory.mktemp("whole") / "run", SETTINGS)


def test_a_run_that_was_interrupted_goes_on_to_the_same_weights(
    whole: Run, cells: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = ClassificationTask.training_step

    def interrupted(self: ClassificationTask, batch: Batch, number: int) -> Any:
        if (self.current_epoch, number) == (1, 1):
            raise KeyboardInterrupt
        return step(self, batch, number)

    with monkeypatch.context() as patch:
        patch.setattr(ClassificationTask, "training_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train([cells], tmp_path / "run", SETTINGS)
    assert len(Run.open(tmp_path / "run").history) == 1
    torch.rand(3)  # whatever else was drawn in between
    before = torch.get_rng_state()
    resume(tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), before)
    assert_same_run(whole.folder, tmp_path / "run")


def test_a_run_says_what_it_depends_on(whole: Run) -> None:
    note = json.loads((whole.folder / "run.json").read_text("utf-8"))
    assert note["settings"]["preset"] == "efficientnet_b0"
    for versions in (note["versions"], whole.model().provenance["versions"]):
        assert "monai" in versions
        assert "engine" not in versions


def test_the_model_is_used_as_an_automaton_is(whole: Run, tmp_path: Path) -> None:
    model = leukonca.load(whole.folder)
    frame = whole.manifest.frame
    files = frame["path"][frame["split"] == "test"].tolist()
    found = model.classify(files, seeds=4)
    assert (found.spread > 0).all()  # nothing fires, but each picture is turned
    assert np.isnan(model.views(1).classify(files).spread).all()
    np.testing.assert_array_equal(model.classify(files, seeds=1).probabilities, found.probabilities)
    metrics = model.evaluate(None, tmp_path / "report", resamples=5)
    assert metrics.n == 6
    assert metrics.accuracy.value == pytest.approx(
        np.mean([label == truth for label, truth in zip(found.labels, _labels(whole, files), strict=True)])
    )
    page = (tmp_path / "report" / "report.html").read_text("utf-8")
    for said in ("efficientnet_b0, a baseline, input 64 px", "none, nothing fires", "4,011,391 parameters"):
        assert said in page


def _labels(run: Run, files: list[str]) -> list[str]:
    return run.manifest.frame.set_index("path")["label"].loc[files].tolist()


def test_a_baseline_is_run_once_a_view(whole: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    forward = Baseline.forward

    def noted(self: Baseline, pictures: Any, images: Any, seed: int = 0) -> Any:
        asked.append(seed)
        return forward(self, pictures, images, seed)

    monkeypatch.setattr(Baseline, "forward", noted)
    model, paths = leukonca.load(whole.folder), whole.manifest.frame["path"].tolist()[:3]
    model.classify(paths, seeds=4)
    assert len(asked) == 4
    model.views(1).classify(paths, seeds=4)
    assert asked[4:] == [0]


@pytest.mark.usefixtures("small_resnet")
def test_folds_are_crossvalidated(cells: str, tmp_path: Path) -> None:
    settings = replace(SMALL, folds=2, epochs=1)
    crossvalidate([cells], tmp_path / "folds", settings, resamples=5)
    text = (tmp_path / "folds" / "crossval.html").read_text("utf-8")
    assert "preset resnet18" in text
    assert "none, nothing fires" in text


def test_real_cells_are_learnt_from(tmp_path: Path) -> None:
    manifest = scan([f"table:{embedded_table()}"])
    chosen = manifest.subset(manifest.frame["label"].isin(["platelet", "erythroblast"]).to_numpy())
    # Eighteen steps are few for running statistics: a short moving average would still remember the start.
    settings = replace(
        SETTINGS,
        preset="resnet18",
        augmentation="none",
        limit_per_class=24,
        epochs=3,
        learning_rate=5e-4,
        ema=0.0,
    )
    last = train(chosen, tmp_path / "run", settings).history.iloc[-1]
    assert last["val/accuracy"] > 0.8
    assert last["val/loss"] < 0.5  # guessing has 0.69


# --- the moving average ------------------------------------------------------------------------------------


def task(ema: float) -> ClassificationTask:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = build(SMALL.architecture(), 3)
    made = ClassificationTask(
        network,
        make_loss("cross_entropy"),
        replace(SMALL, ema=ema),
        augmentation_preset("none"),
        Framing(64),
        InputStatistics((0.5, 0.5, 0.5), (0.2, 0.2, 0.2)),
        [],
    )
    made.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    return made


def batch(number: int, count: int = 6) -> Batch:
    chance = np.random.default_rng(number)
    return Batch(
        torch.from_numpy(chance.integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)),
        torch.arange(count) % 3,
        torch.arange(count),
        torch.arange(count),
        torch.arange(count),
    )


@pytest.mark.usefixtures("small_resnet")
def test_running_statistics_are_averaged_like_the_weights() -> None:
    trained = task(0.3)
    norm = trained.network.get_submodule("body.1")
    names = ("running_mean", "running_var", "weight", "bias")
    expected: dict[str, torch.Tensor] = {}
    optimizer = torch.optim.SGD(trained.network.parameters(), 0.5)
    for seen in range(4):
        optimizer.zero_grad()
        trained.training_step(batch(seen), seen).backward()
        optimizer.step()
        trained.on_train_batch_end(None, batch(seen), seen)
        decay = min(0.3, (1 + seen) / (10 + seen))
        for name in names:
            value = getattr(norm, name).detach().clone()
            expected[name] = value if not seen else decay * expected[name] + (1 - decay) * value
    averaged = trained.best_network.get_submodule("body.1")
    for name in names:
        torch.testing.assert_close(getattr(averaged, name).detach(), expected[name], rtol=1e-5, atol=1e-7)
        assert not torch.equal(getattr(averaged, name), getattr(norm, name))
    assert int(averaged.num_batches_tracked) == int(norm.num_batches_tracked) == 4


@pytest.mark.usefixtures("small_resnet")
@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_the_kept_network_is_validated_as_it_will_be_used(
    cells: str, tmp_path: Path, ema: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[tuple[bool, bool]] = []
    step, check = ClassificationTask.training_step, ClassificationTask.validation_step

    def training(self: ClassificationTask, batch: Batch, number: int) -> Any:
        modes.append((True, self.network.training))
        return step(self, batch, number)

    def validation(self: ClassificationTask, batch: Batch, number: int) -> None:
        before = {name: tensor.clone() for name, tensor in self.state_dict().items()}
        modes.append((False, self.best_network.training))
        check(self, batch, number)
        for name, tensor in self.state_dict().items():
            assert torch.equal(tensor, before[name]), name

    monkeypatch.setattr(ClassificationTask, "training_step", training)
    monkeypatch.setattr(ClassificationTask, "validation_step", validation)
    run = train([cells], tmp_path / "run", replace(SMALL, ema=ema, label_smoothing=0.0))
    assert modes == [(True, True)] * 3 + [(False, False)] + [(True, True)] * 3 + [(False, False)]
    # The kept file gives the very figures of the validation.
    frame = run.manifest.frame
    shown = frame[frame["split"] == "val"]
    model = leukonca.load(run.folder / "last.safetensors")
    found = model.classify(shown["path"].tolist())
    truth = [found.classes.index(label) for label in shown["label"]]
    loss = -np.log(found.probabilities[np.arange(len(truth)), truth]).mean()
    assert run.history["val/loss"].iloc[-1] == pytest.approx(loss, rel=1e-4)


# --- the model file ----------------------------------------------------------------------------------------


def note_of(file: Path) -> dict[str, Any]:
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    note: dict[str, Any] = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["leukonca"])
    return note


def test_the_file_holds_weights_and_running_statistics(whole: Run, tmp_path: Path) -> None:
    file = whole.folder / "last.safetensors"
    tensors, note = load_file(file), note_of(file)
    assert note["format"] == 2
    assert note["architecture"] == {"kind": "efficientnet_b0", "size": 64}
    kept = {name for name in tensors if name.startswith("network.")}
    assert {tensors[name].dtype for name in kept} == {torch.float32}
    assert {"network.body._bn0.running_mean", "network.body._bn0.running_var"} <= kept
    before = torch.get_rng_state()
    model = load_bundle(file)
    save_bundle(model, tmp_path / "again.safetensors")
    assert torch.equal(torch.get_rng_state(), before)
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes()
    assert not model.network.training
    assert not any(tensor.is_meta for tensor in model.network.state_dict().values())


@pytest.mark.usefixtures("small_resnet")
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda note, tensors: note["architecture"].update(kind="vgg16"), "'vgg16' is unknown"),
        (lambda note, tensors: note["architecture"].update(kind=7), "7 is unknown"),
        (lambda note, tensors: note["architecture"].update(size=32), "at least 64"),
        (lambda note, tensors: note["architecture"].update(size=128), "takes 128 px"),
        (lambda note, tensors: note["architecture"].update(steps=3), "unknown fields: steps"),
        (lambda note, tensors: note["architecture"].pop("kind"), "missing or not expected"),
        (lambda note, tensors: note.update(classes=["a", "b", "c", "d"]), "expected float32"),
        (lambda note, tensors: note.update(format=3), "update leukonca"),
        (lambda note, tensors: tensors.pop("network.body.1.running_var"), "running_var"),
        (
            lambda note, tensors: tensors.update({"network.body.1.num_batches_tracked": torch.ones(())}),
            "not expected: body.1.num_batches_tracked",
        ),
        (
            lambda note, tensors: tensors["network.body.1.running_var"].fill_(float("nan")),
            "running_var has values that are not finite",
        ),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, damage: Any, reason: str) -> None:
    with torch.random.fork_rng(devices=[]):
        network = build(SMALL.architecture(), 3)
    file = tmp_path / "model.safetensors"
    save_bundle(TrainedModel(network, ("a", "b", "c"), Framing(64), "none", None, "cross_entropy"), file)
    load_bundle(file)
    note, tensors = note_of(file), load_file(file)
    damage(note, tensors)
    save_file(tensors, file, metadata={"leukonca": json.dumps(note)})
    with pytest.raises(ModelError, match=reason):
        load_bundle(file)


def test_files_of_automata_are_as_before(tmp_path: Path) -> None:
    # Written before there were baselines.
    assert note_of(MODEL)["format"] == 1
    model = load_bundle(MODEL)
    assert isinstance(model.network, CellClassifier)
    save_bundle(model, tmp_path / "again.safetensors")
    for field in ("format", "architecture"):
        assert note_of(tmp_path / "again.safetensors")[field] == note_of(MODEL)[field]


# --- without MONAI -----------------------------------------------------------------------------------------


def test_without_monai_a_clear_word_and_no_traces(
    whole: Run, cells: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baselines, "find_spec", lambda name: None)
    remedy = r"efficientnet_b0 needs MONAI, which is not installed; pip install 'leukonca\[baselines\]'"
    with pytest.raises(SettingError, match=remedy):
        train([cells], tmp_path / "run", SETTINGS)
    assert not (tmp_path / "run").exists()
    with pytest.raises(SettingError, match=remedy):
        resume(whole.folder)
    with pytest.raises(ModelError, match=rf"best\.safetensors: the baseline {remedy}"):
        leukonca.load(whole.folder)
    assert Run.open(whole.folder).settings == SETTINGS
