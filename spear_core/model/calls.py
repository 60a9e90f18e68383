"""The linear layers of a model: the calls of F.linear in its graph, and whose weight each one takes."""

import operator
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from spear_core.model.graph import Traced, asks_for_shape, before, label
from spear_core.model.section import Section

LINEAR_FUNCTIONS = (F.linear, torch.ops.aten.linear.default)
ROUNDING = 1e-5  # relative, in a multiple of a float32 parameter


@dataclass(frozen=True)
class LinearCall:
    """One use of a linear layer."""

    name: str  # dotted, of the layer
    node: fx.Node  # the call, whose first input is the layer's
    weight: str  # name of its weight, the first one where it is shared
    bias: str | None  # name of its bias
    shape: tuple[int, int]  # (m, n) of its weight
    factors: tuple[float, float] = (1.0, 1.0)  # of both, as in `F.linear(x, 0.1 * weight)`
    obstacle: str = ""  # what it must have for their gradients to be those of the layer, and what it has
    computing: tuple[fx.Node, ...] = ()  # what its weight and bias are computed by


@dataclass(frozen=True)
class _Part:
    """A weight or bias: a parameter or c times one, if there is no obstacle."""

    name: str
    shape: torch.Size
    nodes: list[fx.Node]  # that compute it
    factor: float
    obstacle: str
    layer: str


def linear_calls(traced: Traced) -> list[LinearCall]:
    """Every use of a linear layer, in forward order."""
    root, nodes = traced.root, list(traced.graph.nodes)
    first = {id(parameter): name for name, parameter in root.named_parameters()}
    calls = [call for node in nodes if (call := _linear_call(node, root, first)) is not None]
    # what takes each parameter on its way to the output: the weight of a linear layer, or something else
    owner = {node: call.weight for call in calls for node in (call.node, *call.computing)}
    takers: dict[str, set[str]] = defaultdict(set)
    needed = {node for node in nodes if node.op == "output"}
    for node in reversed(nodes):
        if node in needed:
            needed.update(node.all_input_nodes)
            for parameter in _parameters(node, root, first):
                takers[parameter].add(owner.get(node, label(node, root)))
    return [_finished(call, calls, takers) for call in calls]


def _finished(call: LinearCall, calls: list[LinearCall], takers: Mapping[str, set[str]]) -> LinearCall:
    """A call under a name of its own, and with what else uses its parameters."""
    if call.obstacle:
        taken = any(other.name == call.name and other.weight != call.weight for other in calls)
        return replace(call, name=call.weight) if taken else call
    for own in filter(None, (call.weight, call.bias)):
        if others := ", ".join(map(repr, sorted(takers[own] - {call.weight}))):
            return replace(call, obstacle=f"{own!r} for itself, got {others} that takes it as well")
    return call


def _linear_call(node: fx.Node, root: nn.Module, first: Mapping[int, str]) -> LinearCall | None:
    if node.op != "call_function" or node.target not in LINEAR_FUNCTIONS:
        return None
    given = dict(zip(("input", "weight", "bias"), node.args)) | node.kwargs
    parts = [_part(what, given.get(what), root, first) for what in ("weight", "bias") if given.get(what)]
    found = [part for part in parts if part is not None]
    if not isinstance(given["input"], fx.Node) or len(found) < len(parts) or len(found[0].shape) != 2:
        return None
    weight, bias = (*found, None)[:2]
    assert weight is not None
    (m, n), c, d = weight.shape, weight.factor, bias.factor if bias else 1.0
    obstacle = weight.obstacle or (bias.obstacle if bias else "")
    computing = tuple(inner for part in found for inner in part.nodes)
    name = bias.name if bias else None
    return LinearCall(weight.layer, node, weight.name, name, (m, n), (c, d), obstacle, computing)


def _part(what: str, end: Any, root: nn.Module, first: Mapping[int, str]) -> _Part | None:
    """A weight or bias and where it comes from; None if from the input of the model."""
    if end.op == "get_attr":
        of, value = str(end.target), operator.attrgetter(str(end.target))(root)
        obstacle = "" if id(value) in first else f"a {what} of its own, got one that is no parameter"
        return _Part(first.get(id(value), of), value.shape, [end], 1.0, obstacle, of.rpartition(".")[0] or of)
    needed = before(end)
    nodes = [node for node in end.graph.nodes if node in needed]
    held = {node: operator.attrgetter(str(node.target))(root) for node in nodes if node.op == "get_attr"}
    trained = sorted({first[id(value)] for value in held.values() if id(value) in first})
    if not trained or any(node.op == "placeholder" for node in nodes):
        return None
    (start, like), *others = held.items()
    section = Section(root, [node for node in nodes if node is not start], start, end)
    try:
        shape = section.run(like, like.dtype).shape
        factor = 0.0 if others or shape != like.shape else _factor(section, like)
    except Exception:  # nothing that can be run on its own
        return None
    of, how = trained[0], label(end, root)
    layer = of.partition(".parametrizations.")[0] if ".parametrizations." in of else of.rpartition(".")[0]
    if factor:
        return _Part(of, shape, nodes, factor, "", layer or of)
    obstacle = f"a {what} of its own, got {how!r} of {', '.join(map(repr, trained))}"
    return _Part(f"{of}.{how}", shape, nodes, 1.0, obstacle, layer or of)


def _factor(section: Section, like: Tensor) -> float:
    """c, if the value of a section is c times its start, whatever that holds; else zero."""
    factor = float(section.run(torch.ones_like(like), like.dtype).flatten()[0])
    for scale in (1.0, 3.0):
        trial = scale * torch.randn(like.shape, generator=torch.Generator().manual_seed(0)).to(like)
        wrong = section.run(trial.clone(), like.dtype) - factor * trial
        if not wrong.norm() <= ROUNDING * abs(factor) * trial.norm():
            return 0.0
    return factor


def _parameters(node: fx.Node, root: nn.Module, first: Mapping[int, str]) -> list[str]:
    """The parameters that a call takes, and sends a gradient to."""
    values: list[Any] = []
    if node.op == "call_module":
        values = list(root.get_submodule(str(node.target)).parameters())
    elif not (asks_for_shape(node) or node.target == "detach" or node.args[1:] == ("data",)):
        taken = [str(other.target) for other in node.all_input_nodes if other.op == "get_attr"]
        values = [operator.attrgetter(target)(root) for target in taken]
    return [first[id(value)] for value in values if id(value) in first]
