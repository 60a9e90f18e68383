"""Coupled relations, second move: from near a sample to the sample, with its direction in every layer.

With the activation patterns fixed, a_j ∘ z_j = y_j is linear in all unknowns. A unit on the wrong side of its kink is
the equation without which the others fit: it is found by leaving each out (its squared residual over 1 − its leverage)
and turned over. The rest is the network itself: y_1 goes forward to the output, cross-entropy gives ∂L/∂(output) for
each label, and back-propagation gives ∂L/∂z_j = L_j q_j for all layers, without an unknown. Past b = m/2, zeros no
longer tell q.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from spear_core.certificate.passing import forward
from spear_core.coupled.chain import Chain, Space
from spear_core.coupled.equations import Equations
from spear_core.coupled.walk import stacked
from spear_core.tolerances import rounding_residual

TURNS = 12  # units that may be on the wrong side
NEAR = 0.1  # relative residual above which a candidate is near nothing
FITS = 1e-6  # below which no unit is on the wrong side


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
    """The sample near a walker, or None if there is none.

    Args:
        chain: the relations.
        spaces: of the k + 1 layers, float64.
        z: of one walker, weighted, on the graph of relu, shape (k, m).
        y: the same for the activations.
    """
    point = torch.cat([s.basis.T @ part for s, part in zip(spaces, stacked(z, y), strict=True)])
    equations = Equations(spaces, z > 0)
    for _ in range(TURNS):
        point = equations.nearest(point)
        residual, active = equations.residual(point), equations.active[0]
        y_1 = _activation(spaces, point, len(active)) / chain.weights[0]
        y_1 = torch.where(active, y_1, 0.0).clamp_min(0)
        misses = residual.norm() / (y_1.norm() * chain.weights.norm())
        if not misses < NEAR:
            return None
        sample = judge(chain, y_1)
        if sample is not None or misses < FITS:
            return sample
        equations.turn_suspect(residual)
    return None


def _activation(spaces: tuple[Space, ...], point: Tensor, m: int) -> Tensor:
    """Weighted y_1 at the coordinates of all spaces."""
    first, second = (s.basis.shape[1] for s in spaces[:2])
    return spaces[1].offset[:m] + spaces[1].basis[:m] @ point[first : first + second]


def judge(chain: Chain, y_1: Tensor) -> Sample | None:
    """The sample with activation y_1, if all relations hold and one label explains the gradients of all layers.

    Args:
        chain: the relations.
        y_1: shape (m,), float64, exactly zero where inactive.
    """
    tolerance = rounding_residual(max(part.noise for part in chain.splits))
    passed = forward(chain.layers, y_1[None])  # y_1 is its own relu, and so is its slope
    for part, y in zip(chain.splits[1:], passed.activations[: chain.relations], strict=True):
        rows = part.rows / part.singular_values[: part.batch_size, None]  # orthonormal
        if (y - y @ rows.T @ rows).norm() > tolerance * y.norm():
            return None
    output = passed.output
    errors = output.softmax(dim=1)[:, None] - torch.eye(output.shape[1], dtype=y.dtype, device=y.device)
    # for each label, the first layers' ∂L/∂z as columns
    found = [grads[0].T for grads in passed.back(errors)][::-1][: len(chain.splits)]
    inside = [part.factor.T @ g for part, g in zip(chain.splits, found, strict=True)]
    left = torch.stack(
        [
            (g - part.factor @ q).norm(dim=0) / g.norm(dim=0)
            for part, g, q in zip(chain.splits, found, inside, strict=True)
        ]
    ).amax(dim=0)
    label = int(left.argmin())  # a number of the host: it is asked for in every layer
    if not left[label] < tolerance:
        return None
    directions = torch.stack([q[:, label] for q in inside])
    return Sample(y_1, directions / directions.norm(dim=1, keepdim=True))
