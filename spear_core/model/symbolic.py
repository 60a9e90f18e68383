"""Trace a model symbolically without touching it: on a replica, and without patching `nn.Module`.

`torch.fx.symbolic_trace` replaces `nn.Module.__call__` for the whole process while it runs, which breaks every
other thread that calls a model meanwhile, a training loop or a notebook's own. Here the leaves of a replica
get a forward of their own instead, so that nothing outside the replica notices.
"""

import inspect
from collections import OrderedDict, defaultdict, deque
from types import MethodType
from typing import Any

import torch
from torch import Tensor, fx, nn

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
INNER = ("_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module")  # names in wrappers
CONTAINERS = (list, deque, dict, OrderedDict, defaultdict)
PLAIN = (bool, int, float, str, type(None))  # most of what a module holds


def replicate(model: nn.Module, *, sharing: bool = False) -> nn.Module:
    """A copy of a model's tree of modules with the same parameters, without hooks and without wrappers inside.

    What is set on the copy, swapped in it or put into one of its lists stays there; a module that is used twice stays
    one module. Buffers and other tensors are copies as well, unless `sharing`.
    """
    copies: dict[int, Any] = {}

    def replica(value: Any) -> Any:
        if type(value) in PLAIN:
            return value
        if id(value) in copies:
            return copies[id(value)]
        made = copies[id(value)] = value
        compiled = isinstance(value, torch.jit.ScriptModule)  # which has no Python forward to replace
        if isinstance(value, nn.Module) and not compiled:
            for inner in (value._modules[name] for name in INNER if name in value._modules):
                return replica(inner)
            made = copies[id(value)] = object.__new__(type(value))
            held = {name: replica(own) for name, own in vars(value).items() if name not in HOOKS}
            made.__dict__ = held | {hooks: OrderedDict() for hooks in HOOKS} | {"_compiled_call_impl": None}
        elif type(value) in CONTAINERS:
            made = copies[id(value)] = value.copy()
            for key in list(made) if isinstance(made, dict) else range(len(made)):
                made[key] = replica(made[key])
        elif isinstance(value, set):
            made = value.copy()
        elif type(value) is tuple:
            made = tuple(map(replica, value))
        elif isinstance(value, MethodType) and isinstance(value.__self__, nn.Module):
            made = MethodType(value.__func__, replica(value.__self__))
        elif isinstance(value, Tensor) and not sharing and not isinstance(value, nn.Parameter):
            made = value.detach().clone()
        elif isinstance(value, torch.Generator) and not sharing:
            made = torch.Generator(value.device).set_state(value.get_state())
        copies[id(value)] = made
        return made

    made: nn.Module = replica(model)
    return made


def symbolic(root: nn.Module) -> fx.Graph:
    """The graph of the forward pass of a model's replica; tensors that it makes itself become attributes of that.

    A forward that meets a proxy may raise anything.
    """
    tracer = _Tracer(root)
    args, kwargs = _placeholders(root, tracer)
    output = _instrumented(root, tracer).forward(*args, **kwargs)
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
        # linear layers are read off the calls of F.linear, in a transformer block of torch.nn as well
        looked_into = (nn.Linear, nn.utils.parametrize.ParametrizationList)
        inside = any(isinstance(inner, looked_into) for inner in m.modules())
        return not inside and super().is_leaf_module(m, module_qualified_name)


def _instrumented(root: nn.Module, tracer: _Tracer) -> nn.Module:
    """A replica whose leaves write themselves down when they are called, and whose parameters are proxies."""
    replica = replicate(root, sharing=True)

    def written_down(name: str) -> Any:
        return lambda *args, **kwargs: tracer.create_proxy("call_module", name, args, kwargs)

    for name, module in replica.named_modules():
        if isinstance(module, torch.jit.ScriptModule):  # no replica
            continue
        if module is not replica and tracer.is_leaf_module(module, name):
            module.__dict__["forward"] = written_down(name)
        for own, parameter in module._parameters.items():
            if parameter is not None:
                path = f"{name}.{own}" if name else own
                module.__dict__[own] = tracer.create_proxy("get_attr", path, (), {})
    return replica


def _placeholders(root: nn.Module, tracer: _Tracer) -> tuple[list[fx.Proxy], dict[str, fx.Proxy]]:
    """A proxy for each argument of the forward without a default, the first one in any case; by name where it must."""
    arguments = list(inspect.signature(root.forward).parameters.values())
    needed = [
        own for own in arguments if own.default is own.empty and "VAR" not in own.kind.name
    ] or arguments[:1]
    made = [(own, tracer.create_proxy("placeholder", own.name, (), {})) for own in needed]
    by_name = {own.name: proxy for own, proxy in made if own.kind is own.KEYWORD_ONLY}
    return [proxy for own, proxy in made if own.name not in by_name], by_name
