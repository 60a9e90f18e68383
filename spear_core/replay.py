"""Certificate (d): play the client on the recovered batch and compare the whole gradient, all layers.

The client's loss is not known, and need not be: whatever it is, it enters back-propagation as one vector
δ_i = ∂L/∂(output of sample i). The output layer's gradients give these vectors by least squares, and for
cross-entropy they are δ_i ∝ softmax(output_i) − one-hot(label_i), which names the label.
"""

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from spear_core.passing import Pass, activate, forward, label_errors
from spear_core.problem import LinearLayer, Problem
from spear_core.tolerances import precision

SMOOTHING_PAYS = 0.01  # a second unknown is believed if it brings δ so much closer
LOSS_ROUNDING = 2.0**16  # rounding errors by which the output layer's gradient may miss that of a named loss
FEW_CLASSES = 100  # up to which each label may be tried in turn
KINK = 64.0  # rounding errors by which z may be off zero where rounding chose the side, of the layer's z
TURNED = 64  # units tried for it in each layer
TURN_PAYS = 0.5  # what is left of a row of ∂L/∂W when one is believed
LABEL_MATCH = 0.05  # relative distance of all δ from c (softmax − one-hot) up to which labels are believed


@dataclass(frozen=True)
class Replay:
    """What the network would have sent for a batch.

    Attributes:
        labels: class of each sample where the loss is cross-entropy, shape (b,); else None.
        output_grads: ∂L/∂z of the attacked layer as back-propagation gives it, shape (b, m).
        named: whether δ is that of cross-entropy itself, up to one factor for the whole batch; otherwise it was
            fitted, and back-propagation says nothing that the gradients do not.
        weights: where the samples' δ are those of cross-entropy with a factor of their own each, these factors,
            shape (b,), the smallest 1; else None.
        residual: distance of the replayed gradients from the observed ones, relative, of the worst layer
            after the attacked one.
    """

    labels: Tensor | None
    output_grads: Tensor
    residual: float
    named: bool = False
    weights: Tensor | None = None


