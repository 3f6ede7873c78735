from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch

from leukonca.errors import TrainingError
from leukonca.learning import callbacks
from leukonca.learning.callbacks import AtomicCheckpoints, History, Patience, Progress


def trainer(epoch: int, **figures: float) -> Any:
    values = {"train/loss": 1.0, "val/loss": 1.0, "val/accuracy": 0.5, "val/macro_f1": 0.5}
    values |= {name.replace("_", "/", 1): value for name, value in figures.items()}
    return SimpleNamespace(
        current_epoch=epoch,
        max_epochs=9,
        should_stop=False,
        callback_metrics={name: torch.tensor(value) for name, value in values.items()},
        optimizers=[SimpleNamespace(param_groups=[{"lr": 0.25}])],
    )


class Kept:
    def __init__(self) -> None:
        self.calls: list[tuple[str, float]] = []

    def __call__(self, which: str, row: dict[str, float]) -> None:
        self.calls.append((which, row["epoch"]))


def run_through(history: History, figures: list[dict[str, float]], first: int = 0) -> None:
    for epoch, values in enumerate(figures, start=first):
        state = trainer(epoch, **values)
        history.on_train_epoch_start(state, None)  # type: ignore[arg-type]
        history.on_train_epoch_end(state, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("monitor", "values", "best"),
    [
        ("val/macro_f1", [0.2, 0.4, 0.3, 0.4, 0.5], [1, 2, 5]),
        ("val/accuracy", [0.5, 0.4, 0.3], [1]),
        ("val/loss", [0.5, 0.6, 0.4, 0.4], [1, 3]),
    ],
)
def test_the_first_of_the_best_is_kept(
    tmp_path: Path, monitor: str, values: list[float], best: list[int]
) -> None:
    kept = Kept()
    history = History(tmp_path / "history.csv", monitor, kept)
    run_through(history, [{monitor.replace("/", "_"): value} for value in values])
    assert [epoch for which, epoch in kept.calls if which == "best"] == best
    assert [epoch for which, epoch in kept.calls if which == "last"] == list(range(1, len(values) + 1))


def test_the_file_has_a_row_an_epoch(tmp_path: Path) -> None:
    run_through(
        History(tmp_path / "history.csv", "val/loss", Kept()), [{"train_loss": 0.75}, {"train_loss": 0.5}]
    )
    table = pd.read_csv(tmp_path / "history.csv")
    assert table.columns.tolist() == [
        "epoch",
        "train/loss",
        "val/accuracy",
        "val/loss",
        "val/macro_f1",
        "learning_rate",
        "seconds",
    ]
    assert table["epoch"].tolist() == [1, 2]
    assert table["train/loss"].tolist() == [0.75, 0.5]
    assert table["learning_rate"].tolist() == [0.25, 0.25]
    assert [entry.name for entry in tmp_path.iterdir()] == ["history.csv"]


def test_a_resumed_history_goes_on(tmp_path: Path) -> None:
    first = History(tmp_path / "history.csv", "val/accuracy", Kept())
    run_through(first, [{"val_accuracy": 0.9}, {"val_accuracy": 0.3}])
    kept = Kept()
    second = History(tmp_path / "history.csv", "val/accuracy", kept)
    second.load_state_dict(first.state_dict())
    run_through(second, [{"val_accuracy": 0.8}], first=2)
    assert kept.calls == [("last", 3)]  # epoch 1 stays the best
    assert pd.read_csv(tmp_path / "history.csv")["val/accuracy"].tolist() == pytest.approx([0.9, 0.3, 0.8])
    assert len(first.rows) == 2


def test_each_epoch_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger=callbacks.__name__):
        run_through(History(tmp_path / "h.csv", "val/loss", Kept()), [{"val_loss": 0.5}, {"val_loss": 0.6}])
    first, second = [record.getMessage() for record in caplog.records]
    assert first.startswith("epoch 1/9: training loss 1.0000, validation loss 0.5000")
    assert "the best so far" in first
    assert "the best so far" not in second


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, file = AtomicCheckpoints(), tmp_path / "resume.ckpt"
    storage.save_checkpoint({"epoch": 1}, file)
    assert storage.load_checkpoint(file, weights_only=True) == {"epoch": 1}

    def fail(source: Any, target: Any) -> None:
        raise OSError("killed")

    monkeypatch.setattr(callbacks.os, "replace", fail)
    with pytest.raises(OSError, match="killed"):
        storage.save_checkpoint({"epoch": 2}, file)
    monkeypatch.undo()
    assert storage.load_checkpoint(file, weights_only=True) == {"epoch": 1}
    storage.save_checkpoint({"epoch": 3}, file)  # what was left over does no harm
    assert storage.load_checkpoint(file, weights_only=True) == {"epoch": 3}
    assert [entry.name for entry in tmp_path.iterdir()] == ["resume.ckpt"]


@pytest.mark.parametrize("kept", [0, 10, 200])
def test_a_damaged_checkpoint_is_a_training_error(tmp_path: Path, kept: int) -> None:
    storage, file = AtomicCheckpoints(), tmp_path / "resume.ckpt"
    storage.save_checkpoint({"weights": torch.arange(1000)}, file)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(TrainingError, match="is damaged") as caught:
        storage.load_checkpoint(file, weights_only=True)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(("waited", "stops"), [(0, False), (1, False), (2, True), (3, True)])
def test_patience_that_had_ended_stays_ended(waited: int, stops: bool) -> None:
    patience = Patience("val/loss", patience=2)
    patience.wait_count = waited
    state = trainer(3)
    patience.on_train_start(state, None)  # type: ignore[arg-type]
    assert state.should_stop is stops


def test_progress_tells_speed_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: clock[0])
    shown = {"train/loss": "0.5", "v_num": 1}
    monkeypatch.setattr(callbacks.TQDMProgressBar, "get_metrics", lambda *args: dict(shown))
    monkeypatch.setattr(callbacks.TQDMProgressBar, "on_train_epoch_start", lambda *args: None)
    progress = Progress(cells=100, batches=10)
    state = SimpleNamespace(global_step=20, max_epochs=4)  # resumed after two of four epochs
    progress.on_train_epoch_start(state)  # type: ignore[arg-type]
    assert progress.get_metrics(state, None) == {"train/loss": "0.5"}  # type: ignore[arg-type]
    clock[0] += 50.0
    state.global_step = 25
    metrics = progress.get_metrics(state, None)  # type: ignore[arg-type]
    assert metrics == {"train/loss": "0.5", "cells/s": "1", "left": "0:02:30"}
