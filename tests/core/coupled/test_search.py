"""Coupled relations: several layers at once, for batches of half the width and more."""

import time
from itertools import pairwise

import pytest
import torch
from torch import nn

from spear_core import client
from spear_core.attack.invert import invert, states
from spear_core.certificate.backprop import forward as passed_on
from spear_core.certificate.replay import told_by_patterns
from spear_core.client.networks import fully_connected
from spear_core.coupled import search as coupled
from spear_core.coupled.chain import Chain
from spear_core.coupled.finish import settle
from spear_core.coupled.walk import projected, random_starts
from spear_core.model.layers import read_problem
from spear_core.search import Budget
from spear_core.spear.low_rank import split
from spear_core.study.metrics import compare
from tests.core.attacked import target_of
from tests.thorough import thorough

M, N, DEPTH = 80, 160, 6


def drawn(b, seed=0, dtype=torch.float32, depth=DEPTH):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(b, N, generator=generator, dtype=dtype)
    y = torch.randint(0, 10, (b,), generator=generator)
    return fully_connected(N, M, depth, generator=generator, dtype=dtype), x, y


def hidden(model, x):
    """Z and Y of every hidden layer, float64, each (b, m)."""
    layers = [layer for layer in model if isinstance(layer, nn.Linear)]
    z, y = [], [x.double()]
    for layer in layers[:-1]:
        z.append(y[-1] @ layer.weight.detach().double().T + layer.bias.detach().double())
        y.append(torch.relu(z[-1]))
    return z, y[1:]


@pytest.fixture(scope="module")
def coupling():
    """Model, inputs, target and chain of a batch of 0.45 m, two relations."""
    model, x, y = drawn(36)
    problem = read_problem(model, client.gradients(model, x, y))
    target = target_of(problem, split(problem.attacked.weight_grad))
    return model, x, target, Chain.of(target, 2)


def widths(*sizes):
    """A ReLU network with hidden layers of these widths."""
    modules = []
    for before, after in pairwise((N, *sizes)):
        modules += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*modules, nn.Linear(sizes[-1], 10))


def weighted(chain, z, y):
    """The coordinates of all samples, each (k, m, b)."""
    k = chain.relations
    return (torch.stack([chain.weights[j] * part[j].T for j in range(k)]) for part in (z, y))


def nothing_found(chain):
    return tuple(torch.empty(chain.batch_size, 0, dtype=torch.float64) for _ in chain.splits)


@pytest.mark.parametrize(
    ("b", "dtype", "seed"),
    [(42, torch.float64, 1), *thorough((42, torch.float32, 0), (48, torch.float32, 0))],
)
def test_batches_of_half_the_width_and_more_come_back_certified(b, dtype, seed):
    model, x, y = drawn(b, seed, dtype)
    inversion = invert(model, client.gradients(model, x, y))
    score = compare(inversion.inputs, x)
    assert inversion.certified and inversion.method == "consistency"
    assert float(score.psnr.min()) > (110 if dtype == torch.float32 else 250)
    assert torch.equal(inversion.labels[score.order], y)


def test_every_sample_lies_in_the_spaces_also_when_others_are_taken_out(coupling):
    model, x, _, chain = coupling
    z, y = weighted(chain, *hidden(model, x))
    spaces = chain.spaces(nothing_found(chain))
    z_near, y_near = projected(spaces, z, y)
    assert float((z_near - z).norm() / z.norm()) < 1e-5
    assert float((y_near - y).norm() / y.norm()) < 1e-5
    first = settle(chain, spaces, z[:, :, 0], y[:, :, 0])
    left = chain.spaces(tuple(q[:, None] for q in first.directions))
    assert [s.basis.shape[1] for s in left] == [s.basis.shape[1] - 1 for s in spaces]
    z_near, y_near = projected(left, z, y)
    error = ((z_near - z).square() + (y_near - y).square()).sum(dim=(0, 1)).sqrt() / z.norm(dim=(0, 1))
    assert float(error[1:].max()) < 1e-4 and float(error[0]) > 0.05


def test_units_on_the_wrong_side_are_found_and_turned_over(coupling):
    model, x, _, chain = coupling
    z, y = weighted(chain, *hidden(model, x))
    spaces = chain.spaces(nothing_found(chain))
    wrong = z[:, :, 3].clone()
    nearest = wrong[0].abs().argsort()[:2]
    wrong[0, nearest] *= -1
    sample = settle(chain, spaces, wrong, torch.relu(wrong))
    truth = y[0, :, 3] / chain.weights[0]
    assert float((sample.activation - truth).norm() / truth.norm()) < 1e-5
    assert torch.equal(sample.activation > 0, truth > 0)


