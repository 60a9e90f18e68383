"""A model as a graph of calls: what happens to a tensor is read off the real forward, not the module list.

A symbolic trace needs no input. Where there is none (control flow on data or shapes), the model is run once on
a made-up input and its calls are recorded into the same kind of graph.
"""

import inspect
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeGuard

import torch
from torch import fx, nn
from torch.nn import functional as F

from spear_core.errors import InputError
from spear_core.model.recording import record
from spear_core.model.symbolic import replicate, symbolic

IN_PLACE_OPERATORS = ("iadd", "isub", "imul", "itruediv")
LINEAR_FUNCTIONS = (F.linear, torch.ops.aten.linear.default)


@dataclass(frozen=True)
class Traced:
    """A model and its graph."""

    root: nn.Module  # a replica of the model, without wrappers: what is done to it leaves the original alone
    graph: fx.Graph  # its calls, each after those whose results it takes


@dataclass(frozen=True)
class LinearCall:
    """One use of a linear layer."""

    name: str  # dotted, of the layer
    node: fx.Node  # the call, whose first input is the layer's
    weight: str  # name of its weight, the first one where it is shared
    bias: str | None  # name of its bias
    shape: tuple[int, int]  # (m, n) of its weight


def trace(model: nn.Module) -> Traced:
    """The graph of a model's forward pass; `InputError` if neither tracing nor running it on a made-up input works."""
    root = replicate(unwrap(model))
    graph: fx.Graph | None
    try:
        graph = symbolic(root)
    except Exception as refusal:
        graph = record(root)
        if graph is None:
            raise InputError(
                f"model must be traceable by torch.fx or run on a batch of its first layer's size, got "
                f"{type(model).__name__}, which does neither ({type(refusal).__name__}: {refusal})"
            ) from refusal
    _link_in_place(graph, root)
    return Traced(root, graph)


def unwrap(model: nn.Module) -> nn.Module:
    """The module inside DataParallel, torch.compile or Opacus wrappers."""
    parallel = isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel)
    for name in ("module",) if parallel else ("_orig_mod", "_module"):
        if (inner := model._modules.get(name)) is not None:
            return unwrap(inner)
    return model


def linear_calls(traced: Traced) -> list[LinearCall]:
    """Every use of a linear layer, in forward order."""
    first_names = {id(parameter): name for name, parameter in traced.root.named_parameters()}
    found = (_linear_call(node, traced.root, first_names) for node in traced.graph.nodes)
    return [call for call in found if call is not None]


def is_batch_size(node: fx.Node) -> bool:
    """Whether a node asks for the first size of a tensor: x.size(0) or x.shape[0]."""
    if node.op == "call_method" and node.target == "size":
        return bool(node.args[1:] == (0,) or node.kwargs.get("dim") == 0)
    if node.op == "call_function" and node.target is not getattr and node.args[1:] == (0,):
        source = node.args[0]
        return isinstance(source, fx.Node) and bool(
            (source.target is getattr and source.args[1] == "shape")
            or (source.op == "call_method" and source.target == "size" and len(source.args) == 1)
        )
    return False


def users(node: fx.Node) -> list[fx.Node]:
    """What uses a value, questions for its shape left out."""
    return [user for user in node.users if not _asks_for_shape(user)]


def label(node: fx.Node, root: nn.Module) -> str:
    """What a call is called in messages: the module's class or the function's name."""
    if node.op == "call_module":
        return type(root.get_submodule(str(node.target))).__name__
    return str(getattr(node.target, "__name__", node.target)).partition(".")[0]  # aten's are relu_.default


def _linear_call(node: fx.Node, root: nn.Module, first_names: Mapping[int, str]) -> LinearCall | None:
    source, weight, bias = (*node.args, *node.kwargs.values(), None, None, None)[:3]
    if not isinstance(source, fx.Node):
        return None
    bias_name: str | None
    if node.op == "call_module" and isinstance(layer := root.get_submodule(str(node.target)), nn.Linear):
        weight_name = f"{node.target}.weight"
        bias_name = None if layer.bias is None else f"{node.target}.bias"
        name, shape = str(node.target), (layer.out_features, layer.in_features)
    elif node.op == "call_function" and node.target in LINEAR_FUNCTIONS and _is_attribute(weight):
        weight_name = str(weight.target)
        bias_name = str(bias.target) if _is_attribute(bias) else None
        name = weight_name.rpartition(".")[0] or weight_name
        shape = tuple(operator.attrgetter(weight_name)(root).shape)
    else:
        return None

    def first(name: str) -> str:
        return first_names.get(id(operator.attrgetter(name)(root)), name)

    return LinearCall(name, node, first(weight_name), bias_name and first(bias_name), shape)


def _is_attribute(value: object) -> TypeGuard[fx.Node]:
    return isinstance(value, fx.Node) and value.op == "get_attr"


def _link_in_place(graph: fx.Graph, root: nn.Module) -> None:
    """After `h.relu_()`, what reads h reads the result: make that a dependency."""
    order = {node: position for position, node in enumerate(graph.nodes)}
    for node in list(graph.nodes):
        if node.args and isinstance(target := node.args[0], fx.Node) and _is_in_place(node, root):
            for user in list(target.users):
                if order[user] > order[node]:
                    user.replace_input_with(target, node)


def _is_in_place(node: fx.Node, root: nn.Module) -> bool:
    if node.op == "call_module":
        return bool(getattr(root.get_submodule(str(node.target)), "inplace", False))
    if node.op not in ("call_function", "call_method"):
        return False
    name = label(node, root)
    if name in IN_PLACE_OPERATORS or (name.endswith("_") and not name.startswith("__")):
        return True
    try:
        given = inspect.signature(node.target).bind(*node.args, **node.kwargs).arguments  # type: ignore[arg-type]
    except (TypeError, ValueError):  # methods and built-in functions have no signature, and no such argument
        return False
    return given.get("inplace") is True


def _asks_for_shape(node: fx.Node) -> bool:
    return (node.op == "call_method" and node.target in ("size", "dim")) or (
        node.target is getattr and node.args[1] in ("shape", "ndim", "dtype", "device")
    )
