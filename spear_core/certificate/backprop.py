"""The client's own pass through the layers after the attacked one: forward, and back with the errors of the output."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from spear_core.linalg import value_and_slope
from spear_core.problem import LinearLayer
from spear_core.search import Target


@dataclass(frozen=True)
class Pass:
    """What the layers of a chain see of b samples.

    Attributes:
        layers: the attacked one, and those after it up to the output.
        preactivations: z of each layer, shapes (b, its width); the last is the output.
        activations: σ(z) of all layers but the last, each the inputs of the next.
        slopes: σ'(z) of the same.
    """

    layers: tuple[LinearLayer, ...]
    preactivations: tuple[Tensor, ...]
    activations: tuple[Tensor, ...]
    slopes: tuple[Tensor, ...]

    @property
    def output(self) -> Tensor:
        """Of the network, shape (b, classes)."""
        return self.preactivations[-1]

    @property
    def fewest(self) -> Tensor:
        """How many units are active in the layer where there are fewest, the output aside, shape (b,)."""
        return torch.stack([(slopes != 0).sum(dim=1) for slopes in self.slopes]).amin(dim=0)

    def back(self, errors: Tensor) -> Iterator[Tensor]:
        """∂L/∂z of all layers, from the output's own, the errors, (…, b, classes), to the attacked one's, (…, b, m)."""
        yield errors
        for layer, slope in zip(self.layers[:0:-1], self.slopes[::-1], strict=True):
            errors = slope * (errors @ layer.weight.to(errors.dtype))
            yield errors


def forward(layers: tuple[LinearLayer, ...], preactivations: Tensor) -> Pass:
    """The forward pass from the attacked layer's z on, shape (b, m), in the dtype of z."""
    z, y, slopes = [preactivations], [], []
    for before, layer in pairwise(layers):
        value, slope = activate(before, z[-1])
        y.append(value)
        slopes.append(slope)
        z.append(value @ layer.weight.to(value.dtype).T + layer.bias.to(value.dtype))
    return Pass(layers, tuple(z), tuple(y), tuple(slopes))


def in_row_space(target: Target) -> tuple[tuple[LinearLayer, ...], Tensor]:
    """The layers in float64, the first one with W V for W, V an orthonormal basis of the rows R = S Vᵀ; and S.

    So inputs are c in V, which is S times c in R, and have b entries instead of n.
    """
    low_rank, layers = target.low_rank, target.problem.layers
    scale = low_rank.singular_values[: low_rank.batch_size]
    weight = (target.forward.weights / scale[:, None]).T
    first = replace(layers[0], weight=weight, weight_grad=low_rank.factor * scale)
    tensors = ("weight_grad", "bias_grad", "weight", "bias")
    exact = (
        replace(layer, **{name: getattr(layer, name).to(torch.float64) for name in tensors})
        for layer in (first, *layers[1:])
    )
    return tuple(exact), scale


def label_errors(output: Tensor, labels: Tensor) -> Tensor:
    """Softmax − one-hot: ∂L/∂output of cross-entropy, one sample at a time, shape (b, classes)."""
    return output.softmax(dim=1) - one_hot(labels, output.shape[1])


def activate(layer: LinearLayer, z: Tensor) -> tuple[Tensor, Tensor]:
    """σ(z) and σ'(z) of a layer."""
    if layer.activation is None:
        return z, torch.ones_like(z)
    return value_and_slope(layer.activation, z)
