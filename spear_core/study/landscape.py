"""The misfit between two layers as a landscape over directions: the ground that forward consistency walks on.

c · Lᵀ g = 1 holds for the c_i of every sample on its own (`consistency.relation`), so a direction of c is
enough: with μ = Lᵀ g, z = M c + β is a positive multiple of N c, where N = M + β μᵀ has shape (m, b). The
directions form a circle for b = 2 and a sphere for b = 3. With N = Φ T, orthonormal Φ, the point
v = T c / ‖T c‖ stands for z = Φ v / |s|, s = μ · T⁻¹ v, and its height is the misfit
‖(I − Y Yᵀ) σ(z)‖ / ‖σ(z)‖. Where s < 0 no input lies: c · μ = 1 holds on the other side only.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice, pairwise

import torch
from torch import Tensor

from spear_core.certificate.backprop import forward
from spear_core.consistency.affine import Pair, Space, allowed
from spear_core.consistency.finish import gauss_newton, pattern_newton
from spear_core.consistency.relation import Relation, relate
from spear_core.consistency.smooth import MEMORY
from spear_core.consistency.walk import alternate, reflections
from spear_core.linalg import least_squares, misfit, orthonormal, units
from spear_core.problem import Problem
from spear_core.search import Target
from spear_core.spear.low_rank import LowRank, split

IN_CACHE = 4096  # directions whose misfit is computed at a time: twice as fast as all
FARTHEST = 4.0  # a start is at most so many times as far from zero as the nearest z with c · μ = 1
FINISH_PASSES, FINISH_STEPS = 15, 24
TINY = 1e-12  # share s below which a direction counts as one without an input


@dataclass(frozen=True, eq=False)
class Landscape:
    """Two layers' knowledge of one sample, seen through some of the m units.

    Attributes:
        relation: what the two layers say.
        units: positions of the units whose columns of ∂L/∂W₂ are seen.
    """

    relation: Relation
    units: Tensor

    def seeing(self, units: Tensor) -> "Landscape":
        """The landscape of a server that sees only these columns of the next layer's gradient."""
        return replace(self, units=units)

    @property
    def equations(self) -> int:
        """How many equations σ(z) ∈ 𝒴 are: m − b, or 0 where 𝒴 is everything."""
        return max(0, len(self.units) - self.relation.batch_size)

    @cached_property
    def _homogeneous(self) -> Tensor:
        """N = M + β μᵀ."""
        return self.relation.basis + self.relation.bias[:, None] * self.relation.means[0]

    @cached_property
    def _chart(self) -> tuple[Tensor, Tensor]:
        """Φ and T of all units: the coordinates do not depend on what is seen."""
        inner, triangle = torch.linalg.qr(self._homogeneous)
        return inner, triangle

    @property
    def _next_rows(self) -> Tensor:
        """R₂ on the seen units, shape (b, seen)."""
        return self.relation.splits[1].rows[:, self.units]

    @cached_property
    def _outer(self) -> Tensor:
        """Y on the seen units, orthonormal columns."""
        return orthonormal(self._next_rows.T)

    def directions(self, coefficients: Tensor) -> Tensor:
        """Coefficients c as rows, (k, b) → points v as unit columns, (b, k)."""
        return units(self._chart[1] @ coefficients.T)

    def unscaled(self, v: Tensor) -> Tensor:
        """T⁻¹ v, shape (b, k): the c of points v up to their lengths."""
        return torch.linalg.solve_triangular(self._chart[1], v, upper=True)

    def shares(self, v: Tensor) -> Tensor:
        """s = μ · T⁻¹ v, shape (k,): positive where there is an input."""
        return self.relation.means[0] @ self.unscaled(v)

    def coefficients(self, v: Tensor) -> Tensor:
        """Points v as columns → c as rows with c · μ = 1, shape (k, b); NaN where there is no input."""
        c, s = self.unscaled(v), self.shares(v)
        return torch.where(s > TINY, c / s, torch.nan).T

    def hidden(self, v: Tensor) -> Tensor:
        """z = Φ v / |s| as columns, shape (m, k)."""
        return self._chart[0] @ v / self.shares(v).abs().clamp_min(TINY)

    def misfit(self, v: Tensor) -> Tensor:
        """Distance of σ(z) from 𝒴 on the seen units, relative to its length, shape (k,).

        Zero where nothing can be told: no unit is seen, or all seen ones are silent.
        """
        if not self.equations:
            return v.new_zeros(v.shape[1])
        y = (self.relation.activation(self.hidden(part)[self.units]) for part in v.split(IN_CACHE, dim=1))
        return torch.cat([torch.where(part.any(dim=0), misfit(self._outer, part), 0) for part in y])


def landscape(problem: Problem, low_rank: LowRank | None = None) -> Landscape:
    """The landscape of an attacked layer and the one behind it; by default it makes the split, always the same.

    Raises:
        ValueError: no next layer, its rank is too low, or more samples than independent inputs.
    """
    low_rank = low_rank or split(problem.attacked.weight_grad, generator=torch.Generator().manual_seed(0))
    relation = relate(Target(problem, low_rank))
    if relation.overfull:
        raise ValueError(
            f"batch must not be larger than its rank {relation.basis.shape[1]}, got {relation.batch_size}"
        )
    return Landscape(relation, torch.arange(len(relation.bias), device=relation.bias.device))


