"""The errors that enter back-propagation, δ_i = ∂L/∂(output of sample i), and the labels that they name.

The output layer's gradients, ∂L/∂W = Σ δ_i y_iᵀ and ∂L/∂β = Σ δ_i, are linear in δ and give it by least squares,
whatever the loss. Cross-entropy says more: δ_i = c (softmax(output_i) − one-hot(label_i)) has one unknown for the whole
batch instead of one per sample and class, and is taken at its word where the gradients agree. So it shows which samples
are in the batch several times, and with which labels.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from spear_core.certificate.backprop import Pass, label_errors
from spear_core.certificate.record import OutputErrors
from spear_core.linalg import least_squares
from spear_core.problem import LinearLayer
from spear_core.tolerances import WEIGHT_MATCH, precision

SMOOTHING_PAYS = 0.01  # a second unknown is believed if it brings δ so much closer
LOSS_ROUNDING = 2.0**16  # rounding errors by which the output layer's gradient may miss that of a named loss
SURE_ROUNDING = 2.0**8  # up to which nothing else is looked for
COPIES_PAY = 0.1  # samples of unequal weight are believed if the gradient is missed by so much less
LABEL_MATCH = 0.05  # relative distance of δ from c (softmax − one-hot) up to which labels are believed
FEW_CLASSES = 100  # up to which each label may be tried in turn
MOST_COPIES = 4  # of one sample whose labels are told apart


def output_errors(passed: Pass, output_grads: Tensor | None = None) -> OutputErrors:
    """δ of all samples, and the labels, from the pass of the batch through all layers.

    ∂L/∂z of the attacked layer as far as it is known, shape (b, m), names the labels where the inputs of the output
    layer are too alike to tell them, as in deep fresh networks.
    """
    layer, output = passed.layers[-1], passed.output
    sent = _Sent.of(layer, passed.activations[-1])
    fitted = least_squares(sent.inputs.T, sent.grads.T)
    nobody = torch.zeros(len(output), dtype=torch.bool, device=output.device)
    untold = OutputErrors(fitted, None, nobody, nobody, nobody, nobody)
    if fitted.shape[1] < 2:  # a single output has no classes
        return untold
    rounding = precision(layer.weight_grad.dtype)
    allowed = max(LOSS_ROUNDING * rounding, 2 * sent.misses(fitted))
    told = _alike(output, fitted, rounding)
    least = torch.inf if told is None else sent.misses(told.values)
    if least > SURE_ROUNDING * rounding:
        weighted = _weighted(output, fitted)
        if weighted is not None and sent.misses(weighted.values) < COPIES_PAY * least:
            return replace(weighted, values=fitted)
        if told is None and output_grads is not None and output.shape[1] <= FEW_CLASSES:
            labels = labels_by_gradient(passed, output_grads)
            errors = label_errors(output, labels)
            errors = errors * sent.factor(errors)
            if sent.misses(errors) <= LOSS_ROUNDING * rounding:
                return explained(errors, labels)
        most = _most(output, fitted, sent)
        if most is not None and sent.misses(most.values) < min(allowed, COPIES_PAY * least):
            return most
    if told is None or least <= allowed:
        return told or untold
    # labels may be right where the loss is not quite cross-entropy (soft labels, weights); its δ is not then
    return replace(untold, labels=told.labels)


@dataclass(frozen=True)
class _Sent:
    """The output layer's gradients of (W, β), shape (classes, width + 1), and its inputs (y, 1) as rows."""

    inputs: Tensor
    grads: Tensor

    @staticmethod
    def of(layer: LinearLayer, y: Tensor) -> "_Sent":
        grads = torch.cat([layer.weight_grad, layer.bias_grad[:, None]], dim=1).to(y.dtype)
        return _Sent(torch.cat([y, torch.ones_like(y[:, :1])], dim=1), grads)

    def misses(self, errors: Tensor) -> float:
        """Relative distance of the gradients that δ gives from those that were sent."""
        return float((errors.T @ self.inputs - self.grads).norm() / self.grads.norm())

    def factor(self, errors: Tensor) -> Tensor:
        """By which δ comes nearest to the gradients."""
        given = errors.T @ self.inputs
        return (given * self.grads).sum() / given.square().sum()

    def without(self, rows: Tensor) -> "_Sent":
        """Without these samples, and without what they may have sent, whatever their δ."""
        beside = torch.linalg.qr(self.inputs[rows].T)[0]
        inputs = self.inputs[~rows]
        return _Sent(inputs - inputs @ beside @ beside.T, self.grads - self.grads @ beside @ beside.T)


