from __future__ import annotations

import functools
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from leukonca.errors import SettingError
from leukonca.nca.architecture import Architecture
from leukonca.nca.classifier import CellClassifier
from leukonca.nca.engines import eager, engine, fused
from leukonca.nca.engines.fused import running
from leukonca.nca.engines.fused.levels import level_of_this_machine
from leukonca.nca.engines.fused.library import Library
from leukonca.nca.firing import Firing, fires
from leukonca.nca.rule import Rule

pytestmark = pytest.mark.usefixtures("compiled")

needs_bf16 = pytest.mark.skipif(
    not level_of_this_machine().half, reason="this processor does not multiply bf16 natively"
)


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def lively(channels: int, hidden: int, seed: int = 0) -> Rule:
    """A rule whose states stay of the order of 1."""
    draw = torch.Generator().manual_seed(seed)
    rule = Rule(channels, hidden, 3)
    with torch.no_grad():
        for parameter in rule.parameters():
            fan_in = parameter.shape[-1] if parameter.dim() == 2 else 9
            parameter.uniform_(-1, 1, generator=draw).mul_(0.8 * fan_in**-0.5)
    return rule


def start(batch: int, channels: int, rows: int, columns: int) -> Tensor:
    draw = torch.Generator().manual_seed(1)
    return 0.5 * torch.randn(batch, channels, rows, columns, generator=draw)


def firing_of(batch: int, probability: float = 0.5) -> Firing:
    return Firing(2**40 + 7, torch.arange(batch) * (2**35 + 1), probability)


SHAPES = [  # batch, channels, hidden, rows, columns, steps
    (2, 48, 96, 32, 32, 6),  # presets base and paper, fewer steps
    (1, 128, 128, 64, 64, 3),
    (3, 5, 7, 2, 2, 5),
    (1, 8, 12, 2, 512, 3),
    (1, 8, 12, 301, 3, 3),
    (3, 33, 40, 70, 130, 3),
    (4, 20, 17, 9, 5, 1),
    (1, 200, 300, 7, 11, 4),
]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_exact_rollout_is_the_eager_one(shape: tuple[int, ...], threads: int) -> None:
    batch, channels, hidden, rows, columns, steps = shape
    rule, state = lively(channels, hidden), start(batch, channels, rows, columns)
    record = frozenset({0, 1, 3, steps, 99})
    with torch.no_grad():
        expected, states = eager.rollout(rule, state, firing_of(batch), steps, record=record)
        torch.set_num_threads(threads)
        found, kept = fused.exact_rollout(rule, state, firing_of(batch), steps, record=record)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert kept.keys() == states.keys()
    for step, value in kept.items():
        torch.testing.assert_close(value, states[step], rtol=0, atol=1e-5)
    assert torch.equal(state, start(batch, channels, rows, columns))


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    channels=st.integers(4, 40),
    hidden=st.integers(1, 40),
    rows=st.integers(2, 24),
    columns=st.integers(2, 80),
    batch=st.integers(1, 3),
    probability=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    threads=st.integers(1, 3),
)
def test_any_shape(
    channels: int, hidden: int, rows: int, columns: int, batch: int, probability: float, threads: int
) -> None:
    rule, state = lively(channels, hidden), start(batch, channels, rows, columns)
    firing = firing_of(batch, probability)
    results = []
    for run, used in ((eager.rollout, 1), (fused.exact_rollout, threads)):
        torch.set_num_threads(used)
        rule.zero_grad()
        leaf = state.clone().requires_grad_()
        last, _ = run(rule, leaf, firing, 3)
        last.square().sum().backward()
        results.append([last.detach(), leaf.grad, *(parameter.grad for parameter in rule.parameters())])
    for expected, found in zip(*results, strict=True):
        assert expected is not None
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * (1 + expected.abs().max().item()))


def test_exactly_the_sites_change_that_fire() -> None:
    rule, state = lively(8, 16), start(3, 8, 37, 70)
    for step in range(3):
        firing = Firing(2**62 + 5, torch.tensor([-1 & (2**63 - 1), 0, 77]), 0.3)
        with torch.no_grad():
            before, _ = fused.exact_rollout(rule, state, firing, step)
            after, _ = fused.exact_rollout(rule, state, firing, step + 1)
        assert torch.equal((before != after).any(dim=1), fires(firing, step, 37, 70))


