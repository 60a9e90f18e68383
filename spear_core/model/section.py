"""A section of a model, between two values of its graph, as a module that leaves the model alone."""

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from spear_core.model.graph import Traced, before, is_batch_size


class Section(nn.Module):
    """The calls between two nodes of a graph, in order: the value of `start` is given, that of `end` returned.

    Of several ends, all values, in a tuple.
    """

    def __init__(
        self, root: nn.Module, nodes: list[fx.Node], start: fx.Node, end: fx.Node | tuple[fx.Node, ...]
    ) -> None:
        super().__init__()
        self.root, self.nodes, self.start, self.end = root, nodes, start, end

    def forward(self, value: Tensor, dtype: torch.dtype, given: Mapping[str, Tensor]) -> Any:
        """Run the calls one after another; what the model holds takes part in `dtype`."""
        values: dict[fx.Node, Any] = {self.start: value}
        for node in self.nodes:
            values[node] = self._run(node, values, value, dtype, given)
        return fx.node.map_arg(self.end, values.__getitem__)

    def up_to(self, end: fx.Node | tuple[fx.Node, ...]) -> "Section":
        """The part that computes one of the values on the way, or several."""
        needed = set().union(*map(before, end if isinstance(end, tuple) else (end,)))
        return Section(self.root, [node for node in self.nodes if node in needed], self.start, end)

    def taken(self) -> dict[str, Tensor]:
        """Parameters that the calls take, by their names in the model."""
        modules = [f"{node.target}." for node in self.nodes if node.op == "call_module"]
        names = {str(node.target) for node in self.nodes if node.op == "get_attr"}
        everything = self.root.named_parameters(remove_duplicate=False)
        return {name: p for name, p in everything if name in names or name.startswith(tuple(modules))}

    def _run(
        self,
        node: fx.Node,
        values: dict[fx.Node, Any],
        value: Tensor,
        dtype: torch.dtype,
        given: Mapping[str, Tensor],
    ) -> Any:
        if is_batch_size(node) and node.all_input_nodes[0] not in values:
            return len(value)
        if node.op == "get_attr":
            if str(node.target) in given:
                return given[str(node.target)]
            found = operator.attrgetter(str(node.target))(self.root)
            return _in(dtype, found) if isinstance(found, Tensor) else found
        args = fx.node.map_arg(node.args, values.__getitem__)
        kwargs = fx.node.map_arg(node.kwargs, values.__getitem__)
        if node.op == "call_module":
            # forward, not the call: a hook of somebody else's would take this run for the client's
            return self.root.get_submodule(str(node.target)).forward(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        return node.target(*args, **kwargs)  # type: ignore[operator]

    def run(self, value: Tensor, dtype: torch.dtype, given: Mapping[str, Tensor] | None = None) -> Any:
        """Run it on a value in `dtype`, without touching the model's buffers or the global random state.

        Parameters that are `given` by name take the place of the model's own, so that they can have gradients.
        """
        given = given or {}
        state: dict[str, Tensor] = {}
        for name in {str(node.target) for node in self.nodes if node.op == "call_module"}:
            module = self.root.get_submodule(name)
            state |= {f"root.{name}.{key}": tensor for key, tensor in module.named_parameters()}
            state |= {f"root.{name}.{key}": buffer for key, buffer in module.named_buffers()}
        state = {
            name: given[short] if (short := name.removeprefix("root.")) in given else _in(dtype, tensor)
            for name, tensor in state.items()
        }
        with torch.random.fork_rng(devices=random_devices(value)):
            return functional_call(self, state, (value, dtype, given))


def section_between(traced: Traced, start: fx.Node, end: fx.Node) -> Section | None:
    """The section of the model that computes the value of `end` from that of `start`.

    None if `end` also depends on the model's input in a way that does not pass through `start`; the batch size does
    not count.
    """
    after, needed = {start}, {end}
    # what a call takes stands before it in the graph
    for node in traced.graph.nodes:
        if not after.isdisjoint(node.all_input_nodes):
            after.add(node)
    for node in reversed(traced.graph.nodes):
        if node in needed and node is not start and (node in after or not is_batch_size(node)):
            needed.update(node.all_input_nodes)
    nodes = [node for node in traced.graph.nodes if node in needed and node is not start]
    if any(node.op == "placeholder" for node in nodes):
        return None
    return Section(traced.root, nodes, start, end)


def random_devices(value: Tensor) -> list[torch.device]:
    """Devices besides the CPU whose random state a run on `value` may move."""
    return [value.device] if value.is_cuda else []


def _in(dtype: torch.dtype, tensor: Tensor) -> Tensor:
    # a copy: what follows may work in place
    return tensor.detach().to(dtype if tensor.is_floating_point() else tensor.dtype, copy=True)