def _alike(output: Tensor, fitted: Tensor, rounding: float) -> OutputErrors | None:
    """Cross-entropy with one factor: c (softmax − (1 − ε) one-hot − ε / classes) with ε of label smoothing."""
    least, best = LABEL_MATCH, None
    for labels, smoothed in product(_likeliest(fitted), (False, True)):
        target = one_hot(labels, output.shape[1]).to(output.dtype)
        shapes = [output.softmax(dim=1) - target, target - 1 / output.shape[1]][: 1 + smoothed]
        basis = torch.stack([shape.flatten() for shape in shapes], dim=1)
        factors = least_squares(basis, fitted.flatten()[:, None])
        errors = (basis @ factors).reshape(fitted.shape)
        distance = float((errors - fitted).norm() / fitted.norm())
        if distance < (SMOOTHING_PAYS * least if smoothed else least):
            least, best = distance, explained(errors, labels)
        if SMOOTHING_PAYS * least < rounding:  # no other comes closer
            break
    return best


def _weighted(output: Tensor, fitted: Tensor) -> OutputErrors | None:
    """Cross-entropy with a positive factor for each sample.

    So it is where a sample is in the batch several times, or each one's gradient was clipped on its own.
    """
    if fitted.shape[1] < 3:  # with two classes, any δ is of this form
        return None
    for labels in _likeliest(fitted):
        errors = label_errors(output, labels)
        factors = _factors(errors, fitted)
        errors = factors[:, None] * errors
        same_sign = bool((factors > 0).all()) or bool((factors < 0).all())
        if same_sign and bool(((errors - fitted).norm(dim=1) < LABEL_MATCH * fitted.norm(dim=1)).all()):
            weights = factors / factors[factors.abs().argmin()]
            times = weights.round()
            whole = (weights - times).abs() <= WEIGHT_MATCH * times
            plural, nobody = (times >= 2) & whole, torch.zeros_like(whole)
            single = (times == 1) & whole.all()  # clipped one by one, nobody weighs a whole number of others
            return OutputErrors(errors, labels, nobody, plural, ~nobody, single, uneven=True)
    return None


def explained(errors: Tensor, labels: Tensor) -> OutputErrors:
    """Errors that cross-entropy explains with one factor for the whole batch."""
    everyone = torch.ones_like(labels, dtype=torch.bool)
    return OutputErrors(errors, labels, everyone, ~everyone, everyone, everyone)


def _most(output: Tensor, fitted: Tensor, sent: _Sent) -> OutputErrors | None:
    """Cross-entropy with one factor for most samples; a few are in the batch several times, with different labels."""
    for labels in _likeliest(fitted):
        errors = label_errors(output, labels)
        factor = _factors(errors, fitted).median()
        odd = (factor * errors - fitted).norm(dim=1) > LABEL_MATCH * fitted.norm(dim=1)
        if odd.sum() < len(odd) / 2:
            factor = sent.without(odd).factor(errors[~odd])
            errors = factor * errors
            left = sent.grads - errors[~odd].T @ sent.inputs[~odd]
            errors[odd] = least_squares(sent.inputs[odd].T, left.T)
            rows = odd.nonzero().flatten().tolist()
            told = {row: _copies(output[row].softmax(dim=0), errors[row] / factor) for row in rows}
            copies = {row: classes for row, classes in told.items() if classes}
            plural = odd.clone()  # unless each copy has a label of its own
            plural[[row for row, classes in copies.items() if len(set(classes)) == len(classes)]] = False
            labels = labels.masked_fill(odd, -1)
            return OutputErrors(errors, labels, ~odd, plural, ~plural, ~plural, copies=copies)
    return None


