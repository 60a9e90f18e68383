"""The misfit between two layers as a landscape over directions: the ground that forward consistency walks on.

c · Lᵀ g = 1 holds for the c_i of every sample on its own (`spear_core.consistency.relation`), so a direction of c is
enough: with μ = Lᵀ g, z = M c + β is a positive multiple of N c, where N = M + β μᵀ has shape (m, b). The
directions form a circle for b = 2 and a sphere for b = 3. With N = Φ T, orthonormal Φ, the point
v = T c / ‖T c‖ stands for z = Φ v / |s|, s = μ · T⁻¹ v, and its height is the misfit
‖(I − Y Yᵀ) σ(z)‖ / ‖σ(z)‖. Where s < 0 no input lies: c · μ = 1 holds on the other side only.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from spear_core.consistency.deflation import orthogonal_complement
from spear_core.consistency.finish import gauss_newton, pattern_newton
from spear_core.consistency.relation import Relation, relate, value_and_slope
from spear_core.consistency.smooth import MEMORY, PASSES
from spear_core.consistency.walk import alternate, reflect_affine
from spear_core.problem import Problem
from spear_core.spear.low_rank import LowRank, split

CHUNK = 4096  # directions whose misfit is computed at a time: a map of a sphere would fill the memory
FARTHEST = 4.0  # a start is at most so many times as far from zero as the nearest z with c · μ = 1
FINISH_STEPS = 24  # of conjugate gradients for one pattern, as the search takes where it found nothing new
TINY = 1e-12  # share s below which a direction counts as one without an input: what rounding leaves of zero
DEPENDENT = 1e-9  # singular value below which equations depend on each other, relative: well above rounding


@dataclass(frozen=True, eq=False)
class Landscape:
    """Two layers' knowledge of one sample, seen through some of the m units.

    Attributes:
        relation: what the two layers say, with bias β and rows R₂.
        basis: M = W Rᵀ, shape (m, b), R the rows of the split whatever basis of the inputs the relation uses.
        units: positions of the units whose columns of ∂L/∂W₂ are seen.
    """

    relation: Relation
    basis: Tensor
    units: Tensor

    def seeing(self, units: Tensor) -> "Landscape":
        """The landscape of a server that sees only these columns of the next layer's gradient."""
        return replace(self, units=units)

    @cached_property
    def means(self) -> tuple[Tensor, Tensor]:
        """μ = Lᵀ g, shape (b,), and the same for the next layer."""
        return self.relation.mean_gradients()

    @property
    def batch_size(self) -> int:
        """Number of samples b."""
        return self.basis.shape[1]

    @property
    def equations(self) -> int:
        """How many equations σ(z) ∈ 𝒴 are: m − b, or 0 where 𝒴 is everything."""
        return max(0, len(self.units) - self.batch_size)

    @cached_property
    def _scaled(self) -> Tensor:
        """N = M + β μᵀ, shape (m, b): z is a positive multiple of N c."""
        return self.basis + self.relation.bias[:, None] * self.means[0]

    @cached_property
    def _chart(self) -> tuple[Tensor, Tensor]:
        """Φ and T of all units: the coordinates do not depend on what is seen."""
        inner, triangle = torch.linalg.qr(self._scaled)
        return inner, triangle

    @cached_property
    def _outer(self) -> Tensor:
        """Y on the seen units, orthonormal columns."""
        outer: Tensor = torch.linalg.qr(self.relation.rows[:, self.units].T)[0]
        return outer

    def directions(self, coefficients: Tensor) -> Tensor:
        """Coefficients c as rows, (k, b) → points v as unit columns, (b, k)."""
        v = self._chart[1] @ coefficients.T
        return v / v.norm(dim=0)

    def shares(self, v: Tensor) -> Tensor:
        """s = μ · T⁻¹ v, shape (k,): positive where there is an input."""
        return self.means[0] @ torch.linalg.solve_triangular(self._chart[1], v, upper=True)

    def coefficients(self, v: Tensor) -> Tensor:
        """Points v as columns → c as rows with c · μ = 1, shape (k, b); NaN where there is no input."""
        c = torch.linalg.solve_triangular(self._chart[1], v, upper=True)
        s = self.means[0] @ c
        return torch.where(s > TINY, c / s, torch.nan).T

    def hidden(self, v: Tensor) -> Tensor:
        """z = Φ v / |s| as columns, shape (m, k)."""
        return self._chart[0] @ v / self.shares(v).abs().clamp_min(TINY)

    def misfit(self, v: Tensor) -> Tensor:
        """Distance of σ(z) from 𝒴 on the seen units, relative to its length, shape (k,).

        Zero where nothing can be told: no unit is seen, or all seen ones are silent.
        """
        return torch.cat([self._misfit(part) for part in v.split(CHUNK, dim=1)])

    def _misfit(self, v: Tensor) -> Tensor:
        y = self.relation.activation(self.hidden(v)[self.units])
        if not self.equations:
            return v.new_zeros(v.shape[1])
        left, length = (y - self._outer @ (self._outer.T @ y)).norm(dim=0), y.norm(dim=0)
        return torch.where(length > 0, left / length, 0)


