"""Steps 2–4 in milliseconds: two consecutive layers tell everything (forward consistency).

The gradients of two consecutive layers hold the same secret twice:

- layer 1: Xᵀ = Q⁻¹ R, so z_i = W x_i + β = M c_i + β with M = W Rᵀ known and c_i the i-th row of Q⁻¹;
- layer 2: ∂L/∂W₂ = (∂L/∂Z₂) Yᵀ, so y_i = σ(z_i) lies in the row space 𝒴 of ∂L/∂W₂, a known b-dimensional
  subspace of ℝᵐ.

A sample is a z ∈ span[M, β] with σ(z) ∈ 𝒴: m − b equations for b unknowns and no search over rows. From
random starts, all at once, this module repeats four moves:

1. **walk** (`consistency_walk`): projections between the two spaces bring most starts near a sample;
2. **finish** (`consistency_finish`): with the activation pattern fixed, the exact z is a null vector;
3. **judge**: a sample is reported only if σ(z) meets 𝒴 to rounding, the bias agrees, and a kicked copy of it
   comes back (two samples with one pattern mix freely, and no mixture comes back);
4. **deflate** (`deflation`): what is found is taken out of *both* spaces; the rest is a smaller, easier
   problem in which nothing is found twice.

Alternating projections and the difference map come from phase retrieval (Bauschke, Combettes, Luke 2002;
Elser 2003). Where the next layer's gradient has rank below b, 𝒴 misses samples and the method does not apply.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spear_core.consistency_finish import kicked_null_vectors, pattern_newton
from spear_core.consistency_walk import starts_per_sample, walk
from spear_core.deflation import dual_directions, orthogonal_complement
from spear_core.low_rank import LowRank, split
from spear_core.problem import LinearLayer, Problem
from spear_core.tolerances import noise_per_entry, precision

MISFIT_MARGIN = 10.0  # a true sample's misfit is within twice its prediction; this leaves room for bad luck
LARGEST_MISFIT = 0.05  # however large the noise: beyond it wrong points pass as well
SAME_SAMPLE = 1e-4  # two finds closer than this, relative to ‖z‖, are one sample
NEAR = 0.15  # misfit below which a walker sits in the basin of a sample
FEWEST_STARTS = 32


@dataclass(frozen=True)
class Found:
    """State of the search after a round: what is found, and where the walkers stand.

    Attributes:
        coefficients: c_i as rows, shape (k, r), float64: x_i = c_i @ low_rank.rows.
        directions: q_i as columns, shape (b, k), unit length, in the basis L = low_rank.factor:
            ∂L/∂z_i ∝ L q_i. Where b > r (more samples than independent inputs) layer 1 does not separate the
            samples, and q_i is meant in the basis of the *next* layer's factor. NaN where not yet determined.
        misfit: distance of σ(z_i) from the row space 𝒴, relative to its length, shape (k,).
        candidates: the walkers z as columns, shape (m, K), for drawing.
        rounds: rounds so far.
        starts: random starts so far.
    """

    coefficients: Tensor
    directions: Tensor
    misfit: Tensor
    candidates: Tensor
    rounds: int
    starts: int


@dataclass(frozen=True)
class Relation:
    """Two layers' knowledge of one hidden vector z, all float64.

    Attributes:
        sources: B, shape (r, n): x = c B. The rows R of the split, or the identity where the inputs span ℝⁿ.
        basis: M = W Bᵀ, shape (m, r).
        bias: β, shape (m,).
        inner: Φ, orthonormal basis of span[M, β], shape (m, r + 1), or (m, r) where β adds no column.
        triangle: T with [M, β] = Φ T.
        rows: R₂, shape (b, m): y = R₂ᵀ p for every sample.
        outer: Y, orthonormal basis of 𝒴, shape (m, b).
        splits: the splits of the two layers' gradients.
        layers: the two layers.
    """

    sources: Tensor
    basis: Tensor
    bias: Tensor
    inner: Tensor
    triangle: Tensor
    rows: Tensor
    outer: Tensor
    splits: tuple[LowRank, LowRank]
    layers: tuple[LinearLayer, LinearLayer]

    @property
    def has_bias(self) -> bool:
        """Whether β adds a dimension to span[M, β]."""
        return self.inner.shape[1] > self.basis.shape[1]

    @property
    def crowded(self) -> bool:
        """Whether there are more samples than independent inputs (b > r)."""
        return self.rows.shape[0] > self.basis.shape[1]


def search(
    problem: Problem,
    low_rank: LowRank,
    *,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
    deadline: float | None = None,
    known: Tensor | None = None,
    max_starts: int | None = None,
) -> Iterator[Found]:
    """Find the samples of a batch from two consecutive layers, round by round.

    Args:
        problem: the attacked layer and at least one layer behind it.
        low_rank: split of the attacked layer's weight gradient.
        batch_size: b; default: the rank of the second layer's gradient.
        generator: source of all randomness (a CPU generator).
        deadline: value of `time.monotonic()` at which to stop.
        known: coefficients of samples found by another method, shape (k, r); taken out from the start.
        max_starts: give up after this many random starts; default: 400 per sample.

    Yields:
        The state after each round; the last one has all that was found.

    Raises:
        ValueError: if there is no second layer, or if its gradient has a lower rank than the first one's.
    """
    relation = relate(problem, low_rank, batch_size=batch_size, generator=generator)
    b = relation.rows.shape[0]
    max_starts = max_starts or 400 * b
    state = _beginning(relation, low_rank, known)
    idle = 0
    while len(state.misfit) < b and state.starts < max_starts and not _past(deadline):
        before = len(state.misfit)
        state = _round(relation, low_rank, state, effort=idle, generator=generator)
        idle = 0 if len(state.misfit) > before else idle + 1
        yield state
    if state.rounds == 0:
        yield state


def relate(
    problem: Problem,
    low_rank: LowRank,
    *,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
) -> Relation:
    """Collect what two layers say about z (see `Relation`)."""
    if len(problem.layers) < 2:
        raise ValueError("problem must have a layer behind the attacked one, got 1 layer")
    first, second = problem.layers[:2]
    next_rank = split(second.weight_grad, batch_size, generator=generator)
    rank, n = low_rank.rows.shape
    b = next_rank.batch_size
    if b < rank:
        raise ValueError(f"the next layer's gradient must have at least rank {rank}, got {b}")
    weight, bias = first.weight.to(torch.float64), first.bias.to(torch.float64)
    sources = torch.eye(n, dtype=torch.float64, device=weight.device) if rank == n else low_rank.rows
    basis = weight @ sources.T
    inner, triangle = torch.linalg.qr(torch.cat([basis, bias[:, None]], dim=1))
    if triangle[-1, -1].abs() <= 1e3 * precision(first.weight.dtype) * bias.norm():
        inner, triangle = inner[:, :-1], triangle[:-1, :-1]
    return Relation(
        sources=sources,
        basis=basis,
        bias=bias,
        inner=inner,
        triangle=triangle,
        rows=next_rank.rows,
        outer=torch.linalg.qr(next_rank.rows.T)[0],
        splits=(low_rank, next_rank),
        layers=(first, second),
    )


# ---------------------------------------------------------------------------------------- one round
def _round(
    relation: Relation, low_rank: LowRank, state: Found, *, effort: int, generator: torch.Generator | None
) -> Found:
    """Walk from fresh starts in what is left of the two spaces, finish, judge and merge."""
    inner, outer = _deflated(relation, state) if effort % 3 < 2 else (relation.inner, relation.outer)
    missing = relation.rows.shape[0] - len(state.misfit)
    count = max(FEWEST_STARTS, int(missing * starts_per_sample(inner.shape[1] / inner.shape[0])))
    small_inner, small_outer = inner.to(torch.float32), outer.to(torch.float32)
    start = torch.randn(inner.shape[1], count, generator=generator).to(inner.device)
    walkers = walk(small_inner, small_outer, start.to(torch.float32), effort=effort)
    # similar samples count as one here: what is left out comes up once the other is deflated
    near = walkers[:, _distinct(small_inner, small_outer, walkers, 0.3 if state.rounds == 0 else 0.0)]
    near = pattern_newton(small_inner, small_outer, near, passes=8, steps=8 if effort == 0 else 24)
    near = near[:, _distinct(small_inner, small_outer, near, 1e-3)]
    in_full = relation.inner.T @ (inner @ near.to(torch.float64))
    new = _judge(relation, low_rank, in_full, generator)
    merged = _merge(relation, low_rank, state, *new)
    return replace(
        merged, candidates=small_inner @ walkers, rounds=state.rounds + 1, starts=state.starts + count
    )


def _deflated(relation: Relation, state: Found) -> tuple[Tensor, Tensor]:
    """Φ and Y of the samples not yet found: c ⟂ q_i, and p ⟂ the q_i of the next layer."""
    if len(state.misfit) == 0:
        return relation.inner, relation.outer
    inner, outer = relation.inner, relation.outer
    y = torch.relu(_forward(relation, _in_sources(relation, state.coefficients)))
    if not relation.crowded:
        directions = state.directions[:, ~state.directions[0].isnan()]
        left = relation.basis @ orthogonal_complement(directions)
        if relation.has_bias:
            left = torch.cat([left, relation.bias[:, None]], dim=1)
        inner = torch.linalg.qr(left)[0]
    if relation.layers[1].has_relu:
        directions = _next_directions(relation, y)
        outer = torch.linalg.qr(relation.rows.T @ orthogonal_complement(directions))[0]
    return inner, outer


def _distinct(inner: Tensor, outer: Tensor, walkers: Tensor, apart: float) -> Tensor:
    """Indices of walkers near a sample, best first, one of those that are closer than `apart`."""
    y = torch.relu(inner @ walkers)
    misfit = (y - outer @ (outer.T @ y)).norm(dim=0) / y.norm(dim=0)
    order = misfit.argsort()
    order = order[misfit[order] < NEAR]
    distance = torch.cdist(walkers[:, order].T, walkers[:, order].T, compute_mode="donot_use_mm_for_euclid_dist")
    earlier = torch.ones_like(distance, dtype=torch.bool).tril(-1)
    return order[~(earlier & (distance < apart)).any(dim=1)]


# ---------------------------------------------------------------------------------------- verdicts
def _judge(
    relation: Relation, low_rank: LowRank, candidates: Tensor, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Solve for the candidates exactly and keep the true samples: (c as columns (r, k), misfit (k,))."""
    inner, outer = relation.inner, relation.outer
    exact, shift = kicked_null_vectors(inner, outer, candidates, generator)
    direction = torch.linalg.solve_triangular(relation.triangle, exact, upper=True)
    c = direction[: relation.basis.shape[1]]
    y = torch.relu(inner @ exact)
    p = torch.linalg.lstsq(relation.rows.T, y).solution
    scale = _inverse_scale(relation, c, p)
    c, p, y = c / scale, p / scale, y / scale
    length = y.norm(dim=0)
    misfit = (y - outer @ (outer.T @ y)).norm(dim=0) / length
    allowed = MISFIT_MARGIN * _expected_misfit(relation, c, p, length)
    true = misfit < allowed.clamp_max(LARGEST_MISFIT)
    true &= (scale > 0) & (shift < NEAR / 2)
    if relation.has_bias:
        # the bias must come out with coefficient 1 under a scale that never saw it
        true &= (direction[-1] / scale - 1).abs() < 0.1
    return c[:, true], misfit[true]