@needs_bf16
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bf16_products_change_little(shape: tuple[int, ...]) -> None:
    batch, channels, hidden, rows, columns, steps = shape
    rule, state = lively(channels, hidden), start(batch, channels, rows, columns)
    with torch.no_grad():
        expected, _ = eager.rollout(rule, state, firing_of(batch), steps)
        found, _ = fused.rollout(rule, state, firing_of(batch), steps)
    assert not torch.equal(found, expected)
    difference = (found - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert difference < 4e-3
    # The channels of the picture are never rounded.
    assert torch.equal(found[:, :3], state[:, :3])


@pytest.mark.parametrize("run", [fused.rollout, fused.exact_rollout])
@pytest.mark.parametrize("grid", [(32, 32), (24, 41)])
def test_a_picture_gets_the_same_bits_in_every_batch_and_with_any_threads(
    run: Callable[..., Any], grid: tuple[int, int]
) -> None:
    rule, state, firing = lively(20, 24), start(5, 20, *grid), firing_of(5)
    with torch.no_grad():
        torch.set_num_threads(1)
        together, _ = run(rule, state, firing, 8)
        for threads in (1, 2, 3, 4):
            torch.set_num_threads(threads)
            assert torch.equal(run(rule, state, firing, 8)[0], together)
            for i in range(5):
                alone = Firing(firing.seed, firing.images[i : i + 1], firing.probability)
                assert torch.equal(run(rule, state[i : i + 1], alone, 8)[0], together[i : i + 1])


def gradients(
    run: Callable[..., Any], rule: Rule, state: Tensor, steps: int, record: frozenset[int] = frozenset()
) -> list[Tensor]:
    rule.zero_grad()
    leaf = state.clone().requires_grad_()
    last, kept = run(rule, leaf, firing_of(len(state)), steps, record=record)
    weights = torch.randn(last.shape, generator=torch.Generator().manual_seed(3))
    loss = (last * weights).mean() + sum(value.square().mean() for value in kept.values())
    loss.backward()
    assert leaf.grad is not None
    return [
        leaf.grad,
        *(parameter.grad.clone() for parameter in rule.parameters() if parameter.grad is not None),
    ]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("record", [frozenset(), frozenset({0, 2, 3})], ids=["last", "recorded"])
def test_gradients_are_those_of_the_eager_engine(shape: tuple[int, ...], record: frozenset[int]) -> None:
    batch, channels, hidden, rows, columns, steps = shape
    rule, state = lively(channels, hidden), start(batch, channels, rows, columns)
    expected = gradients(eager.rollout, rule, state, steps, record)
    found = gradients(fused.rollout, rule, state, steps, record)
    assert len(found) == len(expected) == 8
    for one, other in zip(found, expected, strict=True):
        # Not number by number: a hidden value beside 0 may fall on either side of the ReLU.
        assert (one - other).norm() < 5e-4 * other.norm()


@pytest.mark.parametrize("steps", [1, 3, 4, 11])
def test_recomputation_gives_the_same_gradients(steps: int) -> None:
    rule, state = lively(20, 24), start(3, 20, 9, 14)
    results = []
    for recompute in (False, True):
        run = functools.partial(fused.exact_rollout, recompute=recompute)
        results.append(gradients(run, rule, state, steps, frozenset({2})))
    for one, other in zip(*results, strict=True):
        assert (one - other).norm() <= 1e-5 * other.norm()


def test_recomputation_is_chosen_where_the_hidden_layers_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    rule, state, firing = lively(20, 24), start(2, 20, 32, 32), firing_of(2)
    pieces = []

    def noted(span: running.Span, count: int) -> list[running.Span]:
        pieces.append(count)
        return [span]

    monkeypatch.setattr(running.Span, "pieces", noted)
    # 8 steps, 2 pictures, half of 1024 sites, 32 hidden units with the padding, 4 bytes.
    for limit in (8 * 1024 * 32 * 4, 8 * 1024 * 32 * 4 - 1):
        monkeypatch.setattr(running, "_TAPE_LIMIT_BYTES", limit)
        fused.exact_rollout(rule, state, firing, 8)
    assert pieces == [1, 4]


def test_pieces_are_all_steps_in_their_order() -> None:
    span = running.Span(None, False, torch.empty(0), 0, 3, 14)  # type: ignore[arg-type]
    for count in (1, 2, 4, 11, 50):
        steps = [step for piece in span.pieces(count) for step in range(piece.first, piece.last)]
        assert steps == list(range(3, 14))
    assert len(span.pieces(4)) == 4


@needs_bf16
@pytest.mark.parametrize(
    "shape", [(48, 96, 24, 24, 12), (33, 40, 7, 11, 6), (5, 7, 2, 2, 5), (130, 20, 5, 64, 4)], ids=str
)
def test_gradients_under_autocast_point_the_same_way(shape: tuple[int, ...]) -> None:
    channels, hidden, rows, columns, steps = shape
    rule, state = lively(channels, hidden), start(2, channels, rows, columns)
    expected = gradients(fused.exact_rollout, rule, state, steps)
    with torch.autocast("cpu", torch.bfloat16):
        found = gradients(fused.rollout, rule, state, steps)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        assert not torch.equal(one, other)
        assert torch.cosine_similarity(one.flatten(), other.flatten(), dim=0) > 0.999


def test_memory_that_is_used_again_is_not_in_use() -> None:
    rule, firing = lively(20, 24), firing_of(2)
    leaves = [start(2, 20, 9, 14 + number).requires_grad_() for number in range(3)]
    values = [fused.exact_rollout(rule, leaf, firing, 5)[0].square().sum() for leaf in leaves]
    found = [
        torch.autograd.grad(value, leaf, retain_graph=True)[0]
        for value, leaf in zip(values, leaves, strict=True)
    ]
    again = [torch.autograd.grad(value, leaf)[0] for value, leaf in zip(values, leaves, strict=True)]
    del values
    for leaf, first, second in zip(leaves, found, again, strict=True):
        expected = torch.autograd.grad(fused.exact_rollout(rule, leaf, firing, 5)[0].square().sum(), leaf)[0]
        assert torch.equal(first, expected)
        assert torch.equal(second, expected)


def test_memory_of_one_step_serves_the_next_and_inference_lets_go_of_it() -> None:
    rule, state, firing = lively(20, 24), start(2, 20, 9, 14), firing_of(2)
    places = []
    for _ in range(3):
        loss = fused.exact_rollout(rule, state, firing, 3)[0].sum()
        loss.backward()  # the graph stays in `loss` until the next step has begun, as in any training loop
        assert running._Room._kept is not None
        places.append(running._Room._kept.ctypes.data)
    assert len(set(places)) == 1
    with torch.no_grad():
        fused.exact_rollout(rule, state, firing, 3)
    assert running._Room._kept is None


def test_gradients_are_those_of_finite_differences() -> None:
    rule, state, firing = lively(6, 10), start(2, 6, 4, 5), firing_of(2)
    leaf = state.clone().requires_grad_()
    tensors = [leaf, *rule.parameters()]

    def value() -> Tensor:
        return fused.exact_rollout(rule, leaf, firing, 3)[0].square().sum()

    found = torch.autograd.grad(value(), tensors)
    draw = torch.Generator().manual_seed(4)
    for tensor, gradient in zip(tensors, found, strict=True):
        direction = torch.randn(tensor.shape, generator=draw)
        direction /= direction.norm()
        ends = []
        with torch.no_grad():
            for sign in (1, -1):
                tensor += sign * 5e-3 * direction
                ends.append(value().double())
                tensor -= sign * 5e-3 * direction
        slope = (ends[0] - ends[1]).item() / 1e-2
        assert (gradient * direction).sum().item() == pytest.approx(slope, rel=2e-2, abs=2e-2)


@pytest.mark.parametrize("threads", [1, 2])
def test_gradients_are_the_same_every_time(threads: int) -> None:
    torch.set_num_threads(threads)
    rule, state = lively(20, 24), start(5, 20, 16, 16)
    for one, other in zip(*(gradients(fused.rollout, rule, state, 6) for _ in range(2)), strict=True):
        assert torch.equal(one, other)


def test_a_frozen_rule_still_passes_gradients_to_the_state() -> None:
    rule, state = lively(8, 12).requires_grad_(False), start(2, 8, 6, 6).requires_grad_()
    fused.rollout(rule, state, firing_of(2), 3)[0].sum().backward()
    assert state.grad is not None
    assert state.grad.abs().sum() > 0


def test_second_derivatives_are_refused() -> None:
    state = start(1, 8, 6, 6).requires_grad_()
    last, _ = fused.rollout(lively(8, 12), state, firing_of(1), 2)
    (gradient,) = torch.autograd.grad(last.square().sum(), state, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_the_backward_pass_keeps_a_small_part_of_what_eager_keeps() -> None:
    rule, state = lively(48, 96), start(2, 48, 32, 32)
    sizes = []
    for run, half in ((eager.rollout, False), (fused.rollout, True)):
        kept: dict[int, int] = {}
        held: list[Tensor] = []  # kept alive, so that no address is used twice

        def pack(tensor: Tensor, kept: dict[int, int] = kept, held: list[Tensor] = held) -> Tensor:
            held.append(tensor)
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with (
            torch.autocast("cpu", torch.bfloat16, enabled=half),
            torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        ):
            run(rule, state, firing_of(2), 32, recompute=False)
        sizes.append(sum(kept.values()))
    assert sizes[1] < sizes[0] / (6 if level_of_this_machine().half else 3)


@pytest.mark.parametrize("run", [fused.rollout, fused.exact_rollout])
def test_a_rollout_can_go_on_from_where_another_ended(run: Callable[..., Any]) -> None:
    rule, state, firing = lively(20, 24), start(2, 20, 9, 12), firing_of(2)
    with torch.no_grad():
        whole, kept = run(rule, state, firing, 11, record=frozenset({5, 7}))
        half, _ = run(rule, state, firing, 5)
        rest, found = run(rule, half, firing, 6, first=5, record=frozenset({3, 5, 7, 12}))
    assert torch.equal(rest, whole)
    assert found.keys() == kept.keys()
    assert all(torch.equal(found[step], value) for step, value in kept.items())


def test_no_pictures() -> None:
    rule, state = lively(8, 12), start(0, 8, 6, 7).requires_grad_()
    last, kept = fused.rollout(rule, state, firing_of(0), 4, record=frozenset({2}))
    last.sum().backward()
    assert last.shape == kept[2].shape == (0, 8, 6, 7)
    assert rule.hidden_bias.grad is not None
    assert not rule.hidden_bias.grad.any()


@pytest.mark.parametrize("name", ["eager", "fused", "fused_fp32"])
def test_no_pictures_have_no_answers(name: str) -> None:
    network = CellClassifier(Architecture(size=12, channels=8, hidden=8, steps=3, head_hidden=8), 3)
    network.engine = name  # type: ignore[assignment]
    logits = network(torch.zeros(0, 3, 12, 12), torch.zeros(0, dtype=torch.int64))
    assert logits.shape == (0, 3)


WITHOUT_MEMORY = """
import resource
from pathlib import Path

import torch

from leukonca.nca.engines import fused
from leukonca.nca.engines.fused import running
from leukonca.nca.firing import Firing
from leukonca.nca.rule import Rule

library = fused.status().library
firing = Firing(1, torch.zeros(1, dtype=torch.int64), 0.5)
weights = running.Weights.of(Rule(1024, 4096, 3), library)
span = running.Span(library, False, firing.keys(), 1 << 23, 0, 1)
packed = library.pack(torch.zeros(1, 1024, 2, 2))
job = span.job(packed, weights)
# The weights in the order of the products take 48 MB, which the process may not have.
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
soft, hard = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (size + 8 * 2**20, hard))
try:
    library.forward(job, False)
except MemoryError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
library.forward(job, False)
print("works")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the size of the process is read from /proc")
@pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="AddressSanitizer ends such a process")
def test_a_process_without_memory_goes_on_working(compiled: Library) -> None:
    """In a process of its own, which has no memory lying about that was freed before."""
    code = """
import resource, sys
from pathlib import Path
import torch
from leukonca.nca.engines.fused import running
from leukonca.nca.engines.fused.library import Library
from leukonca.nca.firing import Firing
from leukonca.nca.rule import Rule

library, rule, firing = Library(Path(sys.argv[1])), Rule(1024, 4096, 3), Firing(0, torch.tensor([1]), 0.5)
weights = running.Weights.of(rule, library)
packed = library.pack(torch.zeros(1, 1024, 2, 2))
job = running.Span(library, False, firing.keys(), firing.threshold, 0, 1).job(packed, weights)
pages = int(Path("/proc/self/statm").read_text().split()[0])
soft, hard = resource.getrlimit(resource.RLIMIT_AS)
# The weights in the order of the products take 48 MB more.
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 8 * 2**20, hard))
try:
    library.forward(job, False)
