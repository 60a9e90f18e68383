"""What happens to a gradient on its way to the server: (rng, gradients by name) → gradients by name."""

import random
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from spear_core.client import defences, noised

from .batches import log_uniform

Sent = dict[str, Tensor]
Tampering = Callable[[random.Random, Mapping[str, Tensor]], Sent]


def _rounded(dtype: torch.dtype) -> Tampering:
    def change(rng: random.Random, grads: Mapping[str, Tensor]) -> Sent:
        return (
            {n: g.to(dtype) for n, g in grads.items()}
            if rng.random() < 0.3
            else defences.rounded(grads, dtype)
        )

    return change


def _noise(rng: random.Random, grads: Mapping[str, Tensor]) -> Sent:
    return noised(grads, log_uniform(rng, 1e-9, 1e-2))


def _fixed_point(rng: random.Random, grads: Mapping[str, Tensor]) -> Sent:
    """Secure aggregation: whole multiples of a step; or as few levels as bits allow."""
    if rng.random() < 0.5:
        return defences.quantised(grads, rng.choice((4, 8, 16, 24)))
    step = 2.0 ** -rng.randint(12, 32)
    return {name: (grad / step).round() * step for name, grad in grads.items()}


def _by_tensor(factor: Callable[[random.Random, str, Tensor], float]) -> Tampering:
    def change(rng: random.Random, grads: Mapping[str, Tensor]) -> Sent:
        return {name: grad * factor(rng, name, grad) for name, grad in grads.items()}

    return change


def _one_factor(rng: random.Random, grads: Mapping[str, Tensor]) -> Sent:
    """Of all tensors: a learning rate, global clipping, a loss scale, a sign."""
    factor = rng.choice((-1, 1)) * log_uniform(rng, 1e-12, 1e5)
    return {name: grad * factor for name, grad in grads.items()}


def _by_layer(rng: random.Random, grads: Mapping[str, Tensor]) -> Sent:
    layers = {name.rpartition(".")[0] for name in grads}
    factors = {layer: log_uniform(rng, 0.1, 10) for layer in sorted(layers)}
    return {name: grad * factors[name.rpartition(".")[0]] for name, grad in grads.items()}


def _by_kind(rng: random.Random, grads: Mapping[str, Tensor]) -> Sent:
    """Another learning rate for biases."""
    factor = rng.choice((2, 2, 0.5, 0.1, 10, -1))
    return {name: grad * (factor if grad.ndim == 1 else 1) for name, grad in grads.items()}


def _top_k(rng: random.Random, grads: Mapping[str, Tensor]) -> Sent:
    return defences.sparsified(grads, rng.choice((0.01, 0.1, 0.5, 0.9)))


KINDS: dict[str, Tampering] = {
    "float16": _rounded(torch.float16),
    "bfloat16": _rounded(torch.bfloat16),
    "noise": _noise,
    "fixed point": _fixed_point,
    "one factor": _one_factor,
    "a factor per layer": _by_layer,
    "a factor per kind": _by_kind,
    "clipped by tensor": _by_tensor(lambda rng, name, grad: min(1.0, 0.05 / max(float(grad.norm()), 1e-30))),
    "top-k": _top_k,
}
"""Of the gradients alone; what needs the client's network is in `client.KINDS`."""
