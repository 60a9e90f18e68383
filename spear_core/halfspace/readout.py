"""Half-spaces with one hidden layer: the output layer says what is where a unit is active.

Zeros use the inactive units only. Behind the last hidden layer ∂L/∂z_i = a_i ∘ W₂ᵀ δ_i, and the errors δ_i lie in the
column space of the output layer's gradient, which has few dimensions, at most one per class. So with V = W₂ᵀ L₂ known
(m×d), every sample has a pattern a and an error t ∈ ℝᵈ with

    L q = a ∘ V t,

m equations for b + d unknowns. With z = M c the half-space, g = L q and v = V t, every unit is at one of two places,
(z ≤ 0, g = 0) or (z > 0, g = v), and z, g and v lie in spaces that are known: two sets that share the samples. From
random half-spaces, averaged reflections between the two come near them (`consistency.walk` says more of these). Then
patterns are taken as they are: L has orthonormal columns, so for a given one q = Lᵀ (a ∘ V t), and t minimises
‖a ∘ V t − L Lᵀ (a ∘ V t)‖ / ‖a ∘ V t‖, an eigenvalue problem of d dimensions; a unit is active if its entry of L q is
nearer to V t than to 0. Candidates are columns throughout: scores and patterns (m, K), directions q (b, K), errors t
(d, K). Products of the columns of L and V are `crossed`, shape (m, b d), those of V alone `squared`, shape (m, d²).
"""

import torch
from torch import Tensor

from spear_core.linalg import orthonormal, units
from spear_core.search import Budget, Target

MEMORY = 0.95  # of the reflections: just below 1 samples attract best
SCORES = 0.7  # length of z beside that of (g, v)
REFLECTIONS = 10.0  # steps times the square of the room that b/m leaves below `LIMIT`; measured
LIMIT, LEAST_ROOM = 0.5, 0.1  # and what counts as room beyond it
LONGEST = 4  # times that the number of steps is doubled
GLANCE = 16  # steps between two looks at the clock
OWN_STEPS = 10  # with patterns that the entries tell
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


def arrived(
    factor: Tensor, space: Tensor, V: Tensor, scores: Tensor, budget: Budget, effort: int = 0
) -> Tensor:
    """Directions to which random scores lead, all candidates in step: unit columns, best first.

    `space` is an orthonormal basis of the scores that are possible, shape (m, r); `effort` doubles the steps each time
    that it grows by one. After the deadline of `budget` no further step is taken.
    """
    m, b = factor.shape
    V = orthonormal(V)
    crossed = (factor[:, :, None] * V[:, None, :]).reshape(m, -1)
    squared = (V[:, :, None] * V[:, None, :]).reshape(m, -1)
    room = max(LIMIT - (b + space.shape[1]) / (2 * m), LEAST_ROOM)
    steps = int(REFLECTIONS / room**2) * 2 ** min(effort, LONGEST)
    active = reflect(factor, space, V, scores, steps, budget)
    for _ in range(OWN_STEPS):
        q, t, left = _for_patterns(active.to(V.dtype), crossed, squared)
        entries = factor @ q
        active = entries.square() > (entries - V @ t).square()
    order = left.argsort()
    order = order[left[order] < ARRIVED]
    return units(q[:, order])


def reflect(factor: Tensor, space: Tensor, V: Tensor, scores: Tensor, steps: int, budget: Budget) -> Tensor:
    """Where units are active after so many averaged reflections between the spaces of (z, g, v) and the two places.

    `V` has orthonormal columns here. The scores have no scale in common with g and v: both lengths are kept.
    """
    z, spaces = SCORES * units(scores), (space, factor, V)
    v = units(V @ torch.randn(V.shape[1], z.shape[1], generator=budget.generator).to(V))
    g = torch.where(z > 0, v, 0)
    for step in range(steps):
        if step % GLANCE == 0 and budget.late:
            break
        inside = [basis @ (basis.T @ x) for basis, x in zip(spaces, (z, g, v))]
        beyond = [2 * at - x for at, x in zip(inside, (z, g, v))]
        moved = zip((z, g, v), inside, _nearest(*beyond))
        z, g, v = (torch.lerp(at, x + there - at, MEMORY) for x, at, there in moved)
        length = torch.hypot(g.norm(dim=0), v.norm(dim=0))
        z, g, v = SCORES * units(z), g / length, v / length
    return (g - v).square() < g.square()


def _nearest(z: Tensor, g: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of every unit the nearer one of (z ≤ 0, g = 0) and (z > 0, g = v)."""
    positive, mean = z.clamp_min(0), (g + v) / 2
    active = (g - v).square() / 2 + (z - positive).square() < g.square() + positive.square()
    return (
        torch.where(active, positive, z - positive),
        torch.where(active, mean, 0),
        torch.where(active, mean, v),
    )


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
