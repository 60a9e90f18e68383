"""Coupled relations: what the gradients of k + 1 consecutive layers say about one sample together.

Layer j of a ReLU network has G_j = L_j R_j, and its input y_{j−1} = R_jᵀ p_j with p_1 = c. So one vector p_j of b
unknowns gives both y_{j−1} and z_j = W_j y_{j−1} + β_j, and p_j · L_jᵀ g_j = 1, g_j the bias gradient. Between the
layers stands y_j = relu(z_j): k m equations for (k + 1) (b − 1) unknowns, so the limit of one relation, b = m/2, moves
to k m/(k + 1).
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from spear_core.consistency.affine import Space, allowed
from spear_core.errors import InputError
from spear_core.problem import LinearLayer
from spear_core.search import Target
from spear_core.spear.low_rank import LowRank

PROBES = 16  # gaussian inputs that tell how large the z of each layer are
DEEPER = 1.5  # weight of a layer's coordinates over those of the layer before


@dataclass(frozen=True)
class Chain:
    """k coupled relations and the layers behind them.

    Attributes:
        layers: from the attacked layer to the output.
        splits: of the gradients of the first k + 1 layers, rank b each.
        means: L_jᵀ g_j for each of these, shape (b,).
        weights: what the coordinates of z_j and y_j are multiplied by, so that all layers count, shape (k,).
        size: typical length of the weighted z, shape (k,).
    """

    layers: tuple[LinearLayer, ...]
    splits: tuple[LowRank, ...]
    means: tuple[Tensor, ...]
    weights: Tensor
    size: Tensor

    @property
    def relations(self) -> int:
        """How many relations are coupled, k."""
        return len(self.weights)

    @property
    def batch_size(self) -> int:
        """Number of samples b."""
        return self.splits[0].batch_size

    @classmethod
    def of(cls, target: Target, relations: int) -> "Chain":
        """Couple as many relations as asked for, or fewer where a layer's gradient has not rank b.

        Raises:
            InputError: if not even one relation holds.
        """
        layers, b = target.problem.layers, target.low_rank.batch_size
        splits = [target.low_rank]
        for place, layer in enumerate(layers[1 : relations + 1], start=1):
            if min(layer.weight_grad.shape) < b or len(layer.bias) != len(layers[0].bias):
                break
            later = target.splits.of(place, expected=b)
            if later.batch_size != b:
                break
            splits.append(later)
        k = len(splits) - 1
        if k < 1:
            raise InputError(f"the next layer's gradient must have rank {b}, the attacked layer's")
        pairs = zip(splits, layers, strict=False)
        means = tuple(part.factor.T @ layer.bias_grad.to(torch.float64) for part, layer in pairs)
        sizes = _typical_sizes(layers[:k])
        weights = sizes[0] / sizes * DEEPER ** torch.arange(k, dtype=sizes.dtype, device=sizes.device)
        return cls(layers, tuple(splits), means, weights, weights * sizes)

    @cached_property
    def _images(self) -> list[tuple[Tensor, Tensor]]:
        """Of each layer A and a with A p + a = (y_{j−1}, z_j), one above the other, as far as relations take them."""
        images = []
        for j, part in enumerate(self.splits):
            maps, constants = [], []
            if j > 0:
                maps.append(self.weights[j - 1] * part.rows.T)
                constants.append(torch.zeros_like(maps[0][:, 0]))
            if j < self.relations:
                weight, bias = (t.to(torch.float64) for t in (self.layers[j].weight, self.layers[j].bias))
                maps.append(self.weights[j] * (weight @ part.rows.T))
                constants.append(self.weights[j] * bias)
            images.append((torch.cat(maps), torch.cat(constants)))
        return images

    def spaces(self, found: tuple[Tensor, ...]) -> tuple[Space, ...]:
        """The affine space of (y_{j−1}, z_j) of each of the k + 1 layers, for the samples that are missing.

        They have p ⟂ q for the directions q of the found samples in each layer, shape (b, f).
        """
        layers = zip(self._images, self.means, found, strict=True)
        return tuple(Space.image(*image, allowed(mean, q)) for image, mean, q in layers)


def _typical_sizes(layers: tuple[LinearLayer, ...]) -> Tensor:
    """Length of z in each layer for standardised inputs, shape (k,)."""
    n = layers[0].weight.shape[1]
    y = torch.randn(n, PROBES, generator=torch.Generator().manual_seed(0)).to(layers[0].weight)
    sizes = []
    for layer in layers:
        z = layer.weight @ y + layer.bias[:, None]
        sizes.append(z.norm(dim=0).mean())
        y = torch.relu(z)
    return torch.stack(sizes).to(torch.float64)
