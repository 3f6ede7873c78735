from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Callback, Trainer
from micro import micro, picture
from scipy.spatial.distance import jensenshannon
from sklearn.metrics import f1_score
from torch import Tensor, nn

from leukonca.cells.framing import Framing
from leukonca.errors import NonFiniteLossError
from leukonca.learning.augmentation import preset
from leukonca.learning.batches import Batch, Cells, CellsModule
from leukonca.learning.losses import make_loss
from leukonca.learning.optimizers import MuonWithAdamW
from leukonca.learning.settings import Settings
from leukonca.learning.statistics import input_statistics
from leukonca.learning.task import ClassificationTask
from leukonca.nca.classifier import CellClassifier

pytestmark = [
    # Lightning's advice, which training.py keeps from the user.
    pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
]
SIDE = 20


def cells() -> Cells:
    labels = np.arange(20, dtype=np.int64) % 3
    rows = np.arange(20, dtype=np.int64)
    pictures = np.stack([picture(row, label, SIDE) for row, label in enumerate(labels)])
    return Cells(pictures, rows * 11, rows, labels)


def make(settings: Settings) -> tuple[ClassificationTask, CellsModule]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = CellClassifier(settings.architecture(), 3)
    task = ClassificationTask(
        network,
        make_loss(settings.loss, label_smoothing=settings.label_smoothing, gamma=settings.focal_gamma),
        settings,
        preset(settings.augmentation),
        Framing(16),
        input_statistics(cells().blocks()),
        [f"/cells/{row}.png" for row in range(20)],
    )
    return task, CellsModule(
        cells(), cells(), batch=settings.batch, seed=settings.seed, balance=settings.balance
    )


def fit(task: ClassificationTask, data: CellsModule, *callbacks: Callback) -> Trainer:
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        precision="bf16-mixed" if task.settings.precision == "bfloat16" else "32-true",
        max_epochs=task.settings.epochs,
        gradient_clip_val=task.settings.clip or None,
        num_sanity_val_steps=0,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(task, datamodule=data)
    return trainer


class Watch(Callback):
    """Notes what each step was done with."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.weights: list[dict[str, Tensor]] = []
        self.norms: list[float] = []
        self.losses: list[float] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])
        gradients = [p.grad for p in pl_module.network.parameters() if p.grad is not None]
        self.norms.append(float(torch.linalg.vector_norm(torch.cat([g.flatten() for g in gradients]))))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.weights.append(copy.deepcopy(pl_module.network.state_dict()))
        self.losses.append(float(outputs["loss"]))


def watched(**changes: Any) -> tuple[ClassificationTask, Trainer, Watch]:
    watch = Watch()
    task, data = make(micro(**changes))
    return task, fit(task, data, watch), watch


def one_cycle(highest: float, steps: int) -> list[float]:
    """L. Smith's one cycle with cosine annealing, as PyTorch documents it, with a rise of a fifth."""

    def between(first: float, last: float, share: float) -> float:
        return last + (first - last) / 2 * (1 + math.cos(math.pi * share))

    top = 0.2 * steps - 1
    return [
        between(highest / 25, highest, step / top)
        if step <= top
        else between(highest, highest / 25 / 1e4, (step - top) / (steps - 1 - top))
        for step in range(steps)
    ]


def test_one_cycle_rises_and_falls() -> None:
    _, _, watch = watched(schedule="one_cycle", epochs=5, learning_rate=0.01)
    np.testing.assert_allclose(watch.rates, one_cycle(0.01, 15), rtol=1e-9)
    assert max(watch.rates) == pytest.approx(0.01)


@pytest.mark.parametrize("epochs", [1, 2, 4, 5, 6])
def test_one_cycle_has_no_number_of_steps_that_it_cannot_do(epochs: int) -> None:
    # A rise of exactly one step (five in all) divides by zero in PyTorch's schedule.
    _, _, watch = watched(schedule="one_cycle", epochs=epochs, batch=20, learning_rate=0.01)
    assert len(watch.rates) == epochs
    assert all(0 < rate <= 0.01 for rate in watch.rates)


def test_the_schedule_of_the_paper_falls_with_each_batch() -> None:
    _, _, watch = watched(schedule="paper", epochs=3, learning_rate=0.01)
    np.testing.assert_allclose(watch.rates, 0.01 * 0.9999 ** np.arange(9), rtol=1e-12)


def test_a_constant_schedule_stays() -> None:
    assert watched(schedule="constant", epochs=2)[2].rates == [0.02] * 6


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("muon", MuonWithAdamW)]
)
def test_the_optimizer_is_the_one_asked_for(name: Any, kind: type) -> None:
    _, trainer, _ = watched(optimizer=name, weight_decay=0.25, epochs=1)
    assert type(trainer.optimizers[0]) is kind
    assert trainer.optimizers[0].param_groups[0]["weight_decay"] == 0.25