def _inverse_scale(relation: Relation, c: Tensor, p: Tensor) -> Tensor:
    """What to divide c by: g = L Q 1 and c_i Q = e_i give c_i · Lᵀ g = 1, for each sample on its own.

    The same holds in the next layer, p_i · L₂ᵀ g₂ = 1, where layer 1 does not separate the samples. It is
    more precise than scaling β to 1, since β is a small part of z.
    """
    layer, low_rank, coefficients = (
        (relation.layers[1], relation.splits[1], p)
        if relation.crowded
        else (relation.layers[0], relation.splits[0], c)
    )
    return (low_rank.factor.T @ layer.bias_grad.to(torch.float64)) @ coefficients


def _expected_misfit(relation: Relation, c: Tensor, p: Tensor, length: Tensor) -> Tensor:
    """Misfit of a true sample that the rounding of the two gradients explains, per column.

    Entries of R and R₂ carry the noise of the gradients: it enters z as W E c and y as E₂ p.
    """
    noise, next_noise = (
        noise_per_entry(s.floor, layer.weight_grad.shape) for s, layer in zip(relation.splits, relation.layers)
    )
    exact_sources = relation.sources is not relation.splits[0].rows
    in_z = 0.0 if exact_sources else noise * relation.layers[0].weight.norm().to(torch.float64) * c.norm(dim=0)
    in_y = next_noise * relation.basis.shape[0] ** 0.5 * p.norm(dim=0)
    return (in_z + in_y) / length + precision(relation.layers[0].weight_grad.dtype)


