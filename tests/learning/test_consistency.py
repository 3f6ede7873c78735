from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon

from leukonca.learning.consistency import disagreement


def test_the_disagreement_is_the_jensen_shannon_divergence() -> None:
    one, other = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    # SciPy's is the distance, whose square is the divergence.
    expected = jensenshannon(one.softmax(1).numpy(), other.softmax(1).numpy(), axis=1) ** 2
    assert float(disagreement(one, other)) == pytest.approx(expected.mean(), rel=1e-5)
    assert float(disagreement(other, one)) == pytest.approx(expected.mean(), rel=1e-5)


def test_it_lies_between_nothing_and_the_logarithm_of_two_and_has_a_gradient_at_both() -> None:
    one = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    for other, expected in (([200.0, 0.0, 0.0], 0.0), ([0.0, 200.0, 0.0], math.log(2))):
        found = disagreement(one, torch.tensor([other]))
        assert found.item() == pytest.approx(expected, abs=1e-6)
        (gradient,) = torch.autograd.grad(found, one)
        assert np.isfinite(gradient.numpy()).all()
