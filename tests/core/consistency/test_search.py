"""Forward consistency: small seeds of every case it is meant for, and its routines against naive ones."""

import math
import time

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spear_core import client, invert
from spear_core.client import data
from spear_core.client.networks import fully_connected
from spear_core.consistency import deflation
from spear_core.consistency.affine import Pair, Space
from spear_core.consistency.deflation import coupled_directions, dual_directions, found_directions
from spear_core.consistency.exact import refined
from spear_core.consistency.finish import gauss_newton
from spear_core.consistency.masked_least_squares import amplification, factorise, null_vectors
from spear_core.consistency.relation import relate
from spear_core.consistency.relu import starts
from spear_core.consistency.search import Found, rounds
from spear_core.consistency.walk import nearest_on_graph, nearest_on_relu, walk
from spear_core.linalg import masked_products, orthogonal_complement, value_and_slope
from spear_core.problem import LinearLayer, Problem
from spear_core.search import Budget, Splits, Target
from spear_core.spear.low_rank import LowRank, split
from spear_core.study import metrics
from spear_core.tolerances import SPARE_EQUATIONS

F64 = torch.float64
SMOOTH = [
    nn.LeakyReLU,
    nn.ELU,
    nn.SELU,
    nn.SiLU,
    nn.GELU,
    nn.Mish,
    nn.Softplus,
    nn.Tanh,
    nn.ReLU6,
    nn.Sigmoid,
]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(model: nn.Sequential, inputs: Tensor, labels: Tensor, layer: int = 0) -> tuple[Problem, Tensor]:
    """The problem of the given linear layer of Linear → σ → Linear → …, and the inputs of that layer."""
    grads = client.gradients(model, inputs, labels)
    layers = []
    for i in range(2 * layer, len(model), 2):
        linear, sigma = model[i], model[i + 1] if i + 1 < len(model) else None
        gradient, bias_grad = grads[f"{i}.weight"], grads[f"{i}.bias"]
        layers.append(
            LinearLayer(gradient, bias_grad, linear.weight.detach(), linear.bias.detach(), activation=sigma)
        )
    return Problem(tuple(layers)), model[: 2 * layer](inputs).detach()


def photos(b: int, m: int, seed: int, *, depth: int = 4, activation=nn.ReLU, dtype=torch.float32, **options):
    generator = seeded(seed)
    batch = data.load("photos", b, generator=generator, dtype=dtype, **options)
    model = fully_connected(
        batch.inputs.shape[1], m, depth, activation=activation, generator=generator, dtype=dtype
    )
    return model, batch.inputs, batch.labels


def target_of(problem: Problem, low_rank: LowRank | None = None) -> Target:
    """What is attacked, with as many samples as the second layer's gradient tells."""
    low_rank = low_rank or split(problem.attacked.weight_grad)
    told = Splits(problem).of(1, expected=low_rank.batch_size).batch_size
    return Target(problem, low_rank, told)


def drain(problem: Problem, seed: int = 0) -> tuple[LowRank, Found]:
    generator = seeded(seed)
    low_rank = split(problem.attacked.weight_grad, generator=generator)
    *_, last = rounds(target_of(problem, low_rank), Budget(generator))
    return low_rank, last


def assert_exact(problem: Problem, inputs: Tensor, decibel: float = 100, share: float = 1.0) -> Found:
    low_rank, found = drain(problem)
    psnr = metrics.compare(found.coefficients @ low_rank.rows, inputs).psnr
    assert (psnr > decibel).double().mean() >= share, psnr.sort().values[:5]
    assert len(found.coefficients) <= len(inputs)
    return found


# ------------------------------------------------------------------------------------------ whole searches
@pytest.mark.parametrize(("b", "m", "depth"), [(8, 200, 3), (24, 400, 4), (24, 400, 10), (60, 300, 4)])
def test_every_sample_is_found_exactly(b: int, m: int, depth: int):
    model, inputs, labels = photos(b, m, seed=b, depth=depth)
    problem, _ = make(model, inputs, labels)
    found = assert_exact(problem, inputs)
    assert found.misfit.max() < 1e-5


def test_large_share_of_the_width():
    problem, _ = make(*(parts := photos(70, 200, seed=3, depth=5, size=16)))
    assert_exact(problem, parts[1], decibel=80)


@pytest.mark.parametrize("layer", [1, 2])
def test_hidden_layers_of_differing_width(layer: int):
    model, inputs, labels = photos(12, (220, 180, 260, 150), seed=layer, size=16)
    assert_exact(*make(model, inputs, labels, layer))


