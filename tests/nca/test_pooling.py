from __future__ import annotations

import numpy as np
import pytest
import torch

from leukonca.errors import SettingError
from leukonca.nca.pooling import AttentionPooling, pooling
from reference import pooling as reference


def state(rows: int = 5, columns: int = 7) -> torch.Tensor:
    return torch.randn(3, 4, rows, columns, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("kind", "slow"),
    [("max", reference.maximum), ("mean", reference.mean), ("max_mean", reference.maximum_and_mean)],
)
def test_pooling_equals_the_reference(kind: str, slow: object) -> None:
    module, length = pooling(kind, 4)
    pooled = module(state())
    assert pooled.shape == (3, length)
    expected = [slow(picture.double().numpy()) for picture in state()]
    np.testing.assert_allclose(pooled, expected, atol=1e-6)


# One site (10 % would be none), a share that needs rounding, and a common grid.
@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (5, 7), (12, 12)])
def test_attention_equals_the_reference(rows: int, columns: int) -> None:
    module, length = pooling("attention", 4)
    assert isinstance(module, AttentionPooling)
    with torch.no_grad():
        pooled = module(state(rows, columns))
    weight = module.attention.weight.detach().double().flatten().numpy()
    bias = module.attention.bias.detach().double().item()
    assert pooled.shape == (3, length)
    expected = [
        reference.attention(picture.double().numpy(), weight, bias) for picture in state(rows, columns)
    ]
    np.testing.assert_allclose(pooled, expected, atol=1e-6)


def test_attention_weights_are_learned_shares() -> None:
    module, _ = pooling("attention", 4)
    assert isinstance(module, AttentionPooling)
    weights = module.weights(state())
    assert weights.shape == (3, 1, 5, 7)
    assert bool(((weights > 0) & (weights < 1)).all())
    module(state()).sum().backward()
    assert module.attention.weight.grad is not None
    assert bool((module.attention.weight.grad != 0).any())


def test_unknown_pooling_is_refused() -> None:
    with pytest.raises(SettingError, match=r"pooling 'median' is unknown; known: max, mean"):
        pooling("median", 4)  # type: ignore[arg-type]