# ---------------------------------------------------------------------------------------- bookkeeping
def _beginning(relation: Relation, low_rank: LowRank, known: Tensor | None) -> Found:
    r, b, m = relation.basis.shape[1], relation.rows.shape[0], relation.basis.shape[0]
    empty = relation.basis.new_empty
    state = Found(empty(0, r), empty(b, 0), empty(0), empty(m, 0), rounds=0, starts=0)
    if known is None or len(known) == 0:
        return state
    c = _in_sources(relation, known.to(relation.basis)).T
    y = torch.relu(_forward(relation, c.T))
    misfit = (y - relation.outer @ (relation.outer.T @ y)).norm(dim=0) / y.norm(dim=0)
    return _merge(relation, low_rank, state, c, misfit)


def _merge(relation: Relation, low_rank: LowRank, state: Found, c: Tensor, misfit: Tensor) -> Found:
    """Add what is new to what is found, and the directions as far as they follow."""
    old = _in_sources(relation, state.coefficients)
    order = misfit.argsort()
    together = torch.cat([old, c.T[order]])
    misfit = torch.cat([state.misfit, misfit[order]])
    z = _forward(relation, together)
    apart = torch.cdist(z.T, z.T) / z.norm(dim=0)
    fresh = ~(apart.tril(-1) + torch.triu(torch.ones_like(apart)) < SAME_SAMPLE).any(dim=1)
    together, misfit = together[fresh], misfit[fresh]
    z = z[:, fresh]
    if relation.crowded:
        directions = _next_directions(relation, torch.relu(z), keep_unknown=True)
    else:
        directions = dual_directions(low_rank.factor, together, z < 0)
    return replace(
        state, coefficients=_in_rows(relation, low_rank, together), directions=directions, misfit=misfit
    )