def test_float64_gradients_give_float64_inputs():
    model, inputs, labels = photos(12, 200, seed=0, dtype=F64, size=16)
    assert_exact(make(model, inputs, labels)[0], inputs, decibel=220)


def test_raw_pixels_and_one_label():
    model, inputs, _ = photos(16, 300, seed=1, standardize=False)
    assert_exact(make(model, inputs, torch.full((16,), 3))[0], inputs)


def test_zero_biases_leave_the_scale_to_the_bias_gradient():
    model, inputs, labels = photos(16, 300, seed=2)
    for linear in model[::2]:
        nn.init.zeros_(linear.bias)
    assert_exact(make(model, inputs, labels)[0], inputs)


def test_similar_samples_are_told_apart():
    model, inputs, labels = photos(16, 300, seed=4)
    near = inputs[:6] + 0.1 * torch.randn(inputs[:6].shape, generator=seeded(0))
    inputs = torch.cat([inputs[:10], near])
    assert_exact(make(model, inputs, labels)[0], inputs)


def test_combinations_of_other_samples():
    model, inputs, labels = photos(12, 300, seed=5)
    inputs = torch.cat([inputs[:10], inputs[:1] * 0.5 + inputs[1:2] * 0.5, inputs[2:3] - inputs[3:4]])
    assert split(make(model, inputs, labels)[0].attacked.weight_grad).batch_size == 10
    assert_exact(make(model, inputs, labels)[0], inputs)