def replay(problem: Problem, preactivations: Tensor, output_grads: Tensor | None = None) -> Replay | None:
    """Replay the client from the attacked layer's pre-activations on.

    Args:
        problem: layers from the attacked one to the output layer.
        preactivations: Z of all b samples, shape (b, m), float64.
        output_grads: ∂L/∂z of all samples as far as it is known, shape (b, m). It names the labels where the inputs of
            the output layer are too alike to tell them, as in deep fresh networks.

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
    labels, deltas, named, weights = _output_errors(layers[-1], passed.activations[-1], passed.output)
    if labels is None and output_grads is not None and 2 <= passed.output.shape[1] <= FEW_CLASSES:
        told = labels_by_gradient(passed, output_grads)
        errors = _errors_of_labels(layers[-1], passed.activations[-1], passed.output, told)
        if errors is not None:
            labels, deltas, named = told, errors, True
    residual, grads = _sent(passed, deltas)
    return Replay(labels, grads, residual, named, weights)


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


def _output_errors(
    layer: LinearLayer, y: Tensor, output: Tensor
) -> tuple[Tensor | None, Tensor, bool, Tensor | None]:
    """Labels, δ of every sample, shape (b, classes), whether it is cross-entropy's own, weights (see `Replay`).

    ∂L/∂W = Σ δ_i y_iᵀ and ∂L/∂β = Σ δ_i are linear in δ, so δ is known whatever the loss. Cross-entropy says
    more, δ = c (softmax − (1 − ε) one-hot − ε / classes) with ε of label smoothing, and is taken at its word
    where the gradients agree: its δ has two unknowns instead of one per sample and class.
    """
    with_bias, observed = _with_bias(layer, y)
    fitted = torch.linalg.lstsq(with_bias.T, observed.T).solution
    if fitted.shape[1] < 2:  # a single output has no classes
        return None, fitted, False, None
    best: tuple[float, Tensor | None, Tensor] = (LABEL_MATCH, None, fitted)
    # all gradients may carry a common factor of either sign
    for labels, smoothed in product((fitted.argmin(dim=1), fitted.argmax(dim=1)), (False, True)):
        errors = _cross_entropy_errors(output, labels, fitted, smoothed=smoothed)
        distance = float((errors - fitted).norm() / fitted.norm())
        if distance < (SMOOTHING_PAYS * best[0] if smoothed else best[0]):
            best = (distance, labels, errors)
        if SMOOTHING_PAYS * best[0] < precision(layer.weight_grad.dtype):  # rounding: no other comes closer
            break
    # labels may be right where the loss is not quite cross-entropy (soft labels, weights); its δ is not then
    misses = float((best[2].T @ with_bias - observed).norm() / observed.norm())
    fits = float((fitted.T @ with_bias - observed).norm() / observed.norm())
    agrees = misses <= max(LOSS_ROUNDING * precision(layer.weight_grad.dtype), 2 * fits)
    if best[1] is None:
        labels, weights = _weighted_labels(output, fitted) or (None, None)
        return labels, fitted, False, weights
    return best[1], best[2] if agrees else fitted, agrees, None


def _weighted_labels(output: Tensor, fitted: Tensor) -> tuple[Tensor, Tensor] | None:
    """Labels and weights where each sample's δ is softmax − one-hot with a positive factor of its own; else None.

    So it is where a sample is in the batch several times, or each one's gradient was clipped on its own.
    """
    if fitted.shape[1] < 3:  # with two classes, any δ is of this form
        return None
    for sign in (1, -1):
        labels = (sign * fitted).argmin(dim=1)
        errors = label_errors(output, labels)
        factors = (errors * fitted).sum(dim=1) / errors.square().sum(dim=1)
        distance = (factors[:, None] * errors - fitted).norm(dim=1) / fitted.norm(dim=1)
        if bool((sign * factors > 0).all()) and float(distance.max()) < LABEL_MATCH:
            return labels, factors / factors[factors.abs().argmin()]
    return None


def labels_by_gradient(passed: Pass, output_grads: Tensor) -> Tensor:
    """The labels whose cross-entropy, sent back through each sample's slopes, comes nearest to ± ∂L/∂z in direction."""
    softmax, nearness = passed.output.softmax(dim=1), []
    for label in range(passed.output.shape[1]):
        errors = softmax.clone()
        errors[:, label] -= 1
        *_, grads = passed.back(errors)
        nearness.append(torch.cosine_similarity(grads, output_grads, dim=1).abs())
    return torch.stack(nearness).argmax(dim=0)


def _errors_of_labels(layer: LinearLayer, y: Tensor, output: Tensor, labels: Tensor) -> Tensor | None:
    """The δ of cross-entropy with these labels, if the output layer's gradient is made of it; else None."""
    with_bias, observed = _with_bias(layer, y)
    errors = label_errors(output, labels)
    sent = errors.T @ with_bias
    factor = (sent * observed).sum() / sent.square().sum()
    misses = (factor * sent - observed).norm() / observed.norm()
    return factor * errors if misses <= LOSS_ROUNDING * precision(layer.weight_grad.dtype) else None


def _with_bias(layer: LinearLayer, y: Tensor) -> tuple[Tensor, Tensor]:
    """(y, 1) of all samples, and the gradients of (W, β) that they take part in."""
    with_bias = torch.cat([y, torch.ones_like(y[:, :1])], dim=1)
    return with_bias, torch.cat([layer.weight_grad, layer.bias_grad[:, None]], dim=1).to(y.dtype)


def _cross_entropy_errors(output: Tensor, labels: Tensor, fitted: Tensor, *, smoothed: bool) -> Tensor:
    """The multiple of softmax − one-hot, and of one-hot − uniform where labels are smoothed, nearest to δ."""
    target = torch.nn.functional.one_hot(labels, output.shape[1]).to(output.dtype)
    shapes = [output.softmax(dim=1) - target]
    if smoothed:
        shapes.append(target - 1 / output.shape[1])
    basis = torch.stack([shape.flatten() for shape in shapes], dim=1)
    return (basis @ torch.linalg.lstsq(basis, fitted.flatten()[:, None]).solution).reshape(fitted.shape)
