"""What one step of training is, for Lightning."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from leukonca.cells.framing import Framing
from leukonca.errors import NonFiniteLossError
from leukonca.learning.augmentation import Augmentation, augment, picture_seeds
from leukonca.learning.baselines import Baseline
from leukonca.learning.batches import Batch
from leukonca.learning.consistency import disagreement
from leukonca.learning.distillation import Teachers, distance
from leukonca.learning.draws import uniforms
from leukonca.learning.geometry import centre_crop
from leukonca.learning.losses import Loss
from leukonca.learning.networks import Network
from leukonca.learning.optimizers import make_optimizer
from leukonca.learning.restraint import growth
from leukonca.learning.settings import Settings
from leukonca.learning.statistics import InputStatistics, normalise
from leukonca.nca.classifier import CellClassifier
from leukonca.nca.firing import derive_seed

__all__ = ["ClassificationTask"]

_MOST_FILES_NAMED = 8
_REMEDY = "lower the learning rate, set clip to 1 or precision to float32; the last good weights were kept"

# Tells the numbers that vary a rollout from those that decide on its firing.
_ROLLOUT = 1

# The share of the steps in which the learning rate of ``one_cycle`` rises.
_RISE = 0.2


class ClassificationTask(LightningModule):
    """Trains a classifier and validates its moving average.

    Nothing is drawn from a global stream: order, augmentation and firing are functions of the run's seed and
    the place in the run, so that a resumed run does what the uninterrupted one would have done.

    Args:
        network: The automaton or baseline.
        loss: Its loss.
        settings: Of the run.
        augmentation: How training pictures vary.
        framing: Of the input; training pictures come on a larger canvas.
        statistics: Of the training cells.
        paths: The files of the manifest's rows, to name those of a batch that went wrong.
        teachers: Whose answers are learnt beside the labels; ``None``: nobody's.
    """

    def __init__(
        self,
        network: Network,
        loss: Loss,
        settings: Settings,
        augmentation: Augmentation,
        framing: Framing,
        statistics: InputStatistics,
        paths: list[str],
        teachers: Teachers | None = None,
    ) -> None:
        super().__init__()
        self.network, self.loss, self.settings = network, loss, settings
        self.restraint = settings.restraint_weight()
        self.augmentation, self.framing, self.statistics, self.paths = (
            augmentation,
            framing,
            statistics,
            paths,
        )
        self.teachers = teachers  # no module: neither trained nor part of a checkpoint
        # The running statistics of batch normalisation belong to the weights: they are averaged with them.
        self.averaged = (
            AveragedModel(network, multi_avg_fn=_Ema(settings.ema), use_buffers=True)
            if settings.ema
            else None
        )
        classes = network.classes
        self.accuracy = MulticlassAccuracy(classes, average="micro")
        self.macro_f1 = MulticlassF1Score(classes, average="macro")
        self._validation_loss: list[tuple[Tensor, int]] = []

    @property
    def best_network(self) -> Network:
        """The network to validate and keep: the moving average where there is one."""
        if self.averaged is None:
            return self.network
        network = self.averaged.module
        if not isinstance(network, (CellClassifier, Baseline)):
            raise TypeError(f"the moving average holds a {type(network).__name__}")
        return network

    def training_step(self, batch: Batch, number: int) -> Tensor:
        """Return the loss of a batch.

        Raises:
            NonFiniteLossError: It is NaN or infinite.
        """
        canvas = batch.pictures.permute(0, 3, 1, 2).float() / 255
        loss, logits = self._learn(batch, number, canvas, version=0)
        if self.settings.consistency:
            loss_again, logits_again = self._learn(batch, number, canvas, version=1)
            apart = disagreement(logits, logits_again)
            loss = (loss + loss_again) / 2 + self.settings.consistency * apart
        if not torch.isfinite(loss):
            self._give_up(batch, number, loss.item())
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(batch))
        return loss

    def _learn(self, batch: Batch, number: int, canvas: Tensor, *, version: int) -> tuple[Tensor, Tensor]:
        """Return the loss of one version of each cell of a batch, and its logits."""
        # The first version has the run's own seed.
        seed = derive_seed(self.settings.seed, version) if version else self.settings.seed
        epoch = self.current_epoch
        pictures = augment(
            canvas, self.augmentation, self.framing.size, seeds=picture_seeds(seed, epoch, batch.positions)
        )
        inputs = normalise(pictures, self.settings.normalisation, self.statistics)
        firing = derive_seed(seed, epoch, number)
        logits, penalty = self._answer(inputs, batch.images, firing)
        loss: Tensor = self.loss(logits, batch.labels)
        if self.teachers is not None:
            answer = self.teachers.answer(pictures, batch.images, firing)
            learnt = distance(logits, answer, self.teachers.temperature)
            loss = torch.lerp(loss, learnt, self.settings.distill)
        return loss + penalty, logits

    def _answer(self, inputs: Tensor, images: Tensor, seed: int) -> tuple[Tensor, Tensor | float]:
        """Return the network's logits, and what the size of its state adds to the loss."""
        network, varied = self.network, self._varied_rollout(seed)
        if not self.restraint or not isinstance(network, CellClassifier):
            return network(inputs, images, seed, **varied), 0.0
        run = network.rollout(inputs, images, seed=seed, **varied)
        return run.logits, self.restraint * growth(
            run.state, network.architecture.inputs, self.settings.restraint_bound
        )

    def _varied_rollout(self, seed: int) -> dict[str, Any]:
        """Return the number of steps and the firing probability of a rollout, where they vary."""
        settings, network = self.settings, self.network
        if not isinstance(network, CellClassifier) or not (settings.vary_steps or settings.vary_firing):
            return {}
        steps, firing = (2 * uniforms(torch.tensor([derive_seed(seed, _ROLLOUT)]), 2)[0] - 1).tolist()
        architecture = network.architecture
        return {
            "steps": max(1, round(architecture.steps * (1 + settings.vary_steps * steps))),
            "firing": min(1.0, architecture.firing * (1 + settings.vary_firing * firing)),
        }

    def _give_up(self, batch: Batch, number: int, loss: float) -> None:
        files = [self.paths[row] for row in batch.rows.tolist()]
        named = ", ".join(files[:_MOST_FILES_NAMED])
        more = f" and {len(files) - _MOST_FILES_NAMED} more" if len(files) > _MOST_FILES_NAMED else ""
        raise NonFiniteLossError(
            f"the loss became {loss} in epoch {self.current_epoch + 1}, batch {number + 1} "
            f"(files: {named}{more}); {_REMEDY}"
        )

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Follow the weights with their moving average."""
        if self.averaged is not None:
            self.averaged.update_parameters(self.network)

    def validation_step(self, batch: Batch, number: int) -> None:
        """Add a batch to the figures of the validation cells."""
        canvas = batch.pictures.permute(0, 3, 1, 2).float() / 255
        inputs = normalise(
            centre_crop(canvas, self.framing.size), self.settings.normalisation, self.statistics
        )
        with torch.autocast(canvas.device.type, enabled=False):
            logits = self.best_network(inputs, batch.images, 0)
        self._validation_loss.append((self.loss(logits, batch.labels).detach(), len(batch)))
        self.accuracy.update(logits, batch.labels)
        self.macro_f1.update(logits, batch.labels)

    def on_validation_epoch_end(self) -> None:
        """Log loss, accuracy and macro-F1 of the validation cells."""
        cells = sum(count for _, count in self._validation_loss)
        loss = sum(float(value) * count for value, count in self._validation_loss) / cells
        self._validation_loss.clear()
        if not math.isfinite(loss):
            # The last step of the epoch can spoil the weights without any training loss to show it.
            raise NonFiniteLossError(
                f"the validation loss became {loss} after epoch {self.current_epoch + 1}: the weights have "
                f"diverged; {_REMEDY}"
            )
        for name, value in (("loss", loss), ("accuracy", self.accuracy), ("macro_f1", self.macro_f1)):
            self.log(f"val/{name}", float(value if isinstance(value, float) else value.compute()))
        self.accuracy.reset()
        self.macro_f1.reset()

    def configure_optimizers(self) -> Any:
        """Return optimizer and schedule."""
        settings, name = self.settings, self.settings.optimizer_name()
        optimizer = make_optimizer(name, self.network, settings.learning_rate, settings.weight_decay)
        if settings.schedule == "constant":
            return optimizer
        schedule: torch.optim.lr_scheduler.LRScheduler
        if settings.schedule == "one_cycle":
            steps = int(self.trainer.estimated_stepping_batches)
            # A rise of exactly one step divides by zero in PyTorch; below that there is no rise anyway.
            rise = _RISE if steps * _RISE > 1 else 0.5 / steps
            schedule = torch.optim.lr_scheduler.OneCycleLR(
                optimizer,
                settings.learning_rate,
                total_steps=steps,
                pct_start=rise,
                cycle_momentum=name != "muon",  # whose groups name it differently
            )
        else:
            schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9999)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class _Ema:
    """Exponential moving average; its decay rises to its value, so that the start is soon forgotten."""

    def __init__(self, decay: float) -> None:
        self.decay = decay

    @torch.no_grad()
    def __call__(self, averaged: Any, current: Any, count: Tensor | int) -> None:
        if not averaged[0].is_floating_point():  # batch normalisation counts its batches
            torch._foreach_copy_(averaged, current)
            return
        seen = int(count)
        torch._foreach_lerp_(averaged, current, 1 - min(self.decay, (1 + seen) / (10 + seen)))