def test_the_average_follows_the_weights() -> None:
    task, _, watch = watched(ema=0.3, epochs=2)
    assert task.averaged is not None
    assert task.best_network is task.averaged.module
    for name in ("rule.hidden_weight", "rule.update_weight", "head.0.bias"):
        average = watch.weights[0][name]
        for seen, weights in enumerate(watch.weights[1:], start=1):
            decay = min(0.3, (1 + seen) / (10 + seen))
            average = average * decay + weights[name] * (1 - decay)
        torch.testing.assert_close(task.best_network.state_dict()[name], average, rtol=1e-5, atol=1e-7)
        assert not torch.equal(average, watch.weights[-1][name])


def test_without_average_the_network_itself_is_kept() -> None:
    task, _, _ = watched(ema=0.0, epochs=1)
    assert task.averaged is None
    assert task.best_network is task.network


def test_the_figures_are_those_of_the_network_that_is_kept() -> None:
    task, trainer, _ = watched(ema=0.9, epochs=2)
    data = cells()
    pictures = data.pictures[:, 2:18, 2:18].astype(np.float64) / 255
    mean, std = np.array(task.statistics.mean), np.array(task.statistics.std)
    inputs = torch.from_numpy(((pictures - mean) / std).transpose(0, 3, 1, 2)).float()
    with torch.no_grad():
        logits = task.best_network(inputs, torch.from_numpy(data.images), 0)
    labels, found = torch.from_numpy(data.labels), logits.argmax(1).numpy()
    figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert figures["val/loss"] == pytest.approx(float(task.loss(logits, labels)), rel=1e-5)
    assert figures["val/accuracy"] == pytest.approx((found == data.labels).mean())
    assert figures["val/macro_f1"] == pytest.approx(f1_score(data.labels, found, average="macro"))


def test_the_training_loss_is_the_mean_over_the_cells() -> None:
    _, trainer, watch = watched(epochs=1)  # batches of 8, 8 and 4
    expected = np.average(watch.losses, weights=[8, 8, 4])
    assert float(trainer.callback_metrics["train/loss"]) == pytest.approx(expected, rel=1e-6)


def test_clipping_acts() -> None:
    free, clipped = watched(clip=0.0, epochs=1)[2], watched(clip=0.01, epochs=1)[2]
    assert min(free.norms) > 0.01
    # The hook sees the gradient before it is clipped; what it did shows in the weights.
    assert clipped.norms[0] == free.norms[0]
    sgd = {clip: _largest_change_with_plain_descent(clip) for clip in (0.0, 0.01)}
    assert sgd[0.01] <= 0.01 * 1.001 < sgd[0.0]


def _largest_change_with_plain_descent(clip: float) -> float:
    # Adam forgets the size of a gradient; plain descent with rate 1 shows it.
    task, data = make(micro(clip=clip, epochs=1, batch=20))
    before = torch.nn.utils.parameters_to_vector(task.network.parameters()).detach().clone()
    task.configure_optimizers = lambda: torch.optim.SGD(task.network.parameters(), 1.0)  # type: ignore[method-assign]
    fit(task, data)
    after = torch.nn.utils.parameters_to_vector(task.network.parameters()).detach()
    return float((after - before).norm())


