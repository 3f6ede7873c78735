from __future__ import annotations

import itertools
import json
import logging
import os
import random
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from micro import (
    CLASSES,
    assert_same_run,
    history,
    kill_oneself,
    killed,
    micro,
    picture,
    save,
    start,
    weights,
    write_cells,
)
from torch import Tensor, nn

from leukonca.cells.embedded import embedded_table
from leukonca.cells.scan import scan
from leukonca.errors import DataError, ModelError, NonFiniteLossError, SettingError, TrainingError
from leukonca.learning import callbacks, preparation, training
from leukonca.learning.run import Run
from leukonca.learning.settings import Settings
from leukonca.learning.statistics import input_statistics
from leukonca.learning.task import ClassificationTask
from leukonca.learning.training import resolved_precision, resume, train
from leukonca.learning.trusting import calibrate
from leukonca.nca.firing import image_id

# Averages, patience and drawing with replacement are all part of what has to survive.
LIVELY = micro(balance="sqrt", patience=5, augmentation="standard")


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_cells(tmp_path_factory.mktemp("cells"))


@pytest.fixture(scope="module")
def whole(cells: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train([cells], folder, LIVELY)
    return folder


# --- what a run leaves -------------------------------------------------------------------------------------


def test_a_run_holds_all_that_it_promises(whole: Path, cells: str) -> None:
    run = Run.open(whole)
    assert {entry.name for entry in whole.iterdir()} == {
        "run.json",
        "cells.csv",
        "skipped.csv",
        "history.csv",
        "best.safetensors",
        "last.safetensors",
        "resume.ckpt",
        "tensorboard",
        "prepared",
    }
    assert (run.settings, run.data, run.precision) == (LIVELY, (cells,), "float32")
    assert run.history["epoch"].tolist() == [1, 2, 3]
    assert (run.history["learning_rate"] > 0).all()
    assert list((whole / "tensorboard").glob("events.out.tfevents.*"))
    frame = run.manifest.frame
    assert frame["split"].value_counts().to_dict() == {"train": 18, "val": 6, "test": 6}
    assert (whole / "skipped.csv").read_text().strip() == "path,reason"


def test_the_model_knows_where_it_comes_from(whole: Path) -> None:
    run = Run.open(whole)
    frame = run.manifest.frame
    for which in ("best", "last"):
        model = run.model(which)
        assert model.classes == ("lymphocyte", "monocyte", "eosinophil")
        assert (model.framing.size, model.framing.fit, model.loss) == (16, "square", "cross_entropy")
        assert model.provenance["settings"] == LIVELY.to_dict()
        assert model.provenance["cells"]["test"] == dict.fromkeys(sorted(CLASSES), 2)
        row = run.history.set_index("epoch").loc[model.provenance["epoch"]]
        assert model.provenance["validation"]["macro_f1"] == row["val/macro_f1"]
        for part, seen in (("train", model.seen_training), ("val", model.seen_validation)):
            hashes = frame["hash"][frame["split"] == part]
            assert sorted(seen.tolist()) == sorted(image_id(hash_) for hash_ in hashes)
    assert run.model("last").provenance["epoch"] == 3
    best = run.history["val/macro_f1"].to_numpy()
    assert run.model("best").provenance["epoch"] == int(best.argmax()) + 1


def test_real_cells_are_learnt_from(tmp_path: Path) -> None:
    manifest = scan([f"table:{embedded_table()}"])
    chosen = manifest.subset(manifest.frame["label"].isin(["platelet", "erythroblast"]).to_numpy())
    run = train(chosen, tmp_path / "run", micro(epochs=8, augmentation="none"))
    assert run.model().classes == ("erythroblast", "platelet")
    assert run.history["val/accuracy"].iloc[-1] > 0.8


# --- repeating ---------------------------------------------------------------------------------------------


def test_a_seed_repeats_a_run_to_the_bit_wherever_it_is(whole: Path, cells: str, tmp_path: Path) -> None:
    # Another place and another order of creation, after other use of the global streams.
    source, target = Path(cells.removeprefix("folder:")), tmp_path / "moved"
    for file in sorted(source.rglob("*.png"), reverse=True):
        (target / file.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target / file.relative_to(source))
    torch.rand(7)
    train([f"folder:{target}"], tmp_path / "run", LIVELY)
    assert_same_run(whole, tmp_path / "run")


def test_another_seed_gives_another_run(whole: Path, cells: str, tmp_path: Path) -> None:
    train([cells], tmp_path / "run", replace(LIVELY, seed=43))
    one, other = weights(whole), weights(tmp_path / "run")
    assert not np.array_equal(one["network.rule.hidden_weight"], other["network.rule.hidden_weight"])
    splits = [Run.open(folder).manifest.frame["split"].tolist() for folder in (whole, tmp_path / "run")]
    assert splits[0] != splits[1]


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": "bce", "optimizer": "adam", "schedule": "paper", "balance": "sampling", "clip": 0.0},
        {"loss": "focal", "balance": "weights", "normalisation": "picture", "ema": 0.0},
        {"precision": "bfloat16", "normalisation": "none", "crop": 0.6, "fit": "stretch"},
        {"folds": 3, "fold": 1, "monitor": "loss", "schedule": "constant"},
    ],
)
def test_choices_run_and_repeat(cells: str, tmp_path: Path, changes: dict[str, Any]) -> None:
    for name in ("one", "other"):
        run = train([cells], tmp_path / name, micro(epochs=1, **changes))
        assert len(run.history) == 1
        run.model()
    assert_same_run(tmp_path / "one", tmp_path / "other")