def paths(ground: Landscape, start: Tensor, counts: Sequence[int]) -> Tensor:
    """Where walkers stand after so many steps of the search's own iteration, and after its finish.

    ReLU: `walk.alternate`, then `finish.pattern_newton`; any other activation:
    `walk.reflections`, then `finish.gauss_newton`, both of `consistency`; all on the seen units and with
    c · μ = 1. With no more than b units seen there is no 𝒴 to walk to, and all stay.

    They start at points v, unit columns (b, K), and are seen after `counts` steps, ascending, and after the finish:
    shape (len(counts) + 1, b, K).
    """
    if not ground.equations:
        return start.expand(len(counts) + 1, *start.shape)
    walk = _relu_paths if ground.relation.layers[0].has_relu else _smooth_paths
    return walk(ground, start, counts)


def _relu_paths(ground: Landscape, start: Tensor, counts: Sequence[int]) -> Tensor:
    inner, triangle = torch.linalg.qr(ground._homogeneous[ground.units])
    chart = ground._chart[1]

    def convert(points: Tensor, old: Tensor, new: Tensor) -> Tensor:
        return units(new @ torch.linalg.solve_triangular(old, points, upper=True))

    u, done, seen = convert(start, chart, triangle), 0, []
    for count in counts:
        u = alternate(inner, ground._outer, u, count - done)
        done = count
        seen.append(convert(u, triangle, chart))
    u = pattern_newton(inner, ground._outer, u, passes=FINISH_PASSES, steps=FINISH_STEPS)
    return torch.stack([*seen, convert(u, triangle, chart)])


def _smooth_paths(ground: Landscape, start: Tensor, counts: Sequence[int]) -> Tensor:
    relation, (mean, next_mean) = ground.relation, ground.relation.means
    M, bias, R2 = relation.basis[ground.units], relation.bias[ground.units], ground._next_rows
    before = Space.image(M, bias, allowed(mean))
    pair = Pair(relation.activation, before, Space.image(R2.T, torch.zeros_like(bias), allowed(next_mean)))

    def point(z: Tensor) -> Tensor:
        return ground.directions(least_squares(M, z - bias[:, None]).T)

    z = ground.hidden(start)[ground.units]
    z = before.project(z * (FARTHEST * before.offset.norm() / z.norm(dim=0)).clamp_max(1))
    walked, seen = reflections(pair, z, MEMORY), []
    for earlier, count in pairwise((-1, *counts)):
        *_, z = islice(walked, count - earlier)
        seen.append(start if count == 0 else point(z))
    u = gauss_newton(pair, before.coordinates(z), passes=FINISH_PASSES, dense=True)
    return torch.stack([*seen, point(before.at(u))])


def free_directions(problem: Problem, inputs: Tensor, relations: int = 1) -> list[int]:
    """In how many directions each sample could move without breaking k relations, to first order.

    The l-th relation says that y_l = σ(z_l) lies in the row space of ∂L/∂W_{l+1}, y_l = R_{l+1}ᵀ p_l. Its
    unknowns are c and p_1 … p_k, (k + 1) b numbers, and each relation gives m equations
    σ'(z_l) ∘ dz_l = R_{l+1}ᵀ dp_l with dz_1 = M dc and dz_l = W_l R_lᵀ dp_{l−1}.

    Args:
        problem: at least k + 1 layers.
        inputs: samples, which only the client knows, shape (b, n).
        relations: k.

    Returns:
        Unknowns minus independent equations, one number a sample; 0 where the sample is pinned down.

    Raises:
        ValueError: if there are too few layers.
    """
    if not 1 <= relations < len(problem.layers):
        raise ValueError(f"relations must be 1 to {len(problem.layers) - 1}, got {relations}")
    layers = problem.layers[: relations + 1]
    weights = [layer.weight.to(torch.float64) for layer in layers]
    spaces = [split(layer.weight_grad, len(inputs)).rows for layer in layers]
    z = inputs.to(torch.float64) @ weights[0].T + layers[0].bias.to(torch.float64)
    equations = []
    for number, slope in enumerate(forward(layers, z).slopes):
        before = slope[:, :, None] * (weights[number] @ spaces[number].T)
        after = -spaces[number + 1].T.expand(len(inputs), -1, -1)
        blocks = [torch.zeros_like(after)] * (relations + 1)  # of dc, dp_1 … dp_k
        blocks[number : number + 2] = (t / t.norm(dim=(1, 2), keepdim=True) for t in (before, after))
        equations.append(torch.cat(blocks, dim=2))
    jacobians = torch.cat(equations, dim=1)
    return [int(jacobians.shape[2] - rank) for rank in torch.linalg.matrix_rank(jacobians, rtol=1e-9)]
