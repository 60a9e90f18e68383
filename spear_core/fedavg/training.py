"""The simulated client: local training of a chain of layers, seen from the row space of its first update.

The inputs are x = c Vᵀ, V an orthonormal basis of the row space, and all that training ever adds to W₁ lies in the
same space. So the first layer may be replaced by W₁ V (m×b), and the client be replayed with b inputs instead of n.
Nor are weights written down: after t steps they are W₀ − η Σ_s D_sᵀ Y_s, thin products that are applied one
after the other: of every layer D, shape (…, T b, m), and Y, shape (…, T b, n), so that its update is η Dᵀ Y.

Inputs are c in the basis V, one a row; a schedule, shape (…, T, b), is the weight of every sample in every step.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from spear_core.certificate.backprop import activate, forward, in_row_space
from spear_core.certificate.output_errors import label_cosines
from spear_core.client.messages import minibatches
from spear_core.errors import InputError
from spear_core.problem import LinearLayer
from spear_core.search import Target

History = list[tuple[Tensor, Tensor]]  # D and Y of every layer: its weights are now W − η Dᵀ Y


@dataclass(frozen=True)
class LocalTraining:
    """What the server told its clients to do.

    Attributes:
        steps: T, local steps.
        lr: η.
        batch_size: samples per step; None for all.
    """

    steps: int
    lr: float
    batch_size: int | None = None

    def schedule(self, order: Tensor) -> Tensor:
        """1 / (size of the minibatch), or 0, for samples in the order in which every epoch goes through them, (b,)."""
        weights = torch.zeros(self.steps, len(order), dtype=torch.float64, device=order.device)
        for row, chosen in zip(weights, islice(minibatches(len(order), self.batch_size), self.steps)):
            row[order[chosen.to(order.device)]] = 1 / len(chosen)
        return weights

    @property
    def is_gradient(self) -> bool:
        """Whether the update is a gradient times η: one step on all samples."""
        return self.steps == 1 and self.batch_size is None


def local_training(steps: int | None, lr: float | None, batch_size: int | None) -> LocalTraining | None:
    """The options of `invert` as one record; None where they say that a plain gradient was sent.

    Raises:
        InputError: naming the option, what it must be and what it is.
    """
    for name, count in (("local_steps", steps), ("local_batch_size", batch_size)):
        if count is not None and (
            not isinstance(count, int | np.integer) or isinstance(count, bool) or count < 1
        ):
            raise InputError(f"{name} must be a whole number from 1 on, or None, got {count!r}")
    if steps is None:
        if lr is not None or batch_size is not None:
            raise InputError("local_steps must be given with lr and local_batch_size, got None")
        return None
    if not isinstance(lr, int | float | np.number) or isinstance(lr, bool) or not 0 < lr < float("inf"):
        raise InputError(f"lr must be a positive number where local_steps is given, got {lr!r}")
    return LocalTraining(int(steps), float(lr), None if batch_size is None else int(batch_size))


@dataclass(frozen=True)
class Client:
    """The network before training, in the coordinates of the row space, and the update that it sent.

    Attributes:
        layers: float64, with updates in the place of gradients; the first one with W₁ V in the place of W₁.
        scale: singular values S of the first update: c in V is S times c in the rows R = S Vᵀ.
        rounding: relative size of what the rounding of the client's own weights leaves in the update.
        lr: η.
    """

    layers: tuple[LinearLayer, ...]
    scale: Tensor
    rounding: float
    lr: float

    @classmethod
    def of(cls, target: Target, training: LocalTraining) -> "Client":
        """The client that trained on this target's layers, whose "gradients" are the update."""
        return cls(*in_row_space(target), target.problem.weight_rounding(training.steps), training.lr)

    @property
    def weights(self) -> list[Tensor]:
        """W₁ V, W₂, W₃ … before training."""
        return [layer.weight for layer in self.layers]

    def label_cosines(self, inputs: Tensor, output_grads: Tensor) -> Tensor:
        """How well each class's error, sent back, matches a sample's η Σ_t ∂L/∂z of the first layer, (classes, b)."""
        played = forward(self.layers, inputs @ self.layers[0].weight.T + self.layers[0].bias)
        return label_cosines(played, output_grads)

    def turned(self) -> "Client":
        """The client that sent the update with the other sign."""
        opposite = (
            {name: -getattr(one, name) for name in ("weight_grad", "bias_grad")} for one in self.layers
        )
        return replace(self, layers=tuple(replace(one, **grads) for one, grads in zip(self.layers, opposite)))

    def train(
        self,
        inputs: Tensor,
        labels: Tensor,
        schedule: Tensor,
        past: History | None = None,
        *,
        look: Callable[[int, int, Tensor], Tensor] | None = None,
    ) -> History:
        """Local training on cross-entropy, of one client or of several with schedules of their own.

        `past` is what the steps before these left behind, of one client; `look` sees step, layer and z of every hidden
        layer, and returns the z to go on with.
        """
        # before the first step: thin products of no rows
        targets = F.one_hot(labels, len(self.layers[-1].bias)).to(inputs)
        clients = schedule.shape[:-2]
        history = past or [(weight.new_zeros(0, len(weight)), weight[:0]) for weight in self.weights]
        history = [(D.expand(*clients, *D.shape), Y.expand(*clients, *Y.shape)) for D, Y in history]
        for step, weights in enumerate(schedule.unbind(dim=-2)):
            # forward and back through the weights as they are by now
            values, slopes = [inputs.expand(*clients, *inputs.shape)], []
            for number, (layer, (D, Y)) in enumerate(zip(self.layers, history)):
                y = values[-1]
                z = y @ layer.weight.T + layer.bias
                z = z - self.lr * ((y @ Y.mT) @ D + D.sum(dim=-2, keepdim=True))
                if number < len(self.layers) - 1:
                    value, slope = activate(layer, look(step, number, z) if look else z)
                    values.append(value)
                    slopes.append(slope)
            grads = [(z.softmax(dim=-1) - targets) * weights[..., None]]
            for weight, (D, Y), slope in zip(self.weights[:0:-1], history[:0:-1], slopes[::-1]):
                grads.append((grads[-1] @ weight - self.lr * ((grads[-1] @ D.mT) @ Y)) * slope)
            # the thin product of this step
            history = [
                (torch.cat([D, grad], dim=-2), torch.cat([Y, value], dim=-2))
                for (D, Y), grad, value in zip(history, grads[::-1], values)
            ]
        return history

    def residuals(self, history: History) -> list[float]:
        """Relative distance of the replayed update from the one that was sent, the worst tensor of each layer."""
        found = []
        for (D, Y), layer in zip(history, self.layers):
            weight = (self.lr * D.T @ Y - layer.weight_grad).norm() / layer.weight_grad.norm()
            bias = (self.lr * D.sum(dim=0) - layer.bias_grad).norm() / layer.bias_grad.norm()
            found.append(float(torch.maximum(weight, bias)))
        return found
