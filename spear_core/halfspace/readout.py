"""Half-spaces with one hidden layer: the output layer says what is where a unit is active.

Zeros use the inactive units only. Behind the last hidden layer ∂L/∂z_i = a_i ∘ W₂ᵀ δ_i, and the errors δ_i lie in the
column space of the output layer's gradient, which has few dimensions, at most one per class. So with V = W₂ᵀ L₂ known
(m×d), every sample has a pattern a and an error t ∈ ℝᵈ with

    L q = a ∘ V t,

m equations for b + d unknowns. L has orthonormal columns, so for a given pattern q = Lᵀ (a ∘ V t), and t minimises
‖a ∘ V t − L Lᵀ (a ∘ V t)‖ / ‖a ∘ V t‖: an eigenvalue problem of d dimensions. From random half-spaces, pattern and
(q, t) take turns. A unit's entry of L q is near 0 or near V t; which of the two is its label, first fitted by a
half-space, as `alternation` does it, and in the end taken as it is. Candidates are columns throughout: scores and
patterns (m, K), directions q (b, K), errors t (d, K). Products of the columns of L and V are `crossed`, shape (m, b d),
those of V alone `squared`, shape (m, d²).
"""

import torch
from torch import Tensor

from spear_core.search import Target

FITTED_STEPS, OWN_STEPS = 10, 10  # with patterns that are half-spaces, and with those that the entries tell
ARRIVED = 1e-5  # squared relative residual of a candidate that is worth a fit in float64
RIDGE = 1e-6  # relative; keeps Cholesky factors alive where few units are active
FEW = 32  # dimensions of the errors up to which all products of L and V fit into memory


def readout(target: Target) -> Tensor | None:
    """V = W₂ᵀ L₂, shape (m, d), float32: what ∂L/∂z is made of where units are active.

    None unless the next layer is the output layer, and its gradient has few dimensions.
    """
    problem = target.problem
    if len(problem.layers) != 2 or problem.layers[1].activation is not None or problem.branches:
        return None
    errors = target.splits.of(1).factor
    if errors.shape[1] > FEW:
        return None
    return (problem.layers[1].weight.to(torch.float64).T @ errors).to(torch.float32)


def alternate(factor: Tensor, space: Tensor, V: Tensor, scores: Tensor) -> Tensor:
    """Patterns and directions in turns, all candidates in step; those that have arrived, unit columns, best first.

    `space` is an orthonormal basis of the scores that are possible, shape (m, r).
    """
    m = len(factor)
    crossed = (factor[:, :, None] * V[:, None, :]).reshape(m, -1)
    squared = (V[:, :, None] * V[:, None, :]).reshape(m, -1)
    active = scores > 0
    for step in range(FITTED_STEPS + OWN_STEPS):
        q, t, left = _for_patterns(active.to(V.dtype), crossed, squared)
        entries, wanted = factor @ q, V @ t
        own, other = entries.square(), (entries - wanted).square()
        if step < FITTED_STEPS:
            size = wanted.abs() / wanted.abs().mean(dim=0)  # small errors say little
            tiny = torch.finfo(V.dtype).eps * wanted.square().mean(dim=0)
            label = (own - other) / (own + other + tiny) * size.clamp_max(1)
            active = space @ (space.T @ label) > 0
        else:
            active = own > other
    order = left.argsort()
    order = order[left[order] < ARRIVED]
    return q[:, order] / q[:, order].norm(dim=0)


def _for_patterns(active: Tensor, crossed: Tensor, squared: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(q, t) that fit given patterns a, of 0 and 1, best, and the squared residual of each, relative."""
    K, d = active.shape[1], round(squared.shape[1] ** 0.5)
    projected = (active.T @ crossed).reshape(K, -1, d)  # Lᵀ diag(a) V
    gram = (active.T @ squared).reshape(K, d, d)
    gram.diagonal(dim1=1, dim2=2).add_(RIDGE * gram.diagonal(dim1=1, dim2=2).mean(dim=1, keepdim=True))
    lower = torch.linalg.cholesky_ex(gram)[0]
    half = torch.linalg.solve_triangular(lower, projected.mT, upper=False)
    share = half @ half.mT  # of ‖a ∘ V t‖² that lies in the span of L
    # beyond 1, and no number, where V tells nothing of a pattern
    share = torch.where(share.abs() < 2, share, 0.0)
    values, vectors = torch.linalg.eigh(share)
    t = torch.linalg.solve_triangular(lower.mT, vectors[:, :, -1:], upper=True)
    return (projected @ t)[:, :, 0].T, t[:, :, 0].T, 1 - values[:, -1]
