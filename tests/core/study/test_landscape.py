"""The landscape over directions: wells at the samples, the search's own steps, the count of equations."""

import pytest
import torch
from torch import nn

from spear_core import client
from spear_core.client import networks
from spear_core.consistency import walk as consistency_walk
from spear_core.model.layers import read_problem
from spear_core.problem import Problem
from spear_core.spear.low_rank import split
from spear_core.study.landscape import Landscape, free_directions, landscape, paths

N, M = 30, 40


def setting(
    b: int, activation: type[nn.Module] = nn.ReLU, seed: int = 0, depth: int = 4
) -> tuple[Problem, torch.Tensor, torch.Tensor]:
    """A problem, its inputs and the true coefficients c as rows, float64."""
    generator = torch.Generator().manual_seed(seed)
    model = networks.fully_connected(
        N, M, depth, activation=activation, generator=generator, dtype=torch.float64
    )
    inputs = torch.randn(b, N, generator=generator, dtype=torch.float64)
    labels = torch.randint(10, (b,), generator=generator)
    problem = read_problem(model, client.gradients(model, inputs, labels))
    return (
        problem,
        inputs,
        torch.linalg.lstsq(split(problem.attacked.weight_grad).rows.T, inputs.T).solution.T,
    )


def prepared(b: int, activation: type[nn.Module] = nn.ReLU) -> tuple[Landscape, torch.Tensor]:
    problem, _, true = setting(b, activation)
    return landscape(problem, split(problem.attacked.weight_grad)), true


def random_units(b: int, count: int) -> torch.Tensor:
    v = torch.randn(b, count, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return v / v.norm(dim=0)


each_activation = pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU, nn.Tanh])


@each_activation
@pytest.mark.parametrize("b", [2, 3, 5])
def test_wells_are_at_the_samples(activation: type[nn.Module], b: int):
    ground, true = prepared(b, activation)
    wells = ground.directions(true)
    assert ground.misfit(wells).max() < 1e-9
    assert ground.misfit(random_units(b, 200)).min() > 1e-4


@each_activation
def test_a_direction_stands_for_its_input(activation: type[nn.Module]):
    problem, inputs, true = setting(3, activation)
    ground = landscape(problem, split(problem.attacked.weight_grad))
    v = ground.directions(true)
    layer = problem.attacked
    torch.testing.assert_close(ground.coefficients(v), true)
    torch.testing.assert_close(ground.hidden(v), layer.weight @ inputs.T + layer.bias[:, None])
    assert (ground.shares(v) > 0).all()
    assert ground.coefficients(-v).isnan().all(), "no input lies on the other side"


def test_misfit_against_a_naive_one():
    ground, _ = prepared(3)
    v = random_units(3, 7)
    outer = torch.linalg.svd(ground.relation.splits[1].rows, full_matrices=False).Vh
    for column, found in zip(v.T, ground.misfit(v), strict=True):
        y = torch.relu(ground.hidden(column[:, None]))[:, 0]
        wanted = torch.linalg.norm(y - outer.T @ (outer @ y)) / torch.linalg.norm(y)
        torch.testing.assert_close(found, wanted)


@each_activation
def test_walkers_end_at_samples(activation: type[nn.Module]):
    ground, true = prepared(3, activation)
    start = random_units(3, 20)
    walked = paths(ground, start, (0, 5, 20, 80))
    assert walked.shape == (5, 3, 20)
    torch.testing.assert_close(walked[0], start)
    cosine = (ground.directions(true).T @ walked[-1]).max(dim=0).values
    assert int((cosine > 1 - 1e-9).sum()) >= 18


def test_paths_are_the_steps_of_the_search():
    ground, _ = prepared(3)
    inner = torch.linalg.qr(ground.relation.basis + ground.relation.bias[:, None] * ground.relation.means[0])[
        0
    ]
    outer = torch.linalg.qr(ground.relation.splits[1].rows.T)[0]
    start = random_units(3, 4)
    walked = paths(ground, start, (0, 1, 7))
    for found, count in zip(walked, (0, 1, 7), strict=False):
        torch.testing.assert_close(found, consistency_walk.alternate(inner, outer, start, count))


@each_activation
@pytest.mark.parametrize("seen", [0, 2, 3])
def test_without_equations_every_direction_fits(activation: type[nn.Module], seen: int):
    ground, _ = prepared(3, activation)
    hidden = ground.seeing(torch.arange(seen))
    v = random_units(3, 20)
    assert hidden.equations == 0
    assert (hidden.misfit(v) == 0).all()
    assert torch.equal(paths(hidden, v, (0, 1, 4)), v.expand(4, 3, 20))


def test_fewer_units_lower_the_landscape():
    ground, true = prepared(3)
    v = random_units(3, 300)
    heights = [float(ground.seeing(torch.arange(j)).misfit(v).mean()) for j in (4, 8, 20, M)]
    assert heights == sorted(heights)
    assert ground.seeing(torch.arange(20)).misfit(ground.directions(true)).max() < 1e-9


def test_more_samples_than_inputs_are_refused():
    problem, *_ = setting(N + 3)
    with pytest.raises(ValueError, match=f"not be larger than its rank {N}, got {N + 3}"):
        landscape(problem)


@pytest.mark.parametrize("relations", [1, 2, 3])
@pytest.mark.parametrize("b", [8, 19, 21, 26, 29])
def test_free_directions_are_unknowns_minus_equations(relations: int, b: int):
    problem, inputs, _ = setting(b, nn.GELU, depth=6)
    wanted = max(0, (relations + 1) * b - relations * M)
    assert free_directions(problem, inputs, relations) == [wanted] * b


def test_free_directions_need_layers():
    problem, inputs, _ = setting(4, depth=3)
    with pytest.raises(ValueError, match="relations must be 1 to 2, got 3"):
        free_directions(problem, inputs, 3)
    with pytest.raises(ValueError, match="got 0"):
        free_directions(problem, inputs, 0)