except MemoryError:
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    library.forward(job, False)
    print("works again")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(compiled.file)], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("works again\n", 0), done.stderr


def test_the_product_alone_can_be_timed(compiled: Library) -> None:
    for half in {False, level_of_this_machine().half}:
        compiled.multiply(half, 48, 80, 3, 2)


def test_no_steps() -> None:
    state = start(2, 8, 6, 7)
    last, kept = fused.rollout(lively(8, 12), state, firing_of(2), 0, record=frozenset({0, 1}))
    assert torch.equal(last, state)
    assert kept.keys() == {0}


@pytest.mark.parametrize("name", ["eager", "fused", "fused_fp32"])
def test_a_broken_picture_spoils_its_own_answer_and_no_other(name: str) -> None:
    torch.manual_seed(0)
    network = CellClassifier(Architecture(size=12, channels=8, hidden=8, steps=12, head_hidden=8), 3)
    network.rule = lively(8, 8)
    pictures = torch.randn(3, 3, 12, 12)
    with torch.no_grad():
        network.engine = "eager"
        sound = network(pictures, torch.arange(3))
        pictures[1, 0, 5, 5] = math.nan
        network.engine = name  # type: ignore[assignment]
        found = network(pictures, torch.arange(3))
    assert found[1].isnan().all()
    torch.testing.assert_close(found[[0, 2]], sound[[0, 2]], rtol=0, atol=1e-2)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (start(1, 8, 6, 6).double(), "it takes float32"),
        (start(1, 8, 1, 6), "at least 2 rows and columns"),
        (start(1, 8, 6, 1), "at least 2 rows and columns"),
        (start(1, 8, 6, 6).to("meta"), "the state is on meta"),
    ],
)
def test_what_it_does_not_take_is_said(state: Tensor, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        engine("fused")(lively(8, 12), state, firing_of(1), 2)


def test_each_picture_needs_an_identity() -> None:
    with pytest.raises(SettingError, match="3 image identities do not fit 2 states"):
        fused.rollout(lively(8, 12), start(2, 8, 6, 6), firing_of(3), 2)


def test_threads_are_never_more_than_rows(compiled: Library) -> None:
    torch.set_num_threads(4)
    rule = lively(8, 12)
    span = running.Span(compiled, False, firing_of(1).keys(), 1, 0, 1)
    weights = running.Weights.of(rule, compiled)
    assert span.job(compiled.pack(torch.zeros(1, 8, 2, 9)), weights).threads == 2


@pytest.mark.parametrize("shape", [(2, 5, 3, 4), (1, 16, 2, 2), (3, 33, 2, 7), (0, 8, 2, 2)], ids=str)
def test_the_layout_within_the_engine_and_back(shape: tuple[int, ...], compiled: Library) -> None:
    state = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    packed = compiled.pack(state.transpose(2, 3).contiguous().transpose(2, 3))
    padded = torch.nn.functional.pad(state, (0, 0, 0, 0, 0, -shape[1] % compiled.pad))
    assert torch.equal(packed, padded.unflatten(1, (-1, compiled.pad)).permute(0, 3, 1, 4, 2))
    assert torch.equal(compiled.unpack(packed, shape[1]), state)


def test_the_self_check_is_not_rounded_by_the_autocast_around_the_first_use(compiled: Library) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert fused._disagreement(compiled, fused.status().level) == ""
