"""Certificate (d): play the client on the recovered batch and compare the whole gradient, all layers.

The client's loss is not known, and need not be: whatever it is, it enters back-propagation as one vector
δ_i = ∂L/∂(output of sample i), which the output layer's gradients tell (`output_errors`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from spear_core.certificate.output_errors import OutputErrors, output_errors
from spear_core.certificate.passing import Pass, activate, forward
from spear_core.problem import Problem
from spear_core.tolerances import precision

KINK = 64.0  # rounding errors by which z may be off zero where rounding chose the side, of the layer's z
TURNED = 64  # units tried for it in each layer
TURN_PAYS = 0.5  # what is left of a row of ∂L/∂W when one is believed


@dataclass(frozen=True)
class Replay:
    """What the network would have sent for a batch.

    Attributes:
        loss: the errors of the output that it was played with, and the labels that they name.
        output_grads: ∂L/∂z of the attacked layer as back-propagation gives it, shape (b, m).
        residual: distance of the replayed gradients from the observed ones, relative, of the worst layer
            after the attacked one.
    """

    loss: OutputErrors
    output_grads: Tensor
    residual: float


def replay(problem: Problem, preactivations: Tensor, output_grads: Tensor | None = None) -> Replay | None:
    """Replay the client from the attacked layer's pre-activations on.

    Args:
        problem: layers from the attacked one to the output layer.
        preactivations: Z of all b samples, shape (b, m), float64.
        output_grads: ∂L/∂z of all samples as far as it is known, shape (b, m); see `output_errors`.

    Returns:
        None where the chain of layers does not reach the output or is not the only way there, or where the
        batch is larger than the output layer can tell apart (b > its inputs + 1).
    """
    layers = problem.layers
    if problem.branches or len(layers) < 2 or layers[-1].activation is not None:
        return None
    passed = forward(layers, preactivations)
    if len(passed.output) > passed.activations[-1].shape[1] + 1:
        return None
    loss = output_errors(passed, output_grads)
    residual, grads = _sent(passed, loss.values)
    return Replay(loss, grads, residual)


def _sent(passed: Pass, errors: Tensor) -> tuple[float, Tensor]:
    """Relative residual of the worst layer after the attacked one, and ∂L/∂z of the attacked one."""
    residual, grads, back = 0.0, errors, errors
    for at in range(len(passed.layers) - 1, 0, -1):
        layer, y = passed.layers[at], passed.activations[at - 1]
        missing = grads.T @ y - layer.weight_grad.to(y.dtype)
        if layer.activation is not None:
            _turn_over(passed, at, grads, back, missing)
        bias_missing = grads.sum(dim=0) - layer.bias_grad.to(y.dtype)
        residual = max(
            residual,
            float(missing.norm() / layer.weight_grad.norm()),
            float(bias_missing.norm() / layer.bias_grad.norm()),
        )
        back = grads @ layer.weight.to(y.dtype)
        grads = passed.slopes[at - 1] * back
    return residual, grads


def _turn_over(passed: Pass, at: int, grads: Tensor, back: Tensor, missing: Tensor) -> None:
    """Turn units of a layer over that rounding turned over in the client, in ∂L/∂z and in what it misses.

    Where z is zero to rounding, the client may have been on the other side of the kink. In a batch of hundreds there is
    such a unit in some layer, and with it one row of ∂L/∂W is off by far more than rounding.

    Args:
        passed: the pass.
        at: which layer.
        grads: ∂L/∂z, shape (b, m); changed in place.
        back: ∂L/∂σ(z), shape (b, m).
        missing: replayed − observed ∂L/∂W; changed in place.
    """
    layer, z, y = passed.layers[at], passed.preactivations[at], passed.activations[at - 1]
    size = z.abs() / z.square().mean().sqrt()
    turned = (activate(layer, -z)[1] - passed.slopes[at]) * back
    turned = torch.where(size <= KINK * precision(layer.weight_grad.dtype), turned, 0.0)
    candidates = turned.nonzero()
    nearest = size[candidates[:, 0], candidates[:, 1]].argsort()[:TURNED]
    for sample, unit in candidates[nearest].tolist():
        row = missing[unit] + turned[sample, unit] * y[sample]
        if row.norm() < TURN_PAYS * missing[unit].norm():
            missing[unit] = row
            grads[sample, unit] += turned[sample, unit]
