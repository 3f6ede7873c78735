"""What happens beside the training itself: history, best weights, progress, safe checkpoints."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import EarlyStopping, TQDMProgressBar

from leukonca.errors import TrainingError

__all__ = ["AtomicCheckpoints", "History", "Patience", "Progress"]

_LOG = logging.getLogger(__name__)


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its name and moves it there: a killed run leaves the old or the new one."""

    def save_checkpoint(  # noqa: D102
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        unfinished = Path(path).with_suffix(".part")
        super().save_checkpoint(checkpoint, unfinished, storage_options)
        os.replace(unfinished, path)

    def load_checkpoint(  # noqa: D102
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        try:
            return super().load_checkpoint(path, map_location, weights_only)
        except Exception as error:  # torch raises many kinds for a broken file
            raise TrainingError(
                f"{path}: is damaged, so that the run cannot go on ({error}); use its best or last model, "
                "or train anew"
            ) from error


class History(Callback):
    """Keeps a row a finished epoch, writes it as CSV, and hands the best and the last network on.

    Its rows and the best figure are part of the checkpoint, so that a resumed run neither loses nor repeats
    a row, and does not take a worse epoch for the best.

    Args:
        path: The CSV file.
        monitor: Column that decides which epoch is best; the lowest ``val/loss``, the highest of any other.
        keep: Called with ``best`` or ``last`` and the row, after each epoch.
    """

    def __init__(self, path: Path, monitor: str, keep: Callable[[str, dict[str, float]], None]) -> None:
        self.path, self.monitor, self.keep = path, monitor, keep
        self.rows: list[dict[str, float]] = []
        self.best: dict[str, float] | None = None
        self._started = 0.0

    def state_dict(self) -> dict[str, Any]:  # noqa: D102
        return {"rows": self.rows, "best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:  # noqa: D102
        self.rows, self.best = list(state_dict["rows"]), state_dict["best"]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: D102
        self._started = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: D102
        figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
        row = {
            "epoch": float(trainer.current_epoch + 1),
            **{name: figures[name] for name in sorted(figures) if "/" in name},
            "learning_rate": float(trainer.optimizers[0].param_groups[0]["lr"]),
            "seconds": round(time.monotonic() - self._started, 1),
        }
        self.rows.append(row)
        self._write()
        lowest = self.monitor == "val/loss"
        better = self.best is None or (
            row[self.monitor] < self.best[self.monitor]
            if lowest
            else row[self.monitor] > self.best[self.monitor]
        )
        if better:
            self.best = row
            self.keep("best", row)
        self.keep("last", row)
        _LOG.info(
            "epoch %d/%d: training loss %.4f, validation loss %.4f, accuracy %.4f, macro-F1 %.4f%s (%.0f s)",
            row["epoch"],
            trainer.max_epochs,
            row["train/loss"],
            row["val/loss"],
            row["val/accuracy"],
            row["val/macro_f1"],
            ", the best so far" if better else "",
            row["seconds"],
        )

    def _write(self) -> None:
        unfinished = self.path.with_suffix(".part")
        pd.DataFrame(self.rows).astype({"epoch": int}).to_csv(unfinished, index=False)
        os.replace(unfinished, self.path)


class Patience(EarlyStopping):
    """Early stopping that stays stopped: a run that had ended and is resumed trains no further epoch."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: D102
        super().on_train_start(trainer, pl_module)
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class Progress(TQDMProgressBar):
    """Lightning's bar with cells/s and the time left of the whole run.

    Args:
        cells: Training cells an epoch.
        batches: Batches an epoch.
    """

    def __init__(self, cells: int, batches: int) -> None:
        super().__init__()
        self.cells, self.batches = cells, batches
        self._started, self._first = 0.0, 0

    def on_train_epoch_start(self, trainer: Trainer, *args: Any) -> None:  # noqa: D102
        super().on_train_epoch_start(trainer, *args)
        if not self._started:
            self._started, self._first = time.monotonic(), trainer.global_step

    def get_metrics(  # noqa: D102
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        metrics = {
            name: value
            for name, value in super().get_metrics(trainer, pl_module).items()
            if name in ("train/loss", "val/macro_f1", "val/accuracy")
        }
        done = trainer.global_step - self._first
        if done:
            # Validation counts in, so that the time left is that of the run and not of its batches.
            a_batch = (time.monotonic() - self._started) / done
            left = a_batch * (self.batches * (trainer.max_epochs or 0) - trainer.global_step)
            metrics["cells/s"] = f"{self.cells / self.batches / a_batch:.0f}"
            metrics["left"] = f"{left // 3600:.0f}:{left % 3600 // 60:02.0f}:{left % 60:02.0f}"
        return metrics
