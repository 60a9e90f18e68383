"""An attacked network together with the truth behind its gradients, which only a test may see."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spear_core import client
from spear_core.certificate.replay import replay
from spear_core.certificate.sharpen import sharpened
from spear_core.certificate.single import scale_confirmed, single_rows
from spear_core.client import data
from spear_core.client.networks import fully_connected
from spear_core.consistency.witness import blur, witness
from spear_core.model.layers import read_problem
from spear_core.problem import Problem
from spear_core.search import Later, Target
from spear_core.spear.low_rank import LowRank, split
from tests.core.zoo import seeded


@dataclass(frozen=True)
class Attacked:
    """What the server sees, and what it is after.

    Attributes:
        model: a ReLU network.
        inputs: the private batch, shape (b, n).
        labels: its classes, shape (b,).
        gradients: what the client sends.
        output_grads: (∂L/∂Z)ᵀ of the first layer, shape (b, m), by autograd.
    """

    model: nn.Sequential
    inputs: Tensor
    labels: Tensor
    gradients: dict[str, Tensor]
    output_grads: Tensor

    @property
    def problem(self) -> Problem:
        return read_problem(self.model, self.gradients)

    @property
    def low_rank(self) -> LowRank:
        return split(self.gradients["0.weight"], generator=seeded())

    @property
    def target(self) -> Target:
        return target_of(self.problem, self.low_rank)

    @property
    def zeros(self) -> Tensor:
        """Which entries of ∂L/∂Z are zero, shape (m, b)."""
        return self.output_grads.T == 0

    def directions(self, low_rank: LowRank) -> Tensor:
        """The true Q̄ for a split, unit columns in the order of the batch, shape (b, b)."""
        Q = low_rank.factor.T @ self.output_grads.T.to(torch.float64)
        return Q / Q.norm(dim=0)


def target_of(problem: Problem, low_rank: LowRank | None = None, batch_size: int = 0) -> Target:
    """What is attacked, with what later layers can say, as `attack.plan` makes it."""
    low_rank = low_rank or split(problem.attacked.weight_grad, generator=seeded())
    later = (
        Later(witness, blur, replay, sharpened, single_rows, scale_confirmed)
        if len(problem.layers) > 1
        else None
    )
    return Target(problem, low_rank, batch_size, later=later)


def attacked(inputs: Tensor, labels: Tensor, width: int = 100, depth: int = 6, seed: int = 0) -> Attacked:
    """A batch behind the gradients of a fresh network."""
    model = fully_connected(
        inputs.shape[1], width, depth, generator=seeded(1000 + seed), dtype=inputs.dtype
    ).to(inputs.device)
    z = model[0](inputs)
    (output_grads,) = torch.autograd.grad(F.cross_entropy(model[1:](z), labels), z)
    return Attacked(model, inputs, labels, client.gradients(model, inputs, labels), output_grads)


def gaussian(
    b: int,
    width: int = 100,
    n: int = 150,
    *,
    seed: int = 0,
    dtype=torch.float64,
    device="cpu",
    depth: int = 6,
) -> Attacked:
    """Unrelated samples: patterns as random as theory wants them."""
    generator = seeded(seed)
    inputs = torch.randn(b, n, generator=generator, dtype=dtype).to(device)
    labels = torch.randint(10, (b,), generator=generator).to(device)
    return attacked(inputs, labels, width, depth, seed)


def photos(
    b: int, width: int = 100, *, seed: int = 0, size: int = 16, dtype=torch.float32, **options
) -> Attacked:
    """Crops of real photographs."""
    batch = data.load("photos", b, size=size, generator=seeded(seed), dtype=dtype, **options)
    return attacked(batch.inputs, batch.labels, width, seed=seed)


def shifted(b: int, shift: int, *, seed: int = 0, size: int = 16, dtype=torch.float32) -> Tensor:
    """Crops of one photograph, each a pixel or two beside the last, flat sky included: near-duplicates."""
    photo = torch.from_numpy(data.photographs()[seed % len(data.photographs())].copy()).to(dtype) / 255
    generator = seeded(seed)
    top = int(torch.randint(photo.shape[0] - size, (), generator=generator))
    left = int(torch.randint(photo.shape[1] - size - b * shift, (), generator=generator))
    crops = [photo[top : top + size, left + i * shift :][:, :size].permute(2, 0, 1) for i in range(b)]
    rows = torch.stack(crops).flatten(1)
    return (rows - rows.mean()) / rows.std().clamp_min(1e-3)
