"""A model and its gradients put together, and the choice of the layer to attack.

What is refused here is listed at `layers.read_problem`.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import takewhile

import torch
from torch import Tensor, nn

from spear_core.errors import MissingGradient, UnknownLayer
from spear_core.model.checks import largest_entry
from spear_core.model.graph import LinearCall, Traced, linear_calls, trace
from spear_core.model.parameters import Gradients, normalise, strip
from spear_core.tolerances import precision

ONE_DIRECTION = 16.0  # rounding errors by which a gradient may miss g xᵀ


@dataclass(frozen=True)
class Reading:
    """A model and its gradients, put together."""

    traced: Traced
    calls: list[LinearCall]  # its linear layers in forward order, each at its first use
    gradients: dict[str, Tensor | None]  # by parameter name
    uses: Counter[str]  # how often the forward pass uses each weight
    _largest: dict[str, float] = field(default_factory=dict, init=False, repr=False, compare=False)

    def gradient(self, name: str | None) -> Tensor | None:
        """Gradient of a parameter; None where there is none, or it is all zero."""
        found = None if name is None else self.gradients.get(strip(name))
        return found if found is not None and self.largest(strip(str(name))) else None

    def reached(self, call: LinearCall) -> bool:
        """Whether a gradient reached a layer, its weight or its bias."""
        return self.gradient(call.weight) is not None or self.gradient(call.bias) is not None

    def largest(self, name: str) -> float:
        """Largest |entry| of the gradient of this name, sought only once: looking through a wide one takes long."""
        if name not in self._largest:
            gradient = self.gradients[name]
            assert gradient is not None
            self._largest[name] = float(largest_entry(gradient))
        return self._largest[name]


def read(model: nn.Module, gradients: Gradients) -> Reading:
    """Gradients by name and the model's graph."""
    named = normalise(model, gradients)
    traced = trace(model)
    calls = linear_calls(traced)
    if not calls:
        raise UnknownLayer(f"model must use at least one nn.Linear, got {type(model).__name__} without any")
    uses = Counter(call.weight for call in calls)
    first = list({call.weight: call for call in reversed(calls)}.values())[::-1]
    return Reading(traced, first, named, uses)


def choose(reading: Reading, layer: str | None) -> tuple[LinearCall, list[str]]:
    """The attacked layer: the named one, or the first that a gradient reached; and what was skipped."""
    if layer is not None:
        return _named(reading, layer), []
    silent = [call.name for call in takewhile(lambda call: not reading.reached(call), reading.calls)]
    if len(silent) == len(reading.calls):
        raise MissingGradient(f"gradients must include a linear layer, got none for {names(silent)}")
    call = reading.calls[len(silent)]
    if silent and call is reading.calls[-1] and not _one_direction(reading, call):
        raise MissingGradient(
            f"gradients must include a layer before the output layer {call.name!r}, got none for {names(silent)}"
        )
    return call, [f"no gradient reached layer {names(silent)}; attacked {call.name!r}"] if silent else []


def _one_direction(reading: Reading, call: LinearCall) -> bool:
    """Whether a layer's gradient is g xᵀ, as of one sample, whose input needs no other layer."""
    G, g = reading.gradient(call.weight), reading.gradient(call.bias)
    if G is None or g is None or g.shape != G.shape[:1]:
        return False
    left = G - torch.outer(g, g @ G / g.square().sum())
    return bool(left.norm() <= ONE_DIRECTION * precision(G.dtype) * G.norm())


def check_present(reading: Reading, call: LinearCall) -> None:
    """Refuse a layer that no gradient reached, that has no weight of its own, or half of whose gradient is missing."""
    if not reading.reached(call):
        raise MissingGradient(
            f"gradients must include {call.weight!r}: no gradient reached layer {call.name!r}"
        )
    if strip(call.weight) not in reading.gradients:
        raise UnknownLayer(
            f"layer {call.name!r} must have a weight of its own, got one computed from others (parametrised)"
        )
    for have, lack in ((call.bias, call.weight), (call.weight, call.bias)):
        absent = lack is not None and reading.gradients.get(strip(lack)) is None
        if absent and reading.gradient(have) is not None:
            raise MissingGradient(f"gradients must include {lack!r}, got {have!r} only")
    if reading.gradient(call.weight) is None:
        raise MissingGradient(
            f"the gradient of {call.weight!r} must not be all zero beside that of {call.bias!r}"
        )


def _named(reading: Reading, layer: str) -> LinearCall:
    known = [call.name for call in reading.calls]
    if not isinstance(layer, str) or strip(layer) not in known:
        modules = {strip(name): module for name, module in reading.traced.root.named_modules()}
        found = modules.get(strip(layer)) if isinstance(layer, str) and layer else None
        got = repr(layer) if found is None else f"{layer!r}, which is {type(found).__name__}"
        unused = " that the forward pass never uses" if isinstance(found, nn.Linear) else ""
        raise UnknownLayer(
            f"layer must be the name of an nn.Linear, one of {names(known)}, got {got}{unused}"
        )
    return reading.calls[known.index(strip(layer))]


def names(of: Iterable[str]) -> str:
    """Names in quotes, for messages."""
    return ", ".join(repr(name) for name in of)
