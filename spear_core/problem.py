"""What the honest-but-curious server sees of a network: consecutive linear layers and their gradients."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from spear_core.tolerances import precision


@dataclass(frozen=True)
class LinearLayer:
    """One `nn.Linear`, z = W y + β followed by an elementwise activation, as the server sees it.

    Attributes:
        weight_grad: ∂L/∂W, shape (m, n).
        bias_grad: ∂L/∂β, shape (m,).
        weight: W, shape (m, n).
        bias: β, shape (m,).
        activation: σ, applied elementwise to z; ReLU unless said otherwise. None after an output layer.
        name: dotted name in the model, for messages; empty where there is no model.
    """

    weight_grad: Tensor
    bias_grad: Tensor
    weight: Tensor
    bias: Tensor
    activation: Callable[[Tensor], Tensor] | None = torch.relu
    name: str = ""

    @property
    def has_relu(self) -> bool:
        """Whether σ is exactly ReLU, found by probing it: a module, a function and a method all count."""
        if self.activation is None:
            return False
        probe = torch.linspace(-8, 8, 65, dtype=torch.float64)
        return torch.equal(self.activation(probe.clone()), torch.relu(probe))


@dataclass(frozen=True)
class Problem:
    """The attacked layer and the chain that follows it, z₂ = W₂ σ(z₁) + β₂, z₃ = W₃ σ(z₂) + β₃ and so on.

    Attributes:
        layers: the attacked layer first. One layer is enough for SPEAR; two are enough for
            forward consistency; the last may be the output layer (`activation=None`).
        notes: what was noticed while reading the model and the gradients, in words.
        branches: whether something besides the next layer takes some σ(z), a residual for example. The
            forward relations hold all the same; back-propagation along the chain alone does not.
    """

    layers: tuple[LinearLayer, ...]
    notes: tuple[str, ...] = ()
    branches: bool = False

    @property
    def attacked(self) -> LinearLayer:
        """The layer whose inputs are to be recovered."""
        return self.layers[0]

    def weight_rounding(self, steps: int = 1) -> float:
        """What the rounding of the weights after every step leaves in their update, relative, of the worst layer."""
        worst = max(float(layer.weight.norm() / layer.weight_grad.norm()) for layer in self.layers)
        return precision(self.attacked.weight_grad.dtype) * steps**0.5 * worst
