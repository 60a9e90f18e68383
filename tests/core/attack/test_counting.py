"""A gradient whose rank tells no batch is refused before any search, with the likeliest reason."""

import pytest
import torch
from torch import nn

from spear_core import client
from spear_core.attack.counting import check_rank
from spear_core.errors import InputError, NotLowRank, RankSaturated
from spear_core.model.layers import read_problem
from spear_core.problem import Problem
from spear_core.search import Splits
from spear_core.spear.low_rank import split
from tests.core.zoo import CLASSES, WIDTH, N, batch, mlp, seeded

MODEL = mlp()
GRADIENTS = client.gradients(MODEL, *batch())


def judge(weight_grad, batch_size=None, model=MODEL, chain=True, **others):
    gradients = {**GRADIENTS, "0.weight": weight_grad, **others}
    problem = read_problem(model, gradients)
    if not chain:
        problem = Problem(problem.layers[:1])
    low_rank = split(problem.attacked.weight_grad, batch_size, generator=seeded())
    check_rank(low_rank, Splits(problem), batch_size)


G, W = GRADIENTS["0.weight"], MODEL[0].weight.detach()
LARGE = G.abs().flatten().quantile(0.9)
NOISE = torch.randn(G.shape, generator=seeded(9), dtype=G.dtype)


@pytest.mark.parametrize(
    "gradient",
    [G, G * 1e-12, -3 * G, G * 65536, G.float(), G.bfloat16(), G + 1e-6 * LARGE * NOISE],
)
def test_low_rank_passes(gradient):
    judge(gradient)


PROCESSED = {
    "pure noise": (lambda G, noise: noise, "noise"),
    "noise added": (lambda G, noise: G + 0.1 * G.std() * noise, "noise"),
    "the weights": (lambda G, noise: W, r"1 × the weights"),
    "weights after a step": (lambda G, noise: W - 0.1 * G, r"the weights plus rank 4: pass the difference"),
    "weights after many noisy steps": (lambda G, noise: W - 0.1 * G + 0.01 * noise, "close to the weights"),
    "weight decay": (lambda G, noise: G + 5e-4 * W, r"rank 4 without 0.0005 × the weights: weight decay"),
    "scaled weight decay": (lambda G, noise: -0.3 * (G + 0.01 * W), r"pass gradient \+ 0\.003\d* × weights"),
    "signs": (lambda G, noise: G.sign(), "same magnitude"),
    "Adam's first step": (lambda G, noise: 1e-3 * G / (G.abs() + 1e-8), "same magnitude"),
    "top-k": (lambda G, noise: G * (G.abs() > G.abs().flatten().quantile(0.8)), "top-k"),
    "quantised": (lambda G, noise: (G / G.abs().max() * 15).round() / 15, "quantised"),
    "clipped by value": (lambda G, noise: G.clamp(-LARGE, LARGE), "clipped"),
}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", PROCESSED)
def test_what_is_not_low_rank_is_refused_with_its_reason(kind, seed):
    process, match = PROCESSED[kind]
    noise = torch.randn(G.shape, generator=seeded(100 + seed), dtype=G.dtype)
    gradient = client.gradients(MODEL, *batch(seed))["0.weight"]
    with pytest.raises(NotLowRank, match=match) as caught:
        judge(process(gradient, noise))
    assert "must be low-rank, of rank b < min(m, n) = 12" in str(caught.value)


def test_adding_weight_decay_back_is_what_the_message_says():
    decayed = G + 5e-4 * W
    with pytest.raises(NotLowRank) as caught:
        judge(decayed)
    factor = float(str(caught.value).split("gradient − ")[1].split()[0])
    judge(decayed - factor * W)


def test_noise_is_let_through_with_a_batch_size():
    judge(G + 0.01 * G.std() * NOISE, batch_size=4)


def test_a_batch_size_above_the_rank_is_refused():
    with pytest.raises(InputError, match="at most the rank of the gradient, 4, got 6"):
        judge(G, batch_size=6)


def test_a_batch_size_below_a_clear_rank_is_refused():
    with pytest.raises(InputError, match="must be the rank of the gradient, 4, got 3"):
        judge(G, batch_size=3)


@pytest.mark.parametrize("chain", [True, False])
def test_a_batch_larger_than_the_layer_is_named(chain):
    gradients = client.gradients(MODEL, *batch(b=15))
    with pytest.raises(RankSaturated, match="got b = 15" if chain else "rank 12, from at least so many"):
        judge(gradients.pop("0.weight"), chain=chain, **gradients)


@pytest.mark.parametrize(("b", "width"), [(5, WIDTH), (2, 60)])
def test_constant_inputs_do_not_hide_saturation(b, width):
    """Of 12 inputs 3 vary: rank 3 is no batch size unless the next layer says so."""
    model = nn.Sequential(nn.Linear(N, width), nn.ReLU(), nn.Linear(width, CLASSES)).double()
    x, y = batch(b=b)
    x[:, 3:] = 0
    gradients = client.gradients(model, x, y)
    problem = read_problem(model, gradients)
    low_rank = split(problem.attacked.weight_grad, generator=seeded())
    if b < 3:
        check_rank(low_rank, Splits(problem))
    else:
        assert low_rank.batch_size == 3
        with pytest.raises(RankSaturated):
            check_rank(low_rank, Splits(problem))


def test_a_bias_gradient_of_another_batch_is_refused():
    with pytest.raises(InputError, match="must lie in the column space of the weight gradient"):
        judge(G, **{"0.bias": torch.randn(WIDTH, generator=seeded(), dtype=G.dtype)})
