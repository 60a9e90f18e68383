"""b = 1: one sample needs no search, and nothing of what follows the layer.

G = g xᵀ, so x = Gᵀ g / (gᵀ g) for any layer with a bias (Phong et al. 2017), be it followed by ReLU, by another
function or by nothing. Several samples that all send the same direction, ∂L/∂z_i = δ_i d, give such a gradient, too: of
one output any batch does. Then x is their weighted mean Σ δ_i x_i / Σ δ_i, and the gradient of this layer cannot tell.
"""

import time
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from spear_core.certificate.certify import certified
from spear_core.problem import LinearLayer
from spear_core.search import Budget, Method, State, Step, Target
from spear_core.spear.reconstruction import from_coefficients

NAME = "closed form"
LIKE_SOFTMAX = 1e-3  # 1 − cosine up to which g is softmax − one-hot


def search(target: Target, before: State, budget: Budget) -> Iterator[State]:
    """The one row that there is; see `spear_core.search.Search`."""
    began, low_rank, layer = time.perf_counter(), target.low_rank, target.problem.attacked
    state = replace(before, step=Step.CONSISTENCY, method=NAME)
    c = 1 / (low_rank.factor.T @ layer.bias_grad.to(torch.float64))[:, None]  # x = c R, c · Lᵀ g = 1
    found = from_coefficients(target.forward, c, torch.ones_like(c))
    if found.sparsity_match < 1 and len(target.problem.layers) == 1:  # nobody knows what follows
        layer, state = replace(layer, activation=None), state.noted("zeros disagree: not ReLU follows")
        target = replace(target, problem=replace(target.problem, layers=(layer,)))
        found = replace(found, agreement=None)
    state = replace(state, reconstruction=found).timed(NAME, began)
    state = certified(target, state, budget)
    if layer.activation is None and state.certificate is not None:
        labels = _label(layer, found.preactivations)
        state = replace(state, certificate=replace(state.certificate, labels=labels))
    yield state


def _label(layer: LinearLayer, output: Tensor) -> Tensor | None:
    """Of an output layer, shape (1,): the class whose entry of g has a sign of its own (Zhao, Mopuri, Bilen 2020).

    None unless g is softmax − one-hot, up to a factor of either sign, with three classes or more.
    """
    g = layer.bias_grad.to(output.dtype)
    label = (g > 0).nonzero() if (g > 0).sum() == 1 else (g < 0).nonzero()
    if len(g) < 3 or len(label) != 1:
        return None
    error = output[0].softmax(dim=0).index_add(0, label[0], -torch.ones_like(output[0, :1]))
    agrees = torch.cosine_similarity(error, g, dim=0).abs() > 1 - LIKE_SOFTMAX
    return label[0] if agrees else None


CLOSED_FORM = Method(NAME, search, search, finds_samples=True)
