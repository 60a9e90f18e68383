"""A model and its gradients put together, and the choice of the layer to attack.

What is refused here is listed at `layers.read_problem`.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import takewhile

import torch
from torch import Tensor, nn

from spear_core.errors import InputError, MissingGradient, UnknownLayer
from spear_core.model.calls import LinearCall, linear_calls
from spear_core.model.checks import largest_entry
from spear_core.model.graph import Traced, trace
from spear_core.model.parameters import Gradients, normalise, strip
from spear_core.model.weight_norm import without_weight_norm
from spear_core.tolerances import precision

ONE_DIRECTION = 16.0  # rounding errors by which a gradient may miss g xᵀ


@dataclass(frozen=True)
class Reading:
    """A model and its gradients, put together."""

    traced: Traced
    calls: list[LinearCall]  # its linear layers in forward order, each at its first use
    gradients: dict[str, Tensor | None]  # by parameter name
    uses: Counter[str]  # how often the forward pass uses each weight
    spoilt: dict[str, InputError] = field(default_factory=dict)  # gradients that cannot be used, and why
    _largest: dict[str, float] = field(default_factory=dict, init=False, repr=False, compare=False)

    def gradient(self, name: str | None) -> Tensor | None:
        """Gradient of a parameter; None where there is none, or it is all zero."""
        found = None if name is None else self.gradients.get(strip(name))
        return found if found is not None and self.largest(strip(str(name))) else None

    def reached(self, call: LinearCall) -> bool:
        """Whether a gradient reached a layer, its weight or its bias."""
        parts = filter(None, (call.weight, call.bias))
        return any(self.gradient(part) is not None or strip(part) in self.spoilt for part in parts)

    def largest(self, name: str) -> float:
        """Largest |entry| of the gradient of this name, sought only once: looking through a wide one takes long."""
        if name not in self._largest:
            gradient = self.gradients[name]
            assert gradient is not None
            self._largest[name] = float(largest_entry(gradient)) if gradient.numel() else 0.0
        return self._largest[name]


def read(model: nn.Module, gradients: Gradients, example_input: object = None) -> Reading:
    """Gradients by name and the model's graph."""
    spoilt: dict[str, InputError] = {}
    model, named = without_weight_norm(model, normalise(model, gradients, spoilt))
    traced = trace(model, example_input)
    calls = linear_calls(traced)
    if not calls:
        compiled = any(isinstance(module, torch.jit.ScriptModule) for module in model.modules())
        hint = ": torch.jit hides what it compiles, pass the module that it was made from" if compiled else ""
        got = f"{type(model).__name__}, whose trace shows none{hint}"
        raise UnknownLayer(f"model must use at least one nn.Linear, got {got}")
    uses = Counter(call.weight for call in calls)
    first = list({call.weight: call for call in reversed(calls)}.values())[::-1]
    return Reading(traced, first, named, uses, spoilt)


def choose(reading: Reading, layer: str | None) -> tuple[LinearCall, list[str]]:
    """The attacked layer: the named one, or the first that a gradient reached; and what was skipped."""
    if layer is not None:
        return _named(reading, layer), []
    passed = list(takewhile(lambda call: call.obstacle or not reading.reached(call), reading.calls))
    barred, silent = [c for c in passed if c.obstacle], [c for c in passed if not c.obstacle]
    rest = reading.calls[len(passed) :]
    if passed and not (len(rest) > 1 or (rest and one_direction(reading, rest[0]))):
        if barred:  # the one that would be attacked, but for its obstacle
            return barred[0], []
        wanted = f"layer before the output layer {rest[0].name!r}" if rest else "linear layer"
        got, hint = "none", ""
        if any(reading.gradients.get(strip(call.weight)) is not None for call in silent):
            got, hint = "none or only zeros", ": does a layer that is all zero let none through?"
        of = names(call.name for call in silent)
        raise MissingGradient(f"gradients must include a {wanted}, got {got} for {of}{hint}")
    why = [f"layer {other.name!r} must have {other.obstacle}" for other in barred]
    why += [f"no gradient reached layer {names(other.name for other in silent)}"] if silent else []
    call = rest[0]
    return call, [f"{'; '.join(why)}; attacked {call.name!r}"] if passed else []


def one_direction(reading: Reading, call: LinearCall) -> bool:
    """Whether a layer's gradient is g xᵀ, as of one sample, whose input needs no other layer."""
    G, g = reading.gradient(call.weight), reading.gradient(call.bias)
    if G is None or g is None or g.shape != G.shape[:1]:
        return False
    g = g.to(G.dtype)
    left = G - torch.outer(g, g @ G / g.square().sum())
    return bool(left.norm() <= ONE_DIRECTION * precision(G.dtype) * G.norm())


def check_present(reading: Reading, call: LinearCall) -> None:
    """Refuse a layer without gradients of its own, or half of whose gradient is missing."""
    if call.obstacle:
        raise UnknownLayer(f"layer {call.name!r} must have {call.obstacle}")
    for name in filter(None, (call.weight, call.bias)):
        if strip(name) in reading.spoilt:
            raise reading.spoilt[strip(name)]
    if not reading.reached(call):
        raise MissingGradient(
            f"gradients must include {call.weight!r}: no gradient reached layer {call.name!r}"
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
        unused = " that the forward pass never calls" if isinstance(found, nn.Linear) else ""
        raise UnknownLayer(
            f"layer must be the name of an nn.Linear, one of {names(known)}, got {got}{unused}"
        )
    return reading.calls[known.index(strip(layer))]


def names(of: Iterable[str]) -> str:
    """Names in quotes, for messages."""
    return ", ".join(repr(name) for name in of)
