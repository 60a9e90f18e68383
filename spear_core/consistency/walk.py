"""Forward consistency, first move: walkers from random starts run down to the samples.

Two ways to seek a point that two sets share, given the projections onto them (Bauschke, Combettes, Luke
2002): alternating projections, cheap and sure while b is a small part of m, and relaxed averaged alternating
reflections (RAAR; Luke 2005, the difference map's cousin), which walks out of the false minima that trap the
former from b ≈ m/4 on. Letters as in `masked_least_squares`.
"""

import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from spear_core.consistency.affine import Pair
from spear_core.linalg import units, value_and_slope

NEVER = float("inf")
NEAR = 0.15  # misfit below which a walker sits in the basin of a sample, and is worth a finish
FEWEST_STARTS = 32  # of a round, however few samples are missing
COVERAGE = 0.015  # walkers per missing sample times (b/m)²
REFLECT_FROM = 0.15  # share b/m up to which alternating projections are the cheaper walk
LIMIT = 0.475  # share b/m near which one relation stops pinning down a sample
RELAXATION = 1.9  # just below 2, where the relaxed projection would stop contracting
TILT = 2**0.5 - 1  # a unit is active if z > −(√2 − 1) y: there both branches of relu's graph are equally near
SHORTEST_WALK, LONGEST_WALK = 20, 4000
PROJECTIONS = (
    450  # steps of alternating projections times m/b; measured: nine in ten walkers have arrived by then
)
REFLECTIONS = (
    4  # steps of reflections times the square of the room that is left below `LIMIT`; measured likewise
)
LEAST_ROOM = 0.03  # what counts as room beyond it
FORGETTING = 0.4  # 1 − κ over that room: the narrower, the longer a memory it takes
GLANCE = 16  # steps between two looks at the clock


def walk(inner: Tensor, outer: Tensor, start: Tensor, *, effort: int = 0, deadline: float = NEVER) -> Tensor:
    """From random starts, columns u (r, K), to unit columns u near samples, by the method that suits b/m.

    `effort` doubles the number of steps each time it grows by one, four times at most; after the deadline, in
    `time.monotonic()`, no further step is taken.
    """
    start = units(start)
    longer = 2 ** min(effort, 4)
    share = crowding(inner, outer)
    if share < REFLECT_FROM:
        steps = int(max(SHORTEST_WALK, PROJECTIONS * share) * longer)
        return alternate(inner, outer, start, steps, deadline)
    room = max(LIMIT - share, LEAST_ROOM)
    steps = int(min(REFLECTIONS / room**2 * longer, LONGEST_WALK))
    return reflect(inner, outer, start, steps, 1 - FORGETTING * room, deadline)


def _until(deadline: float, steps: int) -> Iterator[int]:
    for step in range(steps):
        if step % GLANCE == 0 and time.monotonic() > deadline:
            return
        yield step


def crowding(inner: Tensor, outer: Tensor) -> float:
    """Share of the m dimensions that the two spaces take up, b/m where they are of one size."""
    return (inner.shape[1] + outer.shape[1]) / (2 * inner.shape[0])


def starts_per_sample(share: float) -> float:
    """How many walkers per missing sample: many where they are cheap, few where deflation pays first."""
    return min(4.0, COVERAGE / share**2)


def alternate(inner: Tensor, outer: Tensor, start: Tensor, steps: int, deadline: float = NEVER) -> Tensor:
    """Alternating projections between {z ∈ span Φ} and {relu(z) ∈ 𝒴}, all walkers in step.

    With z = Φ u, h = relu(z) and y = relu(Y Yᵀ h), one step moves the active half of z to y and leaves the
    inactive half: u ← u + 1.9 Φᵀ (y − h), normalised, since the relation is homogeneous. The inner relu is
    what makes it converge from anywhere: y stays a vector of activations.
    """
    u = start
    for _ in _until(deadline, steps):
        h = torch.relu(inner @ u)
        y = torch.relu(outer @ (outer.T @ h))
        u = torch.addmm(u, inner.T, y - h, alpha=RELAXATION)
        u = units(u)
    return u


def reflect(
    inner: Tensor, outer: Tensor, start: Tensor, steps: int, memory: float, deadline: float = NEVER
) -> Tensor:
    """RAAR on the pair w = (z, y): A = span Φ × 𝒴, B = the graph of relu, unit by unit.

    w ← κ (w + P_B(2 P_A w − w) − P_A w) + (1 − κ) P_A w. The memory κ → 1 (Douglas–Rachford) never settles
    in a false minimum and converges slowly; κ = ½ alternates projections. Samples attract best just below 1.
    """
    z = inner @ start
    y = torch.relu(z)
    for _ in _until(deadline, steps):
        z_linear, y_linear = inner @ (inner.T @ z), outer @ (outer.T @ y)
        z_graph, y_graph = nearest_on_relu(2 * z_linear - z, 2 * y_linear - y)
        z = torch.lerp(z_linear, z + z_graph - z_linear, memory)
        y = torch.lerp(y_linear, y + y_graph - y_linear, memory)
        length = torch.hypot(torch.linalg.vector_norm(z, dim=0), torch.linalg.vector_norm(y, dim=0))
        z, y = z / length, y / length
    return units(inner.T @ z)


def nearest_on_relu(z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The point of {(z, relu(z))} nearest to each (z, y): on the diagonal, or with y = 0 and z ≤ 0."""
    active = z > -TILT * y
    y = torch.where(active, (z + y) / 2, 0).clamp_min(0)
    return torch.where(active, y, z.clamp_max(0)), y


def reflect_affine(pair: Pair, start: Tensor, steps: int, memory: float, deadline: float = NEVER) -> Tensor:
    """RAAR as in `reflect` for any σ, between (z₀ + span Φ) × (y₀ + span Y) and the graph of σ; z as columns."""
    walked = reflections(pair, start, memory)
    z = next(walked)
    for _ in _until(deadline, steps):
        z = next(walked)
    return z


def reflections(pair: Pair, start: Tensor, memory: float) -> Iterator[Tensor]:
    """Where the walkers of `reflect_affine` are after 0, 1, 2, … steps."""
    z, y = start, pair.sigma(start)
    while True:
        z_affine, y_affine = pair.before.project(z), pair.after.project(y)
        yield z_affine
        z_graph, y_graph = nearest_on_graph(pair.sigma, 2 * z_affine - z, 2 * y_affine - y, z_affine)
        z = torch.lerp(z_affine, z + z_graph - z_affine, memory)
        y = torch.lerp(y_affine, y + y_graph - y_affine, memory)


def nearest_on_graph(
    sigma: Callable[[Tensor], Tensor], z: Tensor, y: Tensor, start: Tensor
) -> tuple[Tensor, Tensor]:
    """The point of {(s, σ(s))} near each (z, y), by one Gauss–Newton step on (s − z)² + (σ(s) − y)².

    More steps would come nearer, but the walk that repeats this arrives in as many of its own.
    """
    value, slope = value_and_slope(sigma, start)
    s = start - ((start - z) + (value - y) * slope) / (1 + slope * slope)
    return s, sigma(s)
