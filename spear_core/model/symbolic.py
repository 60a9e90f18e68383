"""Trace a model symbolically without touching it: on a replica, and without patching `nn.Module`.

`torch.fx.symbolic_trace` replaces `nn.Module.__call__` for the whole process while it runs, which breaks every
other thread that calls a model meanwhile, a training loop or a notebook's own. Here the leaves of a replica
get a forward of their own instead, so that nothing outside the replica notices.
"""

import inspect
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, fx, nn

HOOKS = ("_forward_hooks", "_forward_pre_hooks")


def replicate(model: nn.Module) -> nn.Module:
    """A copy of a model's tree of modules that shares its tensors.

    What is set on the copy, or swapped in it, stays there; a module that is used twice stays one module.
    """
    copies: dict[int, nn.Module] = {}

    def copy(module: nn.Module) -> nn.Module:
        if id(module) not in copies:
            if isinstance(module, torch.jit.ScriptModule):  # compiled: it has no Python forward to replace
                return module
            made = copies[id(module)] = object.__new__(type(module))
            made.__dict__ = {
                **module.__dict__,
                "_parameters": module._parameters.copy(),
                "_buffers": module._buffers.copy(),
                "_modules": type(module._modules)(),
            }
            for name, child in module._modules.items():
                made._modules[name] = None if child is None else copy(child)
        return copies[id(module)]

    return copy(model)


def symbolic(root: nn.Module) -> fx.Graph:
    """The graph of the forward pass of a model's replica; tensors that it makes itself become attributes of that.

    A forward that meets a proxy may raise anything.
    """
    tracer = _Tracer(root)
    output = _instrumented(root, tracer).forward(*_placeholders(root, tracer))
    tracer.create_node("output", "output", (tracer.create_arg(output),), {})
    for node in reversed(tracer.graph.nodes):
        if node.op == "get_attr" and not node.users:
            tracer.graph.erase_node(node)
    return tracer.graph


class _Tracer(fx.Tracer):
    def __init__(self, root: nn.Module) -> None:
        super().__init__()
        self.root = root
        self.graph = fx.Graph(tracer_cls=type(self))
        self.tensor_attrs = {
            value: ".".join(filter(None, (prefix, name)))
            for prefix, module in root.named_modules()
            for name, value in module.__dict__.items()
            if isinstance(value, Tensor)
        }

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # a transformer block of torch.nn holds linear layers: look inside
        holds_layers = any(isinstance(inner, nn.Linear) for inner in m.modules())
        is_leaf = isinstance(m, nn.Linear) or not holds_layers
        return is_leaf and super().is_leaf_module(m, module_qualified_name)


def _instrumented(root: nn.Module, tracer: _Tracer) -> nn.Module:
    """A replica whose leaves write themselves down when they are called, and whose other parameters are proxies."""
    replica = replicate(root)

    def written_down(name: str) -> Any:
        return lambda *args, **kwargs: tracer.create_proxy("call_module", name, args, kwargs)

    for name, module in replica.named_modules():
        if isinstance(module, torch.jit.ScriptModule):  # no replica
            continue
        module.__dict__["_compiled_call_impl"] = None
        if module is not replica and tracer.is_leaf_module(module, name):
            module.__dict__ |= {hooks: OrderedDict() for hooks in HOOKS}
            module.__dict__["forward"] = written_down(name)
            continue
        for own, parameter in module._parameters.items():
            if parameter is not None:
                path = f"{name}.{own}" if name else own
                module.__dict__[own] = tracer.create_proxy("get_attr", path, (), {})
    return replica


def _placeholders(root: nn.Module, tracer: _Tracer) -> list[fx.Proxy]:
    """A proxy for each argument of the forward without a default, the first one in any case."""
    arguments = list(inspect.signature(root.forward).parameters.values())
    needed = [own for own in arguments if own.default is own.empty and own.kind < own.VAR_POSITIONAL]
    return [tracer.create_proxy("placeholder", own.name, (), {}) for own in needed or arguments[:1]]