def test_nothing_of_the_other_parts_flows_into_the_training(tmp_path: Path) -> None:
    spec = Path(write_cells(tmp_path / "cells").removeprefix("folder:"))
    files = sorted(spec.rglob("*.png"))
    parts = list(itertools.islice(itertools.cycle(["train", "train", "val", "train", "test"]), len(files)))
    table = tmp_path / "cells.csv"
    labels = [file.parent.name for file in files]
    pd.DataFrame({"path": files, "label": labels, "split": parts}).to_csv(table, index=False)
    models = []
    for name in ("clean", "poisoned"):
        models.append(train([f"table:{table}"], tmp_path / name, LIVELY).model("last"))
        for number, (file, part) in enumerate(zip(files, parts, strict=True)):
            if part != "train":
                save(file, 255 - picture(1000 + number) // 9)
    assert models[0].statistics == models[1].statistics
    for one, other in zip(models[0].network.parameters(), models[1].network.parameters(), strict=True):
        assert torch.equal(one, other)
    shown = [str(file) for file, part in zip(files, parts, strict=True) if part == "train"]
    alone = preparation.prepare(shown, models[0].framing, tmp_path / "prepared")
    assert models[0].statistics == input_statistics([alone.pictures])


# --- being killed ------------------------------------------------------------------------------------------


def train_until_file(spec: str, folder: Path, settings: Settings, number: int, cut: bool) -> None:
    """Train, and be killed when a file is about to take its place for the n-th time."""
    count, move = itertools.count(1), os.replace

    def replace_or_die(source: Any, target: Any) -> None:
        if next(count) == number:
            if cut:
                os.truncate(source, os.path.getsize(source) // 2)
            kill_oneself()
        move(source, target)

    os.replace = replace_or_die  # type: ignore[assignment]
    continue_or_train(spec, folder, settings)


def train_until_batch(spec: str, folder: Path, settings: Settings, number: int) -> None:
    """Train, and be killed in the middle of the n-th batch of this process."""
    count, step = itertools.count(1), ClassificationTask.training_step

    def step_or_die(self: ClassificationTask, batch: Any, place: int) -> Tensor:
        if next(count) == number:
            kill_oneself()
        return step(self, batch, place)

    ClassificationTask.training_step = step_or_die  # type: ignore[method-assign]
    continue_or_train(spec, folder, settings)


def continue_or_train(spec: str, folder: Path, settings: Settings) -> None:
    if Run.is_run(folder):
        resume(folder)
    else:
        train([spec], folder, settings)


def files_of_a_run(cells: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    moved, move = [], os.replace
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda source, target: (moved.append(target), move(source, target)))
        train([cells], folder, LIVELY)
    return len(moved)


def test_a_run_killed_while_any_file_is_written_goes_on_to_the_same_end(
    whole: Path, cells: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = files_of_a_run(cells, tmp_path / "counted", monkeypatch)
    assert count >= 3 + 3 * 3  # run, skipped and cells; history, last and state of three epochs
    # Every file up to the first epoch's end, and those of the last epoch; some of them cut in the middle.
    for number in [*range(1, 9), *range(count - 2, count + 1)]:
        folder = tmp_path / f"run{number}"
        assert killed(train_until_file, cells, folder, LIVELY, number, number % 2 == 0)
        if number == 1:
            # Not even its note was there: there is nothing to resume, and nothing in the way.
            with pytest.raises(DataError, match="not the folder of a training run"):
                resume(folder)
        continue_or_train(cells, folder, LIVELY)
        assert_same_run(whole, folder)


@pytest.mark.parametrize("batch", [1, 2, 4, 8])
def test_a_run_killed_during_an_epoch_goes_on_to_the_same_end(
    whole: Path, cells: str, tmp_path: Path, batch: int
) -> None:
    assert killed(train_until_batch, cells, tmp_path / "run", LIVELY, batch)
    assert (tmp_path / "run" / "history.csv").exists() is (batch > 3)
    resume(tmp_path / "run")
    assert_same_run(whole, tmp_path / "run")


def test_a_run_killed_again_and_again_goes_on_to_the_same_end(
    whole: Path, cells: str, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    assert killed(train_until_file, cells, folder, LIVELY, 3, True)  # before the cells are divided
    assert killed(train_until_batch, cells, folder, LIVELY, 5)
    assert killed(train_until_file, cells, folder, LIVELY, 1, False)
    assert killed(train_until_batch, cells, folder, LIVELY, 3)
    assert not killed(train_until_batch, cells, folder, LIVELY, 1000)
    assert_same_run(whole, folder)


@pytest.mark.parametrize("wait", [0.0, 0.011, 0.037])
def test_a_run_killed_from_outside_goes_on_to_the_same_end(cells: str, tmp_path: Path, wait: float) -> None:
    settings = micro(epochs=6, ema=0.9)
    train([cells], tmp_path / "whole", settings)
    folder = tmp_path / "run"
    child = start(continue_or_train, cells, folder, settings)
    deadline = time.monotonic() + 60
    while not (folder / "history.csv").exists() and child.is_alive() and time.monotonic() < deadline:
        time.sleep(0.0005)
    time.sleep(wait)
    child.kill()
    child.join()
    resume(folder)
    assert_same_run(tmp_path / "whole", folder)


def test_two_optimizers_in_one_go_on_as_if_uninterrupted(cells: str, tmp_path: Path) -> None:
    settings = micro(epochs=6, optimizer="muon")
    train([cells], tmp_path / "whole", settings)
    assert killed(train_until_batch, cells, tmp_path / "run", settings, 5)
    resume(tmp_path / "run")
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_a_finished_run_stays_as_it_is(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    for _ in range(2):
        resume(tmp_path / "run")
        assert_same_run(whole, tmp_path / "run")


def test_a_run_may_be_moved_and_its_cache_deleted(whole: Path, cells: str, tmp_path: Path) -> None:
    assert killed(train_until_batch, cells, tmp_path / "run", LIVELY, 5)
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "elsewhere" / "prepared")
    (tmp_path / "elsewhere" / "prepared.part").mkdir()
    for name in ("history.part", "resume.part", "run.json.part"):
        (tmp_path / "elsewhere" / name).write_bytes(b"half")
    resume(tmp_path / "elsewhere")
    assert_same_run(whole, tmp_path / "elsewhere")


# --- stopping ----------------------------------------------------------------------------------------------

# With such a rate nothing is learnt, so that the first epoch stays the best.
TIRED = micro(epochs=9, patience=2, learning_rate=1e-12, schedule="constant", monitor="accuracy", ema=0.0)


def test_patience_ends_a_run_and_it_stays_ended(cells: str, tmp_path: Path) -> None:
    run = train([cells], tmp_path / "run", TIRED)
    assert run.history["epoch"].tolist() == [1, 2, 3]
    assert run.model().provenance["epoch"] == 1
    shutil.copytree(tmp_path / "run", tmp_path / "resumed")
    for _ in range(2):
        resume(tmp_path / "resumed")
        assert_same_run(tmp_path / "run", tmp_path / "resumed")


def test_patience_survives_a_kill(cells: str, tmp_path: Path) -> None:
    train([cells], tmp_path / "run", TIRED)
    assert killed(train_until_batch, cells, tmp_path / "killed", TIRED, 8)  # in the third epoch
    assert len(history(tmp_path / "killed")) == 2
    resume(tmp_path / "killed")
    assert_same_run(tmp_path / "run", tmp_path / "killed")


class SpoiltLoss(nn.Module):
    def __init__(self, loss: nn.Module, at: int) -> None:
        super().__init__()
        self.loss, self.at, self.calls = loss, at, 0

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        self.calls += logits.requires_grad
        return self.loss(logits, labels) * (float("nan") if self.calls == self.at else 1.0)


def test_a_loss_that_is_not_finite_leaves_the_last_good_weights(
    whole: Path, cells: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = training.make_loss
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(training, "make_loss", lambda *args, **named: SpoiltLoss(make(*args, **named), 5))
        with pytest.raises(
            NonFiniteLossError, match=r"epoch 2, batch 2 \(files: .*\.png.*lower the learning"
        ):
            train([cells], folder, LIVELY)
    run = Run.open(folder)
    assert len(run.history) == 1
    for which in ("best", "last"):
        assert run.model(which).provenance["epoch"] == 1
    # Had the cause been of the moment, the run would go on as if nothing had been.
    resume(folder)
    assert_same_run(whole, folder)


def test_a_run_that_diverges_at_once_has_no_model(
    cells: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = training.make_loss
    monkeypatch.setattr(training, "make_loss", lambda *args, **named: SpoiltLoss(make(*args, **named), 1))
    with pytest.raises(NonFiniteLossError, match="epoch 1, batch 1"):
        train([cells], tmp_path / "run", LIVELY)
    with pytest.raises(ModelError, match="no such model file"):
        Run.open(tmp_path / "run").model()


def train_until_interrupted(spec: str, folder: Path, settings: Settings, report: Path) -> None:
    """Train as a caller does who waits for Ctrl-C, and tell what was seen of it."""
    with report.with_suffix(".txt").open("w") as printed:
        os.dup2(printed.fileno(), 1)
        os.dup2(printed.fileno(), 2)
        handler = signal.getsignal(signal.SIGINT)
        try:
            train([spec], folder, settings)
            seen = "the end"
        except KeyboardInterrupt as error:
            seen = f"interrupt, because of {error.__cause__}"
        same = signal.getsignal(signal.SIGINT) is handler
    report.write_text(json.dumps([seen, same]))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send Ctrl-C to one process")
@pytest.mark.parametrize("when", ["prepared", "history.csv"])
def test_ctrl_c_is_a_keyboard_interrupt_and_the_run_can_be_resumed(
    cells: str, tmp_path: Path, when: str
) -> None:
    settings = micro(epochs=400, schedule="constant")
    folder, report = tmp_path / "run", tmp_path / "report"
    child = start(train_until_interrupted, cells, folder, settings, report)
    deadline = time.monotonic() + 60
    while not (folder / when).exists() and child.is_alive() and time.monotonic() < deadline:
        time.sleep(0.001)
    assert child.is_alive()
    os.kill(child.pid, signal.SIGINT)
    sent = time.monotonic()
    child.join(30)
    assert child.exitcode == 0
    assert time.monotonic() - sent < 10
    assert json.loads(report.read_text()) == ["interrupt, because of None", True]
    assert report.with_suffix(".txt").read_text() == ""
    if when == "history.csv":
        reached = len(history(folder))
        note = json.loads((folder / "run.json").read_text())
        note["settings"]["epochs"] = reached + 1
        (folder / "run.json").write_text(json.dumps(note))
        assert len(resume(folder).history) == reached + 1


# --- pictures ----------------------------------------------------------------------------------------------


def test_unreadable_files_are_told_and_the_rest_is_trained_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec = write_cells(tmp_path / "cells")
    broken = [tmp_path / "cells" / CLASSES[0] / "03.png", tmp_path / "cells" / CLASSES[2] / "00.png"]
    for file in broken:
        file.write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        run = train([spec], tmp_path / "run", micro(epochs=1))
    assert [file for file in broken if str(file) in caplog.text] == broken
    skipped = pd.read_csv(tmp_path / "run" / "skipped.csv")
    assert skipped["path"].tolist() == [str(file) for file in broken]
    assert skipped["reason"].str.len().min() > 0
    frame = run.manifest.frame.set_index("path")
    assert (frame.loc[[str(file) for file in broken], ["split", "hash"]] == "").all(axis=None)
    assert (frame["split"] != "").sum() == 28
    resume(tmp_path / "run")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such file names")
def test_names_that_are_no_text_are_trained_on(tmp_path: Path) -> None:
    spec = write_cells(tmp_path / "cells")
    odd = os.fsencode(tmp_path / "cells" / CLASSES[0])
    for name in (b"caf\xe9.png", b'quote",\r\n.png'):
        os.rename(odd + b"/00.png" if name[0] == 99 else odd + b"/01.png", odd + b"/" + name)
    Path(os.fsdecode(odd + b"/caf\xe9.png")).write_bytes(b"")
    train([spec], tmp_path / "run", micro(epochs=1))
    resume(tmp_path / "run")


def test_changed_pictures_are_not_trained_on(whole: Path, tmp_path: Path) -> None:
    spec = write_cells(tmp_path / "cells")
    train([spec], tmp_path / "run", micro(epochs=1))
    changed = tmp_path / "cells" / CLASSES[1] / "04.png"
    save(changed, picture(777))
    os.utime(changed, ns=(1, 1))
    with pytest.raises(DataError, match="1 pictures have changed since the run began") as caught:
        resume(tmp_path / "run")
    assert str(changed) in str(caught.value)


def test_copies_of_a_picture_are_in_one_part(tmp_path: Path) -> None:
    spec = write_cells(tmp_path / "cells")
    twins = [f"{CLASSES[0]}/{number:02}.png" for number in range(6)]
    for name in twins:
        save(tmp_path / "cells" / name, picture(0, 0))
    frame = train([spec], tmp_path / "run", micro(epochs=1)).manifest.frame
    assert len(set(frame["split"][frame["path"].str.endswith(tuple(twins))])) == 1


# --- mistakes ----------------------------------------------------------------------------------------------


def test_mistakes_are_told_before_a_folder_is_made(cells: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least 2 classes"):
        train([f"{cells}/{CLASSES[0]}"], tmp_path / "run", micro())
    with pytest.raises(DataError):
        train([f"folder:{tmp_path}/nowhere"], tmp_path / "run", micro())
    with pytest.raises(SettingError, match="augmentation"):
        train([cells], tmp_path / "run", micro(augmentation="heavy"))
    assert not (tmp_path / "run").exists()


def test_another_run_is_not_overwritten(whole: Path, cells: str) -> None:
    before = {entry: entry.stat().st_mtime_ns for entry in whole.iterdir()}
    with pytest.raises(DataError, match="not empty"):
        train([cells], whole, LIVELY)
    assert {entry: entry.stat().st_mtime_ns for entry in whole.iterdir()} == before


def test_a_manifest_cannot_be_scanned_again(cells: str, tmp_path: Path) -> None:
    Run(tmp_path / "run", micro(), (), "float32").create()
    with pytest.raises(DataError, match="train again from the manifest"):
        resume(tmp_path / "run")


def test_a_damaged_state_is_a_training_error(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    state = tmp_path / "run" / "resume.ckpt"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(TrainingError, match=r"resume\.ckpt: is damaged"):
        resume(tmp_path / "run")


def test_a_full_disk_is_a_training_error(cells: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Any, *args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(callbacks.TorchCheckpointIO, "save_checkpoint", full)
    with pytest.raises(TrainingError, match="No space left on device; free some space and resume"):
        train([cells], tmp_path / "run", micro())
    monkeypatch.undo()
    resume(tmp_path / "run")
    train([cells], tmp_path / "whole", micro())
    assert_same_run(tmp_path / "whole", tmp_path / "run")


# --- manners -----------------------------------------------------------------------------------------------


def surroundings() -> Iterator[tuple[str, Any]]:
    yield "torch", torch.get_rng_state().tolist()
    yield "numpy", str(np.random.get_state())  # noqa: NPY002
    yield "python", random.getstate()
    yield (
        "deterministic",
        (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.backends.cudnn.deterministic,
            torch.backends.cudnn.benchmark,
        ),
    )
    yield (
        "torch's ways",
        (
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.get_num_threads(),
            torch.get_default_dtype(),
            torch.get_float32_matmul_precision(),
            torch.is_autocast_enabled("cpu"),
        ),
    )
    yield "filters", list(warnings.filters)
    names = ["", "lightning", "lightning.pytorch", "lightning.fabric", "leukonca", "py.warnings"]
    for name in names:
        logger = logging.getLogger(name)
        yield f"logger {name!r}", (logger.level, logger.disabled, logger.propagate, list(logger.handlers))
    yield "signals", [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield "environment", dict(os.environ)
    yield "folder", os.getcwd()


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_left_behind(
    cells: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    if fails:
        make = training.make_loss
        monkeypatch.setattr(training, "make_loss", lambda *args, **named: SpoiltLoss(make(*args, **named), 2))
    torch.manual_seed(5)
    before = dict(surroundings())
    try:
        train([cells], tmp_path / "run", micro(epochs=1)).model()
    except NonFiniteLossError:
        assert fails
    for name, value in surroundings():
        assert value == before[name], name


def test_nothing_is_printed(cells: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train([cells], tmp_path / "run", micro(epochs=2))
    resume(tmp_path / "run")
    assert capfd.readouterr() == ("", "")


def test_progress_is_shown_where_it_is_asked_for(
    cells: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train([cells], tmp_path / "run", micro(epochs=1), progress=True)
    out, err = capfd.readouterr()
    assert "cells/s=" in out + err
    assert "left=0:00:" in out + err


def test_precision_asked_for_is_precision_given() -> None:
    assert resolved_precision("float32") == "float32"
    assert resolved_precision("bfloat16") == "bfloat16"
    assert resolved_precision("auto") in ("float32", "bfloat16")


# --- calibration -------------------------------------------------------------------------------------------


def test_the_best_model_is_calibrated_on_the_validation_cells(whole: Path) -> None:
    run = Run.open(whole)
    best = run.model()
    assert best.trust is not None
    assert best.trust.fitted["kind"] == "the model's validation cells"
    assert best.trust.fitted["cells"] == len(best.trust.scores) == 6
    again = calibrate(replace(best, trust=None), run.manifest)
    assert again.trust is not None
    assert again.trust.temperature == best.trust.temperature
    np.testing.assert_array_equal(again.trust.scores, best.trust.scores)


def test_enough_cells_let_foreign_pictures_be_noticed(tmp_path: Path) -> None:
    run = train([write_cells(tmp_path / "cells", 40)], tmp_path / "run", micro(epochs=1))
    trust = run.model().trust
    assert trust is not None
    assert trust.familiarity is not None
    assert (len(trust.familiarity.distances), trust.fitted["training_cells"]) == (24, 72)


def test_a_run_that_was_killed_before_its_calibration_is_calibrated_on_resuming(
    whole: Path, cells: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "calibrate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train([cells], tmp_path / "run", LIVELY)
    assert Run.open(tmp_path / "run").model().trust is None
    resume(tmp_path / "run")
    assert_same_run(whole, tmp_path / "run")