def landscape(
    problem: Problem, low_rank: LowRank | None = None, *, generator: torch.Generator | None = None
) -> Landscape:
    """The landscape of an attacked layer and the one behind it.

    The split of the attacked layer's gradient is made here, from a generator, if it is not given.

    Raises:
        ValueError: no next layer, its rank is too low, or more samples than independent inputs.
    """
    generator = generator or torch.Generator().manual_seed(0)
    low_rank = low_rank or split(problem.attacked.weight_grad, generator=generator)
    relation = relate(problem, low_rank)
    if relation.crowded:
        raise ValueError(
            f"batch must not be larger than its rank {relation.basis.shape[1]}, got {relation.batch_size}"
        )
    basis = problem.attacked.weight.to(torch.float64) @ low_rank.rows.T
    return Landscape(relation, basis, torch.arange(len(basis), device=basis.device))


def paths(ground: Landscape, start: Tensor, counts: Sequence[int]) -> Tensor:
    """Where walkers stand after so many steps of the search's own iteration, and after its finish.

    ReLU: `walk.alternate`, then `finish.pattern_newton`; any other activation:
    `walk.reflect_affine`, then `finish.gauss_newton`; all on the seen units and with
    c · μ = 1. With no more than b units seen there is no 𝒴 to walk to, and all stay.

    Walkers start at points v, unit columns of shape (b, K); the counts of steps ascend.

    Returns:
        Points v as unit columns, shape (len(counts) + 1, b, K); the last after the finish.
    """
    if not ground.equations:
        return start.expand(len(counts) + 1, *start.shape)
    walk = _relu_paths if ground.relation.layers[0].has_relu else _smooth_paths
    return walk(ground, start, counts)


def _relu_paths(ground: Landscape, start: Tensor, counts: Sequence[int]) -> Tensor:
    inner, triangle = torch.linalg.qr(ground._scaled[ground.units])
    chart = ground._chart[1]

    def convert(points: Tensor, old: Tensor, new: Tensor) -> Tensor:
        moved = new @ torch.linalg.solve_triangular(old, points, upper=True)
        return moved / moved.norm(dim=0)

    u, done, seen = convert(start, chart, triangle), 0, []
    for count in counts:
        u = alternate(inner, ground._outer, u, count - done)
        done = count
        seen.append(convert(u, triangle, chart))
    u = pattern_newton(inner, ground._outer, u, passes=PASSES, steps=FINISH_STEPS)
    return torch.stack([*seen, convert(u, triangle, chart)])


