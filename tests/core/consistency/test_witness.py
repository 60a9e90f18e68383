"""What the next layer proves of a sample on its own: equations are counted where they exclude least."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.functional import pad

from spear_core import invert
from spear_core.consistency.relation import relate
from spear_core.consistency.witness import well_counted, witness
from spear_core.model.layers import read_problem
from tests.core.attacked import attacked, gaussian, target_of
from tests.core.zoo import seeded
from tests.thorough import thorough


def coefficients(target, inputs):
    """c with x = c R, as rows."""
    return torch.linalg.lstsq(target.low_rank.rows.T, inputs.to(torch.float64).T).solution.T


def test_unlike_samples_have_equations_to_spare(dtype):
    case = gaussian(8, dtype=dtype)
    relation, c = relate(case.target), coefficients(case.target, case.inputs)
    assert bool(well_counted(relation, c).all())


def test_mixtures_of_samples_with_one_pattern_are_not_held_by_units_at_their_kinks():
    """Every mixture is consistent until a unit wakes up; where two wake up at once, either side looks excluded."""
    x = torch.rand(1, 40, generator=seeded(0), dtype=torch.float64)
    x = x + 1e-3 * torch.randn(4, 40, generator=seeded(1), dtype=torch.float64)
    case = attacked(x, torch.arange(4), depth=3)
    z = torch.nn.functional.linear(x, case.model[0].weight, case.model[0].bias).detach()
    dead = z.amax(dim=0).masked_fill(z.amax(dim=0) > 0, -torch.inf).topk(2).indices
    # Σ a = 1 and two units that no sample activates at exactly zero
    rows = torch.cat([torch.ones(1, 4), z[:, dead].T])
    a = torch.linalg.lstsq(rows, pad(torch.ones(1, 1).double(), (0, 0, 0, 2)), driver="gelsd").solution
    c = coefficients(case.target, a.T @ x)
    assert not bool(well_counted(relate(case.target), c).any())
    assert not bool(witness(case.target, c, seeded())[0].any())


@pytest.mark.parametrize(
    ("activation", "offset"),  # an offset of 3 makes β far larger than W x
    [
        (nn.ReLU, 0.0),
        (nn.ReLU, 3.0),
        (nn.GELU, 3.0),
        *thorough((nn.GELU, 0.0), (nn.Tanh, 0.0), (nn.Tanh, 3.0)),
    ],
)
def test_the_expected_error_is_as_large_as_the_true_one(activation, offset):
    ratios = []
    for seed in range(5):
        x, y = torch.rand(9, 12, generator=seeded(seed)), torch.arange(9) % 5
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Linear(12, 90), activation(), nn.Linear(90, 60), activation(), nn.Linear(60, 5)
        )
        model[0].bias.data = model[0].bias.data + offset * torch.randn(90, generator=seeded(seed)) / 12**0.5
        gradients = torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))
        found = invert(model, gradients, method="consistency", generator=seeded()).inputs.double()
        target = target_of(read_problem(model, gradients))
        _, expected = witness(target, coefficients(target, found), seeded())
        off = found[:, None] - x
        true = off.square().mean(dim=2).sqrt().amin(dim=1)
        ratios += (expected / true)[true < 1e-3].tolist()
    assert len(ratios) > 30 and min(ratios) > 0.5 and sorted(ratios)[len(ratios) // 2] < 60
