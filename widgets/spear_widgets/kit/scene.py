"""A client, its private batch, and what the server sees of it: the stage on which the explorers play.

The server's half is G, g, W, β. The client's half (batch, ∂L/∂Z, the true Q) is for comparison.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spear_core import client
from spear_core.client import data, networks
from spear_core.model.layers import read_problem
from spear_core.problem import LinearLayer, Problem
from spear_core.spear import low_rank
from spear_core.spear.low_rank import LowRank
from spear_core.spear.records import Forward
from spear_core.spear.sampling import live_rows
from spear_core.spear.zeros import zero_tolerance

DATA = (("photographs", "photos"), ("handwritten digits", "digits"), ("table of tumours", "breast_cancer"))
ACTIVATIONS = {"ReLU": nn.ReLU, "GELU": nn.GELU, "tanh": nn.Tanh}
SIDE = 32  # pixels of a photograph


@dataclass(frozen=True, eq=False)
class Scene:
    """One batch, one network, one gradient.

    Attributes:
        batch: the private batch.
        model: fully connected, `depth` linear layers.
    """

    batch: data.Batch
    model: nn.Sequential

    @cached_property
    def gradients(self) -> dict[str, Tensor]:
        """What the client sends."""
        return client.gradients(self.model, self.batch.inputs, self.batch.labels)

    @cached_property
    def problem(self) -> Problem:
        """What the server reads from the network and what the client sends."""
        return read_problem(self.model, self.gradients)

    @property
    def layer(self) -> LinearLayer:
        """The first layer as the server sees it."""
        first = self.model[0]
        assert isinstance(first, nn.Linear)
        return LinearLayer(
            self.gradients["0.weight"], self.gradients["0.bias"], first.weight.detach(), first.bias.detach()
        )

    @cached_property
    def low_rank(self) -> LowRank:
        """Step 1: the split of ∂L/∂W."""
        return low_rank.split(self.layer.weight_grad, generator=torch.Generator().manual_seed(0))

    @cached_property
    def forward(self) -> Forward:
        """The first layer in the row space of its gradient."""
        return Forward.of(self.low_rank, self.layer)

    @cached_property
    def preactivations(self) -> Tensor:
        """The client's Zᵀ, shape (b, m)."""
        with torch.no_grad():
            z: Tensor = self.model[0](self.batch.inputs)
        return z

    @cached_property
    def output_grads(self) -> Tensor:
        """The client's (∂L/∂Z)ᵀ, shape (b, m): the loss is a mean over samples, so row i is sample i's own."""
        z = self.preactivations.detach().requires_grad_()
        loss = F.cross_entropy(self.model[1:](z), self.batch.labels)
        return torch.autograd.grad(loss, z)[0]

    @property
    def batch_size(self) -> int:
        """b, the number of samples."""
        return len(self.batch.labels)

    @cached_property
    def true_q(self) -> Tensor:
        """The one Q with ∂L/∂Z = L Q, shape (b, b), float64. Only the client can compute it like this."""
        return self.low_rank.factor.T @ self.output_grads.T.to(torch.float64)

    @cached_property
    def true_directions(self) -> Tensor:
        """The q_i as unit columns, each in the half-space of positive last coordinate, shape (b, b)."""
        Q = self.true_q / self.true_q.norm(dim=0)
        return Q * torch.where(Q[-1] < 0, -1.0, 1.0)

    @cached_property
    def live(self) -> Tensor:
        """The rows of L, by number, of units that some sample activates."""
        return live_rows(self.low_rank.factor)

    def live_rows(self) -> dict[str, Tensor]:
        """The live rows of L, and what a page needs to say which entries of L q are zero, see `zero.js`."""
        low_rank = self.low_rank
        return {
            "rows": low_rank.factor[self.live],
            "noise": (low_rank.row_noise * low_rank.zero_margin)[self.live],
            "singular": low_rank.singular_values[: low_rank.batch_size],
        }

    def zero(self, directions: Tensor) -> Tensor:
        """Which entries of L q are zero to rounding, for unit columns q, shape (m, k)."""
        return (self.low_rank.factor @ directions).abs() <= zero_tolerance(self.low_rank, directions)


@lru_cache(maxsize=16)
def scene(
    name: str = "photos",
    batch_size: int = 4,
    width: int = 200,
    seed: int = 3,
    depth: int = 4,
    activation: str = "ReLU",
) -> Scene:
    """Make a scene; the same arguments give the same one.

    Args:
        name: of the data, see `spear_core.client.data.load`.
        batch_size: b.
        width: m.
        seed: of data and weights.
        depth: number of linear layers.
        activation: between them, one of `ACTIVATIONS`.
    """
    batch = _batch(name, batch_size, seed)
    return Scene(batch, _network(batch.inputs.shape[1], width, depth, batch.classes, seed, activation))


@lru_cache(maxsize=16)
def _batch(name: str, batch_size: int, seed: int) -> data.Batch:
    return data.load(name, batch_size, size=SIDE, generator=torch.Generator().manual_seed(seed))


def of_batch(batch: data.Batch, *, width: int = 200, seed: int = 3, depth: int = 4) -> Scene:
    """The scene of a given batch."""
    return Scene(batch, _network(batch.inputs.shape[1], width, depth, batch.classes, seed, "ReLU"))


@lru_cache(maxsize=8)
def _network(inputs: int, width: int, depth: int, classes: int, seed: int, activation: str) -> nn.Sequential:
    generator = torch.Generator().manual_seed(1000 + seed)
    return networks.fully_connected(
        inputs, width, depth, classes, activation=ACTIVATIONS[activation], generator=generator
    )


def silent_units(inputs: Tensor, units: int, generator: torch.Generator) -> Tensor:
    """Which units of a fresh layer are silent for which input, shape (b, units)."""
    model = networks.fully_connected(inputs.shape[1], units, 2, generator=generator)
    with torch.no_grad():
        silent: Tensor = model[0](inputs) <= 0
    return silent