def test_trained_network():
    model, inputs, labels = photos(12, 200, seed=6, size=16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    pool = data.load("photos", 128, size=16, generator=seeded(100))
    for step in range(60):
        rows = slice(32 * (step % 4), 32 * (step % 4 + 1))
        optimizer.zero_grad()
        F.cross_entropy(model(pool.inputs[rows]), pool.labels[rows]).backward()
        optimizer.step()
    assert_exact(make(model, inputs, labels)[0], inputs, decibel=90)


@pytest.mark.parametrize(
    ("name", "standardize"), [("breast_cancer", True), ("digits", True), ("digits", False)]
)
def test_more_samples_than_inputs(name: str, standardize: bool):
    batch = data.load(name, 100, standardize=standardize, generator=seeded(1))
    model = fully_connected(batch.inputs.shape[1], depth=4, generator=seeded(2))
    found = assert_exact(make(model, batch.inputs, batch.labels)[0], batch.inputs)
    assert found.directions.shape == (100, 100)


@pytest.mark.parametrize("activation", SMOOTH)
def test_any_activation(activation: type[nn.Module]):
    model, inputs, labels = photos(10, 250, seed=7, activation=activation, size=16)
    assert_exact(make(model, inputs, labels)[0], inputs, decibel=80)


# ------------------------------------------------------------------------------------------- what it reports
def test_states_grow_and_directions_are_the_output_gradients():
    model, inputs, labels = photos(16, 300, seed=8)
    problem, _ = make(model, inputs, labels)
    low_rank = split(problem.attacked.weight_grad)
    counts = []
    for found in rounds(target_of(problem, low_rank), Budget(seeded(0))):
        counts.append(len(found.misfit))
        assert found.coefficients.shape == (counts[-1], 16)
        assert found.directions.shape == (16, counts[-1])
    assert counts == sorted(counts) and counts[-1] == 16
    z = (inputs @ model[0].weight.T + model[0].bias).detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(F.cross_entropy(model[1:](z), labels), z)
    unit = F.normalize(gradient.to(F64), dim=1)
    recovered = F.normalize((low_rank.factor @ found.directions).T, dim=1)
    assert torch.allclose((unit @ recovered.T).abs().max(dim=1).values, torch.ones(16, dtype=F64), atol=1e-6)


def test_seed_decides_everything():
    problem, _ = make(*photos(8, 150, seed=9, size=16))
    first, second = drain(problem, seed=3)[1], drain(problem, seed=3)[1]
    assert torch.equal(first.coefficients, second.coefficients)


def test_known_samples_are_not_searched_again():
    model, inputs, labels = photos(16, 300, seed=10)
    problem, _ = make(model, inputs, labels)
    low_rank = split(problem.attacked.weight_grad)
    true = torch.linalg.lstsq(low_rank.rows.T, inputs.to(F64).T).solution.T
    every = list(rounds(target_of(problem, low_rank), Budget(seeded(0)), true[:15]))
    assert torch.allclose(every[-1].coefficients[:15], true[:15])
    assert len(every) == 1 and len(every[-1].misfit) == 16


def test_deadline_leaves_what_was_found():
    problem, _ = make(*photos(24, 100, seed=11, size=16))
    every = list(rounds(target_of(problem), Budget(deadline=time.monotonic() - 1)))
    assert len(every) == 1


@pytest.mark.parametrize("seed", range(3))
def test_mixtures_of_samples_with_one_pattern_are_refused(seed: int):
    """Two samples that no unit tells apart: every mixture is consistent, so neither may be reported."""
    model, inputs, labels = photos(10, 200, seed=seed, size=16)
    inputs[1] = inputs[0] * (1 + 1e-4) + 1e-4 * inputs[2]
    z = inputs[:2] @ model[0].weight.T + model[0].bias
    labels[0] = (labels[1] + 1) % 10  # differing gradients, so that the rank stays 10
    same = bool(((z[0] > 0) == (z[1] > 0)).all())
    low_rank, found = drain(make(model, inputs, labels)[0])
    recovered = found.coefficients @ low_rank.rows
    error = torch.cdist(recovered, inputs.to(F64)).min(dim=1).values / inputs[0].norm()
    assert len(found.misfit) >= 8
    assert (error < 1e-3).all(), (same, error)


def test_noise_yields_no_wrong_sample():
    model, inputs, labels = photos(8, 200, seed=12, size=16)
    problem, _ = make(model, inputs, labels)
    generator = seeded(0)
    noisy = tuple(
        LinearLayer(
            *(g + 1e-4 * g.square().mean().sqrt() * torch.randn(g.shape, generator=generator) for g in grads),
            layer.weight,
            layer.bias,
            layer.activation,
        )
        for layer in problem.layers
        for grads in [(layer.weight_grad, layer.bias_grad)]
    )
    low_rank = split(noisy[0].weight_grad, 8, generator=generator)
    *_, last = rounds(Target(Problem(noisy), low_rank, 8), Budget(generator, max_samples=500))
    psnr = metrics.compare(last.coefficients @ low_rank.rows, inputs).psnr
    assert (psnr > 50).sum() == len(last.misfit) == 8


def test_next_layer_must_hold_the_batch():
    problem, _ = make(*photos(24, 200, seed=13, depth=2, size=16))
    with pytest.raises(ValueError, match="next layer's gradient must have at least rank 24, got 9"):
        next(rounds(target_of(problem), Budget()))
    with pytest.raises(ValueError, match="must have a layer behind the attacked one, got 1 layer"):
        next(rounds(Target(Problem(problem.layers[:1]), split(problem.attacked.weight_grad)), Budget()))


@pytest.mark.parametrize("noise", [1e-3, 1e-2])
def test_noise_is_allowed_for(noise: float):
    model, inputs, labels = photos(8, 200, seed=15, size=16)
    grads = client.gradients(model, inputs, labels)
    generator = seeded(0)
    for name, grad in grads.items():
        grads[name] = grad + noise * grad.square().mean().sqrt() * torch.randn(
            grad.shape, generator=generator
        )
    inversion = invert(model, grads, time_limit=20.0)
    assert not inversion.certified_rows.any()
    assert metrics.compare(inversion.inputs, inputs).psnr.min() > -20 * math.log10(noise) + 10


def test_mixed_precision_is_allowed_for():
    model, inputs, labels = photos(8, 200, seed=16, size=16)
    with torch.autocast("cpu", torch.bfloat16):
        loss = F.cross_entropy(model(inputs), labels)
    inversion = invert(model, torch.autograd.grad(loss, list(model.parameters())), time_limit=20.0)
    assert not inversion.certified_rows.any()
    assert metrics.compare(inversion.inputs, inputs).psnr.min() > 40


def test_layers_that_do_not_belong_together_are_given_up_soon():
    model, inputs, labels = photos(8, 200, seed=17, size=16)
    problem, _ = make(model, inputs, labels)
    other, _ = make(*photos(8, 200, seed=18, size=16))
    problem, generator = Problem((problem.layers[0], other.layers[1])), seeded(0)
    low_rank = split(problem.attacked.weight_grad, generator=generator)
    every = list(rounds(target_of(problem, low_rank), Budget(generator)))
    assert not len(every[-1].misfit) and len(every) <= 6


def test_clock_stops_a_walk_and_a_round():
    problem, _ = make(*photos(12, 100, seed=19, size=16))
    target = target_of(problem)
    relation = relate(target)
    start = starts(relation.triangle, 5, seeded(0))
    walked = walk(relation.inner.float(), relation.outer.float(), start, deadline=time.monotonic() - 1)
    assert torch.equal(walked, start / start.norm(dim=0))
    every = list(rounds(target, Budget(deadline=time.monotonic() - 1)))
    assert not len(every[-1].misfit) and len(every) == 1


# ----------------------------------------------------------------------------------- routines, naively redone
def test_starts_lie_where_the_data_lie():
    u = starts(torch.diag(torch.tensor([100.0, 1.0], dtype=F64)), 4000, seeded(0))
    leaning = (u[0].abs() > u[1].abs()).double().mean()
    assert 0.7 < leaning < 0.95  # half of even starts would, and 99 % of those as skewed as the data


def test_refined_null_vectors_equal_one_svd_each():
    generator = seeded(4)
    inner = torch.linalg.qr(torch.randn(80, 12, generator=generator, dtype=F64))[0]
    pattern = (torch.rand(80, 3, generator=generator) > 0.4).to(F64)
    true = F.normalize(torch.randn(12, 3, generator=generator, dtype=F64), dim=0)
    rest = torch.randn(80, 5, generator=generator, dtype=F64)
    outer = torch.linalg.qr(torch.cat([pattern * (inner @ true), rest], dim=1))[0]
    near = F.normalize(true + 1e-5 * torch.randn(true.shape, generator=generator, dtype=F64), dim=0)
    assert torch.allclose(refined(inner, outer, near, pattern), true, atol=1e-12)


@pytest.mark.parametrize("dense", [False, True])
def test_null_vectors_equal_one_svd_each(dense: bool):
    generator = seeded(0)
    inner = torch.linalg.qr(torch.randn(60, 9, generator=generator, dtype=F64))[0]
    pattern = (torch.rand(60, 4, generator=generator) > 0.5).to(F64)
    y = pattern * (inner @ torch.randn(9, 4, generator=generator, dtype=F64))
    outer = torch.linalg.qr(torch.cat([y, torch.randn(60, 3, generator=generator, dtype=F64)], dim=1))[0]
    wanted = []
    for a in pattern.T:
        A = a[:, None] * inner
        wanted.append(torch.linalg.svd(A - outer @ (outer.T @ A))[2][-1])
    wanted = torch.stack(wanted, dim=1)
    u = F.normalize(wanted + 0.02 * torch.randn(wanted.shape, generator=generator, dtype=F64), dim=0)
    lower = factorise(inner, outer, pattern, u) if dense else None
    found = null_vectors(inner, outer, u, pattern, 3 if dense else 40, lower)
    assert torch.allclose((found * wanted).sum(dim=0).abs(), torch.ones(4, dtype=F64), atol=1e-10)


def test_amplification_is_the_norm_of_the_pseudo_inverse():
    generator = seeded(5)
    inner, outer = (torch.linalg.qr(torch.randn(40, k, generator=generator, dtype=F64))[0] for k in (6, 5))
    weights = torch.rand(40, 3, generator=generator, dtype=F64)
    lower = factorise(inner, outer, weights)
    for w, size in zip(weights.T, amplification(lower)[0], strict=True):
        A = w[:, None] * inner
        assert torch.isclose(size, torch.linalg.pinv(A - outer @ (outer.T @ A)).norm())


def test_gauss_newton_reaches_the_least_squares_point():
    generator = seeded(1)
    inner, outer = (torch.linalg.qr(torch.randn(50, k, generator=generator, dtype=F64))[0] for k in (5, 4))
    centre, true = (torch.randn(s, 1, generator=generator, dtype=F64) for s in (50, 5))
    y = torch.tanh(centre + inner @ true)
    offset = y - outer @ (outer.T @ y)
    start = true + 0.1 * torch.randn(5, 3, generator=generator, dtype=F64)
    pair = Pair(torch.tanh, Space(centre[:, 0], inner), Space(offset[:, 0], outer))
    u = gauss_newton(pair, start, passes=20, dense=True)
    assert torch.allclose(u, true.expand(5, 3), atol=1e-9)


def test_nearest_points_of_the_graphs():
    z, y = torch.meshgrid(torch.linspace(-2, 2, 41), torch.linspace(-2, 2, 41), indexing="ij")
    s = torch.linspace(-4, 4, 8001)
    distance = (s - z[..., None]) ** 2 + (torch.relu(s) - y[..., None]) ** 2
    found, on_graph = nearest_on_relu(z, y)
    assert torch.equal(torch.relu(found), on_graph)
    assert torch.allclose((found - z) ** 2 + (on_graph - y) ** 2, distance.min(dim=-1).values, atol=1e-5)
    near, on_curve = nearest_on_graph(torch.tanh, z, torch.tanh(z) + 0.05, z)
    distance = (s - z[..., None]) ** 2 + (torch.tanh(s) - torch.tanh(z)[..., None] - 0.05) ** 2
    actual = (near - z) ** 2 + (on_curve - torch.tanh(z) - 0.05) ** 2
    assert torch.allclose(actual, distance.min(dim=-1).values, atol=1e-4)


def test_masked_products_and_complement():
    generator = seeded(2)
    A, B = (torch.randn(30, k, generator=generator, dtype=F64) for k in (4, 3))
    for count, left, right in (
        (5, A, B),
        (1, A.repeat(1, 3), A.repeat(1, 3)),
        (1, A.repeat(1, 3), B.repeat(1, 4)),
    ):
        weights = torch.rand(30, count, generator=generator, dtype=F64)
        for w in (weights, weights > 0.5):  # numbers, and masks
            naive = torch.stack([left.T @ torch.diag(column.to(F64)) @ right for column in w.T])
            assert torch.allclose(masked_products(left, right, w), naive)
    rest = orthogonal_complement(A[:8])
    assert torch.allclose(rest.T @ rest, torch.eye(4, dtype=F64)) and (A[:8].T @ rest).abs().max() < 1e-12


@pytest.mark.parametrize("dense", [0, deflation.DENSE_SIZE])
@pytest.mark.parametrize("known", [3, 9, 12])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU])
def test_directions_of_found_samples_are_rows_of_the_inverse(
    known: int, activation: type[nn.Module], dense: int, monkeypatch
):
    monkeypatch.setattr(deflation, "DENSE_SIZE", dense)
    model, inputs, labels = photos(12, 200, seed=14, size=16, dtype=F64, activation=activation)
    problem, _ = make(model, inputs, labels)
    low_rank = split(problem.attacked.weight_grad)
    relation = relate(target_of(problem, low_rank))
    C = torch.linalg.lstsq(low_rank.rows.T, inputs.T).solution.T
    P = relation.next_coefficients(relation.activation(relation.hidden(C)))
    earlier = found_directions(relation, C[: known - 1])
    for found, whole in zip(found_directions(relation, C[:known], earlier), (C, P.T), strict=True):
        true = torch.linalg.inv(whole)[:, :known]
        assert torch.allclose((found * true).sum(dim=0).abs(), true.norm(dim=0), rtol=1e-8)