def _smooth_paths(ground: Landscape, start: Tensor, counts: Sequence[int]) -> Tensor:
    # both spaces, through their points of c · μ = 1
    (c0, free), (p0, next_free) = map(_slice, ground.means)
    relation, units = ground.relation, ground.units
    M, bias, R2 = ground.basis[units], relation.bias[units], relation.rows[:, units]
    inner, triangle = torch.linalg.qr(M @ free)
    outer = torch.linalg.qr(R2.T @ next_free)[0]
    middle, offset = (M @ c0 + bias)[:, None], (R2.T @ p0)[:, None]
    centre, offset = middle - inner @ (inner.T @ middle), offset - outer @ (outer.T @ offset)
    pair = (relation.activation, centre, inner, outer, offset)

    def point(z: Tensor) -> Tensor:
        moves = torch.linalg.solve_triangular(triangle, inner.T @ (z - middle), upper=True)
        return ground.directions((c0[:, None] + free @ moves).T)

    # starts far away would take long
    z = ground.hidden(start)[units]
    z = z * (FARTHEST * centre.norm() / z.norm(dim=0)).clamp_max(1)
    z = centre + inner @ (inner.T @ (z - centre))
    # the iteration keeps a memory, so each count starts afresh
    ends = [reflect_affine(*pair, z, count, MEMORY) for count in counts]
    u = gauss_newton(*pair, inner.T @ (ends[-1] - centre), passes=PASSES, dense=True)
    seen = [start if count == 0 else point(end) for count, end in zip(counts, ends, strict=True)]
    return torch.stack([*seen, point(centre + inner @ u)])


def _slice(mean: Tensor) -> tuple[Tensor, Tensor]:
    """{c : c · μ = 1}: its point nearest to zero and a basis of its directions."""
    return mean / (mean @ mean), orthogonal_complement(mean[:, None])


def free_directions(problem: Problem, inputs: Tensor, relations: int = 1) -> list[int]:
    """In how many directions each sample could move without breaking k relations, to first order.

    The l-th relation says that y_l = σ(z_l) lies in the row space of ∂L/∂W_{l+1}, y_l = R_{l+1}ᵀ p_l. Its
    unknowns are c and p_1 … p_k, (k + 1) b numbers, and each relation gives m equations
    σ'(z_l) ∘ dz_l = R_{l+1}ᵀ dp_l with dz_1 = M dc and dz_l = W_l R_lᵀ dp_{l−1}.

    Takes the samples themselves, shape (b, n), which only the client knows.

    Returns:
        Unknowns minus independent equations, one number a sample; 0 where the sample is pinned down.

    Raises:
        ValueError: if there are not k + 1 layers.
    """
    if not 1 <= relations < len(problem.layers):
        raise ValueError(f"relations must be 1 to {len(problem.layers) - 1}, got {relations}")
    layers = problem.layers[: relations + 1]
    b = len(inputs)
    spaces = [split(layer.weight_grad, b).rows for layer in layers]
    y = inputs.to(torch.float64)
    slopes = []
    for layer in layers[:-1]:
        z = y @ layer.weight.to(torch.float64).T + layer.bias.to(torch.float64)
        assert layer.activation is not None, "another layer follows"
        y, slope = value_and_slope(layer.activation, z)
        slopes.append(slope)
    return [_free(problem, spaces, [slope[i] for slope in slopes]) for i in range(b)]


def _free(problem: Problem, spaces: list[Tensor], slopes: list[Tensor]) -> int:
    """Unknowns minus independent equations of one sample; each relation ties two neighbours of c, p_1 … p_k."""
    before = [
        slope[:, None] * (layer.weight.to(torch.float64) @ rows.T)
        for slope, layer, rows in zip(slopes, problem.layers, spaces)
    ]
    after = [rows.T for rows in spaces[1:]]
    # each block of norm one, so that one threshold serves all
    left, right = (
        torch.block_diag(*(block / block.norm() for block in blocks)) for blocks in (before, after)
    )
    b = len(spaces[0])
    jacobian = F.pad(left, (0, b)) - F.pad(right, (b, 0))
    return int(jacobian.shape[1] - torch.linalg.matrix_rank(jacobian, rtol=DEPENDENT))
