"""A model as a graph of calls: what happens to a tensor is read off the real forward, not the module list.

A symbolic trace needs no input. Where there is none (control flow on data or shapes), the model is run once on
an example or a made-up input, and its calls are recorded into the same kind of graph.
"""

import inspect
import random
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import fx, nn

from spear_core.errors import InputError
from spear_core.model.recording import record
from spear_core.model.symbolic import replicate, symbolic

IN_PLACE_OPERATORS = ("iadd", "isub", "imul", "itruediv")


@dataclass(frozen=True)
class Traced:
    """A model and its graph."""

    root: nn.Module  # a replica of the model, without wrappers: what is done to it leaves the original alone
    graph: fx.Graph  # its calls, each after those whose results it takes


def trace(model: nn.Module, example: object = None) -> Traced:
    """The graph of a model's forward pass; with an example for it, a tensor, tuple or dict, recorded on that.

    `InputError` if neither tracing nor running it works. Random states are afterwards as they were.
    """
    inner, failures = unwrap(model), []
    python, arrays = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = {parameter.device for parameter in inner.parameters() if parameter.is_cuda}
    with torch.random.fork_rng(devices=list(devices)):
        for attempt in (symbolic, record) if example is None else (partial(record, example=example),):
            root = replicate(inner)  # a new one for each: a forward may leave anything in it
            try:
                graph = attempt(root)
                _link_in_place(graph, root)
                return Traced(root, graph)
            except Exception as failure:  # a forward may raise anything
                failures.append(failure)
            finally:
                random.setstate(python)
                np.random.set_state(arrays)  # noqa: NPY002
    must = "run on example_input, a tensor, tuple or dict for its forward"
    if example is None:
        must = "be traceable by torch.fx or run on a batch of its first layer's size or on an example_input"
    why = f"{type(failures[0]).__name__}: {' '.join(str(failures[0]).split())[:300]}"
    raise InputError(
        f"model must {must}, got {type(model).__name__}, which does not ({why}); invert_layer needs no model"
    ) from failures[0]


def unwrap(model: nn.Module) -> nn.Module:
    """The module inside DataParallel, torch.compile or Opacus wrappers."""
    if isinstance(model, torch.jit.ScriptModule):
        return model
    parallel = isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel)
    for name in ("module",) if parallel else ("_orig_mod", "_module"):
        if (inner := model._modules.get(name)) is not None:
            return unwrap(inner)
    return model


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
    return [user for user in node.users if not asks_for_shape(user)]


def asks_for_shape(node: fx.Node) -> bool:
    """Whether a node asks for a tensor's shape, kind or place."""
    return (node.op == "call_method" and node.target in ("size", "dim")) or (
        node.target is getattr and node.args[1] in ("shape", "ndim", "dtype", "device")
    )


def label(node: fx.Node, root: nn.Module) -> str:
    """What a call is called in messages: the module's class or the function's name."""
    if node.op == "call_module":
        return type(root.get_submodule(str(node.target))).__name__
    return str(getattr(node.target, "__name__", node.target)).partition(".")[0]  # aten's are relu_.default


def before(node: fx.Node) -> set[fx.Node]:
    """All that a value depends on, itself included."""
    found = {node}
    for earlier in reversed(node.graph.nodes):
        found.update(earlier.all_input_nodes if earlier in found else ())
    return found


def is_dropout(node: fx.Node, root: nn.Module) -> bool:
    """Whether a call drops at random: a dropout in train mode."""
    if node.op == "call_module":
        module = root.get_submodule(str(node.target))
        return isinstance(module, nn.modules.dropout._DropoutNd) and module.training and module.p > 0
    given = dict(zip(("input", "p", "training"), node.args)) | node.kwargs
    return "dropout" in label(node, root) and bool(given.get("training", True) and given.get("p", 0.5))


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
