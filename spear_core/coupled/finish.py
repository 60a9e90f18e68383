"""Coupled relations, second move: from near a sample to the sample, with its direction in every layer.

With the activation patterns fixed, a_j ∘ z_j = y_j is linear in the coordinates v of all spaces: A v + r = 0. A unit
on the wrong side of its kink is the equation without which the others fit: it is found by leaving each out (its squared
residual over 1 − its leverage) and turned over. The rest is the network itself: y_1 goes forward to the output,
cross-entropy gives ∂L/∂(output) for each label, and back-propagation gives ∂L/∂z_j = L_j q_j for all layers, without an
unknown. Past b = m/2, zeros no longer tell q.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from spear_core.certificate.backprop import forward
from spear_core.consistency.affine import Space
from spear_core.coupled.chain import Chain
from spear_core.coupled.walk import stacked
from spear_core.tolerances import rounding_residual

TURNS = 12  # units that may be on the wrong side
NEAR = 0.1  # relative residual above which a candidate is near nothing
FITS = 1e-6  # below which no unit is on the wrong side
RIDGE = 1e-9  # relative: inactive units leave part of c open, which then stays where it is
REFINEMENTS = 3  # of a least-squares solution, which the ridge holds back


@dataclass(frozen=True)
class Sample:
    """A sample as layers 1 … k + 1 see it.

    Attributes:
        activation: y_1, shape (m,), exactly zero where inactive.
        directions: q_j in each of the k + 1 layers, unit length, shape (k + 1, b).
    """

    activation: Tensor
    directions: Tensor


def settle(chain: Chain, spaces: tuple[Space, ...], z: Tensor, y: Tensor) -> Sample | None:
    """The sample near a walker, weighted z and y on the graph of relu, (k, m) each, float64; None if none is."""
    # factorised once: the units that are turned over later change the normal matrix by a few rows
    point = torch.cat([s.basis.T @ part for s, part in zip(spaces, stacked(z, y), strict=True)])
    active, turned = z > 0, list[int]()  # numbers of the host: where they are is asked for often
    A, r = equations(spaces, active)
    gram = A.T @ A
    gram.diagonal().add_(RIDGE * gram.diagonal().mean() if len(gram) else 0.0)
    lower, A_first, leverage = torch.linalg.cholesky_ex(gram)[0], A, None
    for _ in range(TURNS):
        # the least-squares solution nearest to where we are
        solved, core = _woodbury(lower, A_first[turned].T, A[turned].T)
        for _ in range(REFINEMENTS):
            down = A.T @ (A @ point + r)
            whole = torch.cholesky_solve(down[:, None], lower)[:, 0]
            point = point - (whole - solved @ (core @ (solved.T @ down)))
        residual = A @ point + r
        y_1 = _activation(spaces, point, active.shape[1]) / chain.weights[0]
        y_1 = torch.where(active[0], y_1, 0.0).clamp_min(0)
        misses = residual.norm() / (y_1.norm() * chain.weights.norm())
        if not misses < NEAR:
            return None
        sample = sample_of(chain, y_1)
        if sample is not None or misses < FITS:
            return sample
        # leaving an equation out saves r² / (1 − leverage)
        if leverage is None:
            leverage = torch.linalg.solve_triangular(lower, A.T, upper=False).square().sum(dim=0)
        now = leverage.clone()
        now[turned] = (A[turned].T * solved[:, len(turned) :]).sum(dim=0)
        crossed = A @ solved
        now -= (crossed @ core * crossed).sum(dim=1)
        suspect = int((residual.square() / (1 - now).clamp_min(RIDGE)).argmax())
        turned = sorted({*turned} ^ {suspect})
        place = divmod(suspect, active.shape[1])
        active[place] = ~active[place]
        A, r = equations(spaces, active)
    return None


def equations(spaces: tuple[Space, ...], active: Tensor) -> tuple[Tensor, Tensor]:
    """a_j ∘ z_j − y_j = A v + r, all relations j one below the other: A, shape (k m, Σ d), and r, shape (k m,).

    The patterns a, shape (k, m), are bool.
    """
    k, m = active.shape
    A = spaces[0].basis.new_zeros(k, m, sum(s.basis.shape[1] for s in spaces))
    r, column = A.new_zeros(k, m), 0
    for j, (before, after) in enumerate(pairwise(spaces)):
        middle = column + before.basis.shape[1]
        A[j, :, column:middle] = active[j][:, None] * before.basis[-m:]
        A[j, :, middle : middle + after.basis.shape[1]] = -after.basis[:m]
        r[j] = active[j] * before.offset[-m:] - after.offset[:m]
        column = middle
    return A.flatten(0, 1), r.flatten()


def _woodbury(lower: Tensor, old: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    """V = H⁻¹ U and C with (H − old oldᵀ + new newᵀ)⁻¹ = H⁻¹ − V C Vᵀ, for H = L Lᵀ and U = [old, new]."""
    both = torch.cat([old, new], dim=1)
    signs = both.new_ones(both.shape[1])
    signs[: old.shape[1]] = -1
    solved = torch.cholesky_solve(both, lower)
    return solved, torch.linalg.inv_ex(torch.diag(signs) + both.T @ solved)[0]


def _activation(spaces: tuple[Space, ...], point: Tensor, m: int) -> Tensor:
    """Weighted y_1 at the coordinates of all spaces."""
    first, second = (s.basis.shape[1] for s in spaces[:2])
    return spaces[1].offset[:m] + spaces[1].basis[:m] @ point[first : first + second]


def sample_of(chain: Chain, y_1: Tensor) -> Sample | None:
    """The sample with activation y_1, if all relations hold and one label explains the gradients of all layers.

    y_1, shape (m,), float64, is exactly zero where inactive.
    """
    tolerance = rounding_residual(max(part.noise for part in chain.splits))
    passed = forward(chain.layers, y_1[None])  # y_1 is its own relu, and so is its slope
    off = []
    for part, y in zip(chain.splits[1:], passed.activations[: chain.relations], strict=True):
        rows = part.rows / part.singular_values[: part.batch_size, None]  # orthonormal
        off.append((y - y @ rows.T @ rows).norm() / y.norm())
    if bool((torch.stack(off) > tolerance).any()):
        return None
    output = passed.output
    errors = output.softmax(dim=1)[:, None] - torch.eye(output.shape[1], dtype=y.dtype, device=y.device)
    # for each label, the first layers' ∂L/∂z as columns
    found = [grads[0].T for grads in passed.back(errors)][::-1][: len(chain.splits)]
    inside = [part.factor.T @ g for part, g in zip(chain.splits, found, strict=True)]
    parts = zip(chain.splits, found, inside, strict=True)
    left = [(g - part.factor @ q).norm(dim=0) / g.norm(dim=0) for part, g, q in parts]
    least, label = torch.stack(left).amax(dim=0).min(dim=0)
    if not least < tolerance:
        return None
    directions = torch.stack([q.index_select(1, label[None])[:, 0] for q in inside])
    return Sample(y_1, directions / directions.norm(dim=1, keepdim=True))
