"""Certificate (d): play the client on the recovered batch and compare the whole gradient, all layers.

The client's loss is not known, and need not be: whatever it is, it enters back-propagation as one vector
δ_i = ∂L/∂(output of sample i), which the output layer's gradients tell (`output_errors`).
"""

from functools import partial

import torch
from torch import Tensor

from spear_core.certificate.backprop import Pass, activate, forward
from spear_core.certificate.output_errors import output_errors
from spear_core.certificate.record import Replay
from spear_core.search import Target
from spear_core.spear.low_rank import LowRank
from spear_core.tolerances import SPARE_EQUATIONS, precision

KINK = 64.0  # rounding errors by which z may be off zero where rounding chose the side, of the layer's z
TURNED = 64  # units tried for it in each layer
TURN_PAYS = 0.5  # what is left of a row of ∂L/∂W when one is believed
OTHER_ANGLE = 1e-2  # least sine of the second angle, and largest ratio of the first to it


def replay(target: Target, preactivations: Tensor, output_grads: Tensor | None = None) -> Replay | None:
    """Replay the client from Z on, all b samples as rows, shape (b, m), float64; for `search.Later`.

    None where the chain of layers does not reach the output or is not the only way there, or where the batch is larger
    than the output layer can tell apart (b > its inputs + 1). For ∂L/∂z, shape (b, m), see `output_errors`.
    """
    layers = target.problem.layers
    if target.problem.branches or len(layers) < 2 or layers[-1].activation is not None:
        return None
    passed = forward(layers, preactivations)
    if len(passed.output) > passed.activations[-1].shape[1] + 1:
        return None
    loss = output_errors(passed, output_grads)
    residual, grads = _sent(passed, loss.values)
    return Replay(
        loss, grads, passed.fewest, residual, only=partial(told_by_patterns, passed, target.low_rank)
    )


def told_by_patterns(passed: Pass, low_rank: LowRank) -> Tensor:
    """How firmly back-propagation through its activation patterns holds each direction: a sine, shape (k,).

    Whatever the loss, ∂L/∂z = A δ with A from the patterns of all layers and δ the error of the output: m − b
    equations, A δ ∈ span L, for as many unknowns as there are outputs. The second smallest angle between span A and
    span L tells whether they leave a second direction; of samples that share all patterns they do. Its sine is given
    where it does, and the smallest angle is none; elsewhere 0. Zeros alone tell a direction only while b < m/2.
    """
    layers, L = passed.layers, low_rank.factor
    m, b = L.shape
    k, outputs = passed.output.shape
    if m - b < outputs + SPARE_EQUATIONS or not all(layer.has_relu for layer in layers[:-1]):
        return L.new_zeros(k)
    errors = torch.eye(outputs, dtype=L.dtype, device=L.device)[:, None].expand(-1, k, -1)
    *_, grads = passed.back(errors)
    grads = grads.permute(1, 2, 0)  # for each sample A, shape (m, outputs)
    outside = grads - L @ (L.T @ grads)
    whole = grads.mT @ grads
    whole.diagonal(dim1=1, dim2=2).add_(
        torch.finfo(L.dtype).eps * whole.diagonal(dim1=1, dim2=2).amax(dim=1)[:, None]
    )
    lower = torch.linalg.cholesky_ex(whole)[0]
    turned = torch.linalg.solve_triangular(lower, outside.mT, upper=False)
    grams = turned @ turned.mT
    # patterns without a way back to the layer leave nothing finite
    told = grams.isfinite().all(dim=2).all(dim=1)
    sines = torch.linalg.eigvalsh(torch.where(told[:, None, None], grams, 0.0)).clamp_min(0).sqrt()
    alone = (sines[:, 0] < OTHER_ANGLE * sines[:, 1]) & (sines[:, 1] > OTHER_ANGLE)
    return torch.where(alone, sines[:, 1], 0.0)


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
            # where errors cancel, as in a loss of differences, only the rounding of their sum is left
            float(bias_missing.norm() / torch.maximum(layer.bias_grad.norm().to(y.dtype), grads.norm())),
        )
        back = grads @ layer.weight.to(y.dtype)
        grads = passed.slopes[at - 1] * back
    return residual, grads


def _turn_over(passed: Pass, at: int, grads: Tensor, back: Tensor, missing: Tensor) -> None:
    """Turn units of a layer over that rounding turned over in the client.

    Where z is zero to rounding, the client may have been on the other side of the kink. In a batch of hundreds there is
    such a unit in some layer, and with it one row of ∂L/∂W is off by far more than rounding. Changed in place are ∂L/∂z
    and `missing`, replayed − observed ∂L/∂W; `back` is ∂L/∂σ(z).
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