def _next_directions(relation: Relation, y: Tensor, keep_unknown: bool = False) -> Tensor:
    """q_i of the next layer, in the basis of its factor: the found samples pushed through it."""
    layer, low_rank = relation.layers[1], relation.splits[1]
    p = torch.linalg.lstsq(relation.rows.T, y).solution
    z = layer.weight.to(torch.float64) @ y + layer.bias.to(torch.float64)[:, None]
    directions = dual_directions(low_rank.factor, p.T, z < 0)
    return directions if keep_unknown else directions[:, ~directions[0].isnan()]


def _forward(relation: Relation, c: Tensor) -> Tensor:
    """z = M c + β as columns, from coefficients as rows."""
    return relation.basis @ c.T + relation.bias[:, None]


def _in_sources(relation: Relation, coefficients: Tensor) -> Tensor:
    """Coefficients in the rows of the split → coefficients in `sources`."""
    rows = relation.splits[0].rows
    return coefficients if relation.sources is rows else coefficients @ rows


def _in_rows(relation: Relation, low_rank: LowRank, c: Tensor) -> Tensor:
    """Coefficients in `sources` → coefficients in the rows of the split."""
    if relation.sources is low_rank.rows:
        return c
    return torch.linalg.lstsq(low_rank.rows.T, c.T).solution.T


def _past(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() > deadline
