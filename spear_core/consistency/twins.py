"""The last few samples, which share their activation pattern, are told apart by the rest of the network.

Between samples with one pattern every mixture agrees with the next layer, so forward consistency leaves them out. But
what is missing lies in a small space: c · q_k = 0 for every found sample k, and c · Lᵀ g = 1, for two of them a line.
From a point there the client's own passes lead to a better one: forward to the output, and back with the errors of
the labels, which gives ∂L/∂z and so q = Lᵀ ∂L/∂z; with them Q is complete, and C = Q⁻¹. Softmax and the patterns of the
later layers hardly change along the line, so this settles in a few turns, and on samples if ∂L/∂z lies in span L.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from spear_core.certificate.backprop import forward as passed_on
from spear_core.certificate.backprop import label_errors
from spear_core.certificate.output_errors import FEW_CLASSES, labels_by_gradient
from spear_core.linalg import orthogonal_complement
from spear_core.problem import LinearLayer, Problem
from spear_core.search import Budget, Target

MOST = 4  # samples that are told apart; the space between more of them is too large for random starts
STARTS, TURNS = 128, 12
SETTLED = 1e-9  # relative change of c, after which a start has arrived somewhere
AGREES = 1e-3  # how far found samples' ∂L/∂z may be from the replayed ones if the loss is cross-entropy
INSIDE = 1e-4  # distance of ∂L/∂z from span L up to which a start has arrived at samples; the certificate asks for more


def applies(problem: Problem, directions: Tensor) -> bool:
    """Whether few enough samples are missing, the others stand, and the network is known to its output, of few classes.

    The directions q_i of the samples found have shape (b, k), NaN where not known.
    """
    (b, k), output = directions.shape, problem.layers[-1]
    known = not problem.branches and output.activation is None and len(output.bias) <= FEW_CLASSES
    return known and 0 < b - k <= MOST and k > 0 and bool(directions.isfinite().all())


def told_apart(target: Target, coefficients: Tensor, directions: Tensor, budget: Budget) -> Tensor | None:
    """The missing samples of a batch, if the client's own passes tell them.

    Args:
        target: layers from the attacked one to the output layer, one after the other.
        coefficients: c_i of the samples found, as rows, shape (k, b), at least one and at most `MOST` missing.
        directions: their q_i as unit columns, shape (b, k).
        budget: its deadline, and the generator of the starts.

    Returns:
        c_i of the missing ones as rows, shape (b − k, b), to be certified; None if nothing agrees.
    """
    L, layers, forward = target.low_rank.factor, target.problem.layers, target.forward
    # the loss must be cross-entropy, of one factor, as the samples found show
    Q = directions / (coefficients * directions.T).sum(dim=1)
    k, missing = len(coefficients), L.shape[1] - len(coefficients)
    passed = passed_on(layers, forward.preactivations(coefficients))
    own = (L @ Q).T
    labels = labels_by_gradient(passed, own)
    errors = label_errors(passed.output, labels)
    *_, grads = passed.back(errors)
    factor = (grads * own).sum() / grads.square().sum()
    if not (factor * grads - own).norm() < AGREES * own.norm():
        return None
    labels = _labels_left(layers[-1], errors, factor, missing)
    # what is left for c: the complement of the directions, at the scale that the bias gradient tells
    mean = L.T @ layers[0].bias_grad.to(L.dtype)
    space = orthogonal_complement(directions)
    within = space.T @ mean
    for _ in range(STARTS):
        # as if the directions of unlike labels were orthogonal, which they nearly are
        normal = torch.randn(missing, missing, dtype=L.dtype, generator=budget.generator).to(L.device)
        frame = torch.linalg.qr(normal)[0]
        c = frame / (frame @ within)[:, None] @ space.T
        for _ in range(TURNS):
            passed = passed_on(layers, forward.preactivations(c))
            *_, grads = passed.back(factor * label_errors(passed.output, labels))
            q = L.T @ grads.T
            outside = (grads.T - L @ q).norm() / grads.norm()
            before, c = c, torch.linalg.inv_ex(torch.cat([Q, q], dim=1))[0][k:]
            if not (c - before).norm() > SETTLED * c.norm():
                break
        if outside < INSIDE:
            return c
        if budget.late:
            return None
    return None


def _labels_left(layer: LinearLayer, errors: Tensor, factor: Tensor, missing: int) -> Tensor:
    """Labels of the samples that are missing, in any order: what the output's bias gradient has below zero."""
    rest = layer.bias_grad.to(errors.dtype) / factor - errors.sum(dim=0)
    labels = []
    for _ in range(missing):
        labels.append(rest.argmin())
        rest = rest + F.one_hot(labels[-1], len(rest))
    return torch.stack(labels)
