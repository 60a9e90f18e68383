"""Step 5: the thin algebra against the whole matrices and against autograd."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spear_core.spear import records
from spear_core.spear.reconstruction import from_coefficients, gradient_residual, reconstruct, scales
from spear_core.spear.records import Forward
from tests.core.attacked import gaussian, photos
from tests.core.zoo import seeded


def rounding(dtype):
    return 1e4 * torch.finfo(dtype).eps


@given(b=st.integers(1, 10), seed=st.integers(0, 999), flip=st.booleans())
@settings(max_examples=30, deadline=None)
def test_true_directions_of_any_sign_give_the_batch(b, seed, flip):
    case = gaussian(b, seed=seed, depth=3)
    Q = case.directions(case.low_rank)
    signs = torch.where(torch.rand(b, generator=seeded(seed)) < 0.5, -1.0, 1.0) if flip else torch.ones(b)
    found = reconstruct(case.target.forward, Q * signs)
    torch.testing.assert_close(found.inputs, case.inputs, rtol=0, atol=1e-8)
    torch.testing.assert_close(found.output_grads, case.output_grads, rtol=0, atol=1e-10)
    torch.testing.assert_close(found.preactivations, case.model[0](case.inputs).detach(), rtol=0, atol=1e-8)
    assert found.sparsity_match == 1


@pytest.mark.parametrize("kind", [gaussian, photos])
def test_each_dtype_is_exact_to_its_rounding(kind, dtype):
    case = kind(6, dtype=dtype)
    found = reconstruct(case.target.forward, case.directions(case.low_rank))
    assert float((found.inputs - case.inputs).abs().max()) < rounding(dtype)
    assert found.inputs.dtype == torch.float64
    assert found.sparsity_match == 1
    assert gradient_residual(found, case.problem.attacked) < 100 * torch.finfo(dtype).eps


def test_scales_solve_the_bias_gradient(device):
    case = gaussian(5, device=device)
    low_rank = case.low_rank
    Q = case.directions(low_rank)
    g = case.gradients["0.bias"]
    naive = torch.linalg.lstsq((low_rank.factor @ Q), g[:, None]).solution[:, 0]
    lengths = scales(low_rank, Q, g)
    torch.testing.assert_close(lengths, naive, rtol=1e-9, atol=0)
    torch.testing.assert_close(low_rank.factor @ Q @ lengths, g, rtol=0, atol=1e-12)


def test_projection_in_slices_is_the_whole_product(monkeypatch):
    case = gaussian(5, n=150)
    monkeypatch.setattr(records, "PROJECTED_COLUMNS", 64)
    forward = Forward.of(case.low_rank, case.problem.attacked)
    torch.testing.assert_close(
        forward.weights, case.low_rank.rows @ case.model[0].weight.detach().T, rtol=0, atol=1e-13
    )


def residual_of_whole_matrices(found, layer):
    """The naive way: build the gradient that the batch gives, and subtract."""
    D = torch.where(found.preactivations > 0, found.output_grads, 0.0)
    G, g = layer.weight_grad.double(), layer.bias_grad.double()
    return max(float((D.T @ found.inputs - G).norm() / G.norm()), float((D.sum(dim=0) - g).norm() / g.norm()))


@pytest.mark.parametrize("spoilt", [0.0, 1e-6, 1e-2, 1.0])
@pytest.mark.parametrize("b", [1, 4, 9])
def test_residual_in_the_row_space_is_that_of_whole_matrices(b, spoilt, dtype):
    case = gaussian(b, dtype=dtype)
    Q = case.directions(case.low_rank)
    Q = Q + spoilt * torch.randn(b, b, generator=seeded(), dtype=torch.float64)
    found = reconstruct(case.target.forward, Q / Q.norm(dim=0))
    layer = case.problem.attacked
    naive = residual_of_whole_matrices(found, layer)
    assert gradient_residual(found, layer) == pytest.approx(naive, rel=0.05, abs=20 * torch.finfo(dtype).eps)


def test_residual_sees_what_the_split_left_out():
    case = gaussian(6)
    layer = case.problem.attacked
    cut = replace(
        case.low_rank, factor=case.low_rank.factor[:, :5], rows=case.low_rank.rows[:5]
    )  # the weakest direction is missing
    found = reconstruct(Forward.of(cut, layer), torch.eye(5, dtype=torch.float64))
    assert gradient_residual(found, layer) == pytest.approx(
        residual_of_whole_matrices(found, layer), rel=1e-6
    )


def test_residual_of_a_gradient_of_something_else_is_large():
    case, other = gaussian(4), gaussian(4, seed=1)
    found = reconstruct(case.target.forward, case.directions(case.low_rank))
    layer = replace(case.problem.attacked, bias_grad=other.gradients["0.bias"])
    assert gradient_residual(found, layer) > 0.1


def test_agreement_is_lambda_counted_entry_by_entry():
    """Wrong directions too; a handful of entries at rounding are undecided, and those count as agreeing."""
    case = gaussian(5)
    Q = case.directions(case.low_rank)
    Q = Q @ (torch.eye(5, dtype=torch.float64) + 0.5 * torch.ones(5, 5, dtype=torch.float64).triu(1))
    found = reconstruct(case.target.forward, Q / Q.norm(dim=0))
    count = sum(
        (abs(float(entry)) < 1e-9) == (float(z) <= 0)
        for entries, values in zip(found.output_grads / found.lengths[:, None], found.preactivations)
        for entry, z in zip(entries, values)
    )
    assert found.sparsity_match == pytest.approx(count / found.preactivations.numel(), abs=0.01)
    assert 0.3 < found.sparsity_match < 0.95


def test_a_wrong_direction_spoils_lambda_of_the_others_too():
    case = gaussian(5)
    Q = case.directions(case.low_rank)
    Q[:, 0] = Q[:, 0] + Q[:, 1]
    found = reconstruct(case.target.forward, Q / Q.norm(dim=0))
    assert not bool(found.agreement.all())
    assert float((found.inputs - case.inputs).abs().max()) > 0.1


def test_known_coefficients_give_the_same_batch_as_directions():
    case = gaussian(5)
    whole = reconstruct(case.target.forward, case.directions(case.low_rank))
    again = from_coefficients(case.target.forward, whole.coefficients, whole.directions)
    torch.testing.assert_close(again.inputs, whole.inputs)
    torch.testing.assert_close(again.output_grads, whole.output_grads)
    part = from_coefficients(case.target.forward, whole.coefficients[:2], whole.directions[:, :2])
    torch.testing.assert_close(part.inputs, whole.inputs[:2])
    torch.testing.assert_close(part.output_grads, whole.output_grads[:2])
    assert bool(part.agreement.all())


def test_missing_directions_give_guesses_of_the_right_shape():
    case = gaussian(5)
    found = reconstruct(case.target.forward, case.directions(case.low_rank)[:, :3])
    assert found.inputs.shape == (3, 150)
    assert found.preactivations.shape == (3, 100)
    assert bool(found.inputs.isfinite().all())


def test_directions_that_depend_on_each_other_give_guesses_and_no_error():
    case = gaussian(4, seed=0)
    forward = Forward.of(case.low_rank, case.problem.attacked)
    q = torch.linalg.lstsq(case.low_rank.factor, case.output_grads.T.to(torch.float64)).solution
    doubled = torch.stack([q[:, 0], q[:, 0], q[:, 2], q[:, 3]], dim=1)
    found = reconstruct(forward, doubled / doubled.norm(dim=0))
    assert found.inputs.isfinite().all() and found.inputs.shape == case.inputs.shape
