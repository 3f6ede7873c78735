from __future__ import annotations

import pytest
import torch

from leukonca.assessment.speed import contenders
from leukonca.assessment.speed.contenders import Case, job, missing, useful_flops
from leukonca.nca.architecture import preset
from leukonca.nca.engines import fused
from leukonca.nca.engines.fused.levels import LEVELS


@pytest.mark.parametrize("task", ["inference", "training"])
@pytest.mark.parametrize("contender", ["straightforward", "eager"])
def test_a_job_is_the_whole_work_on_the_whole_batch(
    contender: str, task: contenders.Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = []

    def noted(case: Case) -> torch.nn.Module:
        networks.append(_network(case))
        return networks[-1]

    _network = contenders._network
    monkeypatch.setattr(contenders, "_network", noted)
    state = torch.random.get_rng_state()
    work = job(Case(contender, "tiny", task), 2)
    assert torch.equal(torch.random.get_rng_state(), state)
    (network,) = networks
    seen: list[tuple[bool, torch.Size]] = []
    network.register_forward_hook(lambda _, __, out: seen.append((out.requires_grad, out.shape)))
    before = [parameter.clone() for parameter in network.parameters()]
    with torch.random.fork_rng(devices=[]):
        work()
    assert seen == [(task == "training", (2, contenders.CLASSES))]
    changed = [not torch.equal(*pair) for pair in zip(before, network.parameters(), strict=True)]
    assert all(changed) if task == "training" else not any(changed)


def test_useful_work_is_counted_on_the_sites_that_fire() -> None:
    # 64 steps, half of 64 × 64 sites, products 384 → 128 and 128 → 128.
    assert useful_flops(preset("paper"), "inference") == 64 * 2048 * 2 * (384 * 128 + 128 * 128)
    assert useful_flops(preset("tiny"), "training") == 3 * 8 * 576 * 2 * (96 * 64 + 64 * 32)


def test_what_cannot_run_here_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "status", lambda: fused.Status(LEVELS["avx2"], reason="there is no compiler"))
    assert missing("straightforward") == missing("eager") == ""
    assert missing("fused_fp32") == "the fused engine does not run here: there is no compiler"
    monkeypatch.setattr(fused, "status", lambda: fused.Status(LEVELS["avx2"], object()))  # type: ignore[arg-type]
    assert missing("fused_fp32") == ""
    assert "does not multiply bf16" in missing("fused")


def test_a_straightforward_training_step_of_the_paper_is_known_to_be_large() -> None:
    step = Case("straightforward", "paper", "training").bytes_of(1)
    assert 1.5e9 < step < 2.5e9
    assert Case("fused", "paper", "training").bytes_of(1) < step / 20