def _copies(softmax: Tensor, errors: Tensor) -> tuple[int, ...]:
    """Labels of the copies of one sample, from δ = Σ (softmax − one-hot) over them; empty if it is no such sum."""
    for count in range(2, MOST_COPIES + 1):
        times = count * softmax - errors
        whole = times.round()
        if (times - whole).abs().max() < count * WEIGHT_MATCH and whole.min() >= 0 and whole.sum() == count:
            return tuple(torch.arange(len(softmax)).repeat_interleave(whole.to(torch.int64).cpu()).tolist())
    return ()


def _likeliest(fitted: Tensor) -> Iterator[Tensor]:
    """The labels that δ names best: all gradients may carry a common factor of either sign."""
    yield fitted.argmin(dim=1)
    yield fitted.argmax(dim=1)


def _factors(errors: Tensor, fitted: Tensor) -> Tensor:
    """By which each row of δ comes nearest to the fitted one."""
    return (errors * fitted).sum(dim=1) / errors.square().sum(dim=1)


def cross_entropy_misses(passed: Pass) -> float:
    """By how much cross-entropy with its likeliest labels misses the output layer's gradients, relative."""
    sent = _Sent.of(passed.layers[-1], passed.activations[-1])
    fitted = least_squares(sent.inputs.T, sent.grads.T)
    errors = (label_errors(passed.output, labels) for labels in _likeliest(fitted))
    return min(sent.misses(sent.factor(e) * e) for e in errors)


def loss_misses(passed: Pass) -> float:
    """By how much the output layer's gradients are missed by the cross-entropy that suits them best, relative.

    Of those that `output_errors` names; infinite where none does.
    """
    sent = _Sent.of(passed.layers[-1], passed.activations[-1])
    fitted = least_squares(sent.inputs.T, sent.grads.T)
    rounding = precision(passed.layers[-1].weight_grad.dtype)
    told = (
        _alike(passed.output, fitted, rounding),
        _weighted(passed.output, fitted),
        _most(passed.output, fitted, sent),
    )
    return min((sent.misses(each.values) for each in told if each is not None), default=float("inf"))


def errors_by_gradient(passed: Pass, output_grads: Tensor) -> OutputErrors | None:
    """δ and labels of samples that are not the whole batch, from their own ∂L/∂z, shape (k, m).

    Named are those for which cross-entropy, with one factor for all, sends ∂L/∂z back. None of too many classes.
    """
    if passed.output.shape[1] > FEW_CLASSES:
        return None
    labels = labels_by_gradient(passed, output_grads)
    errors = label_errors(passed.output, labels)
    *_, grads = passed.back(errors)
    factor = _factors(grads, output_grads).median()
    named = (factor * grads - output_grads).norm(dim=1) <= WEIGHT_MATCH * output_grads.norm(dim=1)
    return OutputErrors(factor * errors, labels, named, torch.zeros_like(named), named, named)


def label_cosines(passed: Pass, output_grads: Tensor) -> Tensor:
    """Cosines of ∂L/∂z and what cross-entropy sends back through each sample's slopes, for each label: (classes, b)."""
    softmax, cosines = passed.output.softmax(dim=1), []
    for one in torch.eye(softmax.shape[1]).to(softmax):
        *_, grads = passed.back(softmax - one)
        cosines.append(torch.cosine_similarity(grads, output_grads, dim=1))
    return torch.stack(cosines)


def labels_by_gradient(passed: Pass, output_grads: Tensor) -> Tensor:
    """The labels whose cross-entropy comes nearest to ± ∂L/∂z in direction, shape (b,)."""
    return label_cosines(passed, output_grads).abs().argmax(dim=0)