def test_undetermined_directions_are_nan():
    generator = seeded(3)
    L = torch.linalg.qr(torch.randn(40, 6, generator=generator, dtype=F64))[0]
    C = torch.randn(2, 6, generator=generator, dtype=F64)
    inactive = torch.zeros(40, 2, dtype=torch.bool)
    inactive[:2] = True  # two rows for four unknowns
    assert dual_directions(L, C, inactive, C.T[:, :0]).isnan().all()
    slope = torch.zeros(40, 2, dtype=F64)  # says nothing about the next layer
    assert coupled_directions((L, L), (C, C), slope)[1].isnan().all()


def test_value_and_slope():
    z = torch.linspace(-2, 2, 9, dtype=F64)
    value, slope = value_and_slope(torch.tanh, z)
    assert torch.allclose(value, z.tanh()) and torch.allclose(slope, 1 - z.tanh() ** 2)


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_samples_with_few_active_units_stand_with_the_help_of_others(seed):
    """b = 0.42 m: equations that hardly determine most of the samples, unless those found before are taken out."""
    generator = torch.Generator().manual_seed(seed)
    batch = data.load("photos", 34, size=16, generator=generator)
    model = fully_connected(768, 80, 6, generator=generator)
    with torch.no_grad():
        few = (model[0](batch.inputs) > 0).sum(dim=1) < 35 + SPARE_EQUATIONS
    assert few.sum() > 17
    found = invert(model, client.gradients(model, batch.inputs, batch.labels), time_limit=60)
    assert found.certified
    assert float(metrics.compare(found.inputs, batch.inputs).psnr.min()) > 110