def test_a_random_point_settles_on_nothing(coupling):
    *_, chain = coupling
    spaces = chain.spaces(nothing_found(chain))
    z, y = random_starts(chain, spaces, 3, torch.Generator().manual_seed(0))
    assert all(settle(chain, spaces, z[:, :, i].double(), y[:, :, i].double()) is None for i in range(3))


def test_part_of_a_batch_gives_inputs_as_soon_as_they_are_determined(coupling):
    _, x, target, chain = coupling
    sizes, rows = [], []
    for found in coupled.rounds(chain, Budget(torch.Generator().manual_seed(0))):
        c, determined = coupled.coefficients(chain, target.forward, found)
        sizes.append(len(found.samples))
        rows.append(c @ chain.splits[0].rows)
        assert len(c) == int(determined.sum())
    some = rows[len(rows) // 2]
    assert sizes[-1] == chain.batch_size and 0 < len(some) < chain.batch_size
    assert float(compare(some, x).psnr.nan_to_num(neginf=0).sort().values[-len(some) :].min()) > 90


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (fully_connected(N, M, 3), "three hidden layers"),
        (fully_connected(N, M, DEPTH, activation=nn.GELU), "ReLU"),
        (widths(M, 60, M), "one width"),
        (widths(M, 30, M), "wider than the batch"),
    ],
)
def test_where_coupled_relations_do_not_apply_they_say_why(model, words):
    _, x, y = drawn(42)
    problem = read_problem(model, client.gradients(model, x, y))
    assert words in coupled.obstacle(problem, 42)
    assert not coupled.pays(problem, 42)


def test_small_batches_are_left_to_one_relation(coupling):
    *_, target, _ = coupling
    problem = target.problem
    assert coupled.pays(problem, 36) and not coupled.pays(problem, 24)
    assert coupled.relations_for(problem, 36) == 2 and coupled.relations_for(problem, 48) == 3


def test_stopped_by_the_clock_it_hands_back_what_it_has_flagged():
    model, x, y = drawn(48)
    inversion = invert(model, client.gradients(model, x, y), method="consistency", time_limit=0.2)
    assert not inversion.certified and not inversion.certified_rows.any()
    assert any("time limit" in note for note in inversion.notes)


def test_interrupted_it_hands_back_what_it_has():
    model, x, y = drawn(42)
    seen = []

    def stop(state):
        seen.append(state)
        if len(seen) == 3:
            raise KeyboardInterrupt

    inversion = invert(model, client.gradients(model, x, y), method="consistency", progress=stop)
    assert "interrupted" in inversion.notes and not inversion.certified


def test_noise_is_not_certified():
    model, x, y = drawn(42)
    gradients = client.noised(client.gradients(model, x, y), 1e-3, generator=torch.Generator().manual_seed(2))
    try:
        inversion = invert(model, gradients, time_limit=5)
    except ValueError:  # the rank is lost in the noise
        return
    assert not inversion.certified_rows.any()


def test_the_generator_of_states_is_the_one_of_all_searches():
    model, x, y = drawn(42)
    problem = read_problem(model, client.gradients(model, x, y))
    steps = list(states(problem, method="consistency", generator=torch.Generator().manual_seed(1)))
    assert steps[-1].step == "certificate" and steps[-1].certified
    assert all(state.step in ("low rank", "consistency", "certificate") for state in steps)


def test_patterns_tell_a_direction_unless_two_samples_share_them(coupling):
    model, x, target, chain = coupling
    z = hidden(model, x)[0][0]
    assert told_by_patterns(passed_on(target.problem.layers, z), chain.splits[0]).all()
    alike = x.clone()
    alike[1] = alike[0] + 1e-4 * torch.randn(N, generator=torch.Generator().manual_seed(5))
    sent = client.gradients(model, alike, torch.arange(len(alike)) % 10)
    problem = read_problem(model, sent)
    z = hidden(model, alike)[0][0]
    assert torch.equal(z[0] > 0, z[1] > 0)
    told = told_by_patterns(passed_on(problem.layers, z), split(problem.attacked.weight_grad))
    assert not told[:2].any() and told[2:].all()


def test_the_search_keeps_to_its_budget_of_starts(coupling):
    *_, chain = coupling
    began = time.monotonic()
    every = list(coupled.rounds(chain, Budget(torch.Generator().manual_seed(0), max_samples=16)))
    assert every[-1].starts == coupled.WALKERS and len(every) == 1 and time.monotonic() - began < 60