@pytest.mark.parametrize("loss", ["bce", "cross_entropy", "focal"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_each_loss_and_precision_learns(loss: Any, precision: Any) -> None:
    task, trainer, watch = watched(
        loss=loss, precision=precision, epochs=8, augmentation="none", label_smoothing=0.0
    )
    assert watch.losses[-1] < watch.losses[0]
    assert all(parameter.dtype == torch.float32 for parameter in task.network.parameters())
    assert float(trainer.callback_metrics["val/accuracy"]) > 0.5


class SpoiltLoss(nn.Module):
    """Becomes NaN at one call of the training, or only in the gradient."""

    def __init__(self, loss: nn.Module, at: int, value: float = math.nan, *, backward: bool = False) -> None:
        super().__init__()
        self.loss, self.at, self.value, self.backward, self.calls = loss, at, value, backward, 0

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        result = self.loss(logits, labels)
        if not logits.requires_grad:
            return result
        self.calls += 1
        if self.calls != self.at:
            return result
        if self.backward:
            result.register_hook(lambda gradient: gradient * self.value)
            return result
        return result * self.value


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_epoch_batch_and_files(value: float) -> None:
    task, data = make(micro())
    task.loss = SpoiltLoss(task.loss, 5, value)  # type: ignore[assignment]
    seen: list[Batch] = []

    class Batches(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Batch, batch_idx: int) -> None:
            seen.append(batch)

    with pytest.raises(NonFiniteLossError, match=rf"became {value} in epoch 2, batch 2 ") as caught:
        fit(task, data, Batches())
    message = str(caught.value)
    assert "lower the learning rate" in message
    files = {f"/cells/{row}.png" for row in seen[4].rows.tolist()}
    assert {file for file in task.paths if f"{file}," in message or f"{file})" in message} == files


def test_of_many_files_some_are_named() -> None:
    task, data = make(micro(batch=20))
    task.loss = SpoiltLoss(task.loss, 1)  # type: ignore[assignment]
    with pytest.raises(NonFiniteLossError, match=r"and 12 more\)"):
        fit(task, data)


def test_weights_spoilt_by_the_last_step_are_noticed_before_they_are_kept() -> None:
    task, data = make(micro())
    task.loss = SpoiltLoss(task.loss, 3, backward=True)  # type: ignore[assignment]
    with pytest.raises(NonFiniteLossError, match="validation loss became nan after epoch 1"):
        fit(task, data)


def test_nothing_is_drawn_from_the_global_stream() -> None:
    results = []
    for state in (1, 2):
        torch.manual_seed(state)
        np.random.seed(state)  # noqa: NPY002
        before = torch.get_rng_state()
        task, _, _ = watched(balance="sqrt", augmentation="strong", epochs=1)
        assert torch.equal(torch.get_rng_state(), before)
        results.append(torch.nn.utils.parameters_to_vector(task.network.parameters()).detach())
    assert torch.equal(*results)


def test_a_step_depends_on_its_place_in_the_run(tmp_path: Path) -> None:
    # The same cells in another epoch or at another batch are augmented and fire differently.
    task, data = make(micro(batch=20))
    with torch.no_grad():
        torch.nn.init.normal_(task.network.rule.update_weight, std=0.3)
    task.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    batch = next(iter(data.train_dataloader()))
    with torch.no_grad():
        first = task.training_step(batch, 0)
        assert torch.equal(task.training_step(batch, 0), first)
        assert not torch.equal(task.training_step(batch, 1), first)


def stirred(**changes: Any) -> tuple[ClassificationTask, CellsModule]:
    """A task whose rule changes the state, the same each time, and its data."""
    task, data = make(micro(batch=20, **changes))
    with torch.no_grad():
        torch.nn.init.normal_(
            task.network.rule.update_weight, std=0.3, generator=torch.Generator().manual_seed(1)
        )
    return task, data


def step_of(**changes: Any) -> tuple[float, list[dict[str, Any]]]:
    """The loss of the first training step, and what the network was asked for."""
    task, data = stirred(**changes)
    task.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    asked: list[dict[str, Any]] = []

    def note(network: Any, arguments: tuple[Any, ...], named: dict[str, Any], logits: Tensor) -> None:
        asked.append({"arguments": arguments, "named": named, "logits": logits})

    task.network.register_forward_hook(note, with_kwargs=True)
    with torch.no_grad():
        return float(task.training_step(next(iter(data.train_dataloader())), 0)), asked


def test_consistency_asks_for_one_answer_to_two_versions() -> None:
    plain, (only,) = step_of(augmentation="laboratories")
    loss, (one, other) = step_of(augmentation="laboratories", consistency=3.0)
    torch.testing.assert_close(one["logits"], only["logits"], rtol=0, atol=0)
    assert not torch.equal(one["arguments"][0], other["arguments"][0])
    labels = next(iter(make(micro(batch=20))[1].train_dataloader())).labels
    again = float(make_loss("cross_entropy", label_smoothing=0.05)(other["logits"], labels))
    answers = [each["logits"].double().softmax(1).numpy() for each in (one, other)]
    apart = (jensenshannon(*answers, axis=1) ** 2).mean()
    assert loss == pytest.approx((plain + again) / 2 + 3 * apart, rel=1e-5)


def test_alike_versions_agree() -> None:
    changes = {"augmentation": "none", "change": replace(micro().change, firing=1.0)}
    assert step_of(**changes, consistency=9.0)[0] == pytest.approx(step_of(**changes)[0], rel=1e-6)


def test_restraint_weighs_the_size_of_the_last_state() -> None:
    plain, (only,) = step_of(augmentation="laboratories")
    loss, asked = step_of(augmentation="laboratories", restraint=0.5, restraint_bound=0.2)
    assert not asked  # the network is asked for its state as well
    network, (inputs, images, seed) = stirred()[0].network, only["arguments"]
    with torch.no_grad():
        state = network.rollout(inputs, images, seed=seed).state
    grown = state[:, network.architecture.inputs :].double().square().mean()
    assert grown > 0.01
    assert loss == pytest.approx(plain + 0.5 * float(torch.log1p(grown / 0.04)), rel=1e-5)


def test_steps_and_firing_vary_about_those_of_the_architecture() -> None:
    task, _ = make(micro(change=replace(micro().change, steps=12), vary_steps=0.25, vary_firing=0.5))
    drawn = [task._varied_rollout(seed) for seed in range(400)]
    assert {each["steps"] for each in drawn} == set(range(9, 16))
    firing = np.array([each["firing"] for each in drawn])
    assert 0.25 <= firing.min() < 0.27
    assert 0.73 < firing.max() <= 0.75
    assert abs(np.corrcoef([each["steps"] for each in drawn], firing)[0, 1]) < 0.15
    assert drawn == [task._varied_rollout(seed) for seed in range(400)]


def test_the_network_does_what_was_drawn() -> None:
    _, (asked,) = step_of(vary_steps=0.9)
    task, _ = make(micro())
    assert asked["named"].keys() == {"steps", "firing"}
    assert asked["named"]["firing"] == task.network.architecture.firing
    assert step_of()[1][0]["named"] == {}
