"""A part of a model, between two values of its graph, as a module that leaves the model alone."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from spear_core.model.graph import Traced, is_batch_size
from spear_core.model.recording import ROWS


class Part(nn.Module):
    """The calls between two nodes of a graph.

    Args:
        root: the model.
        nodes: the calls, in order.
        start: the node whose value is given.
        end: the node whose value is returned.
    """

    def __init__(self, root: nn.Module, nodes: list[fx.Node], start: fx.Node, end: fx.Node) -> None:
        super().__init__()
        self.root, self.nodes, self.start, self.end = root, nodes, start, end

    def forward(self, value: Tensor, dtype: torch.dtype | None) -> Any:
        """Run the calls one after another; values computed from constants alone in `dtype`."""
        values: dict[fx.Node, Any] = {self.start: value}
        for node in self.nodes:
            values[node] = self._run(node, values, value, dtype)
        return values[self.end]

    def _run(
        self, node: fx.Node, values: dict[fx.Node, Any], value: Tensor, dtype: torch.dtype | None
    ) -> Any:
        if is_batch_size(node) and node.all_input_nodes[0] not in values:
            return len(value)
        if node.op == "get_attr":
            found: Any = self.root
            for name in str(node.target).split("."):
                found = getattr(found, name)
            raised = dtype is not None and isinstance(found, Tensor) and found.is_floating_point()
            return found.to(dtype) if raised else found
        args = fx.node.map_arg(node.args, values.__getitem__)
        kwargs = fx.node.map_arg(node.kwargs, values.__getitem__)
        if node.op == "call_module":
            # forward, not the call: a hook of somebody else's would take this run for the client's
            return self.root.get_submodule(str(node.target)).forward(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        return node.target(*args, **kwargs)  # type: ignore[operator]

    def run(self, value: Tensor, dtype: torch.dtype | None = None) -> Any:
        """Run it on a value, without touching the model's buffers or the global random state.

        Args:
            value: what the start node is to hold.
            dtype: what to compute in; by default what the parameters are.
        """
        state: dict[str, Tensor] = {}
        for name in {str(node.target) for node in self.nodes if node.op == "call_module"}:
            module = self.root.get_submodule(name)
            state |= {f"root.{name}.{key}": buffer.clone() for key, buffer in module.named_buffers()}
            if dtype is not None:
                state |= {f"root.{name}.{key}": tensor.detach() for key, tensor in module.named_parameters()}
        if dtype is not None:
            state = {
                name: tensor.to(dtype) if tensor.is_floating_point() else tensor
                for name, tensor in state.items()
            }
        with torch.random.fork_rng(devices=random_devices(value)):
            return functional_call(self, state, (value, dtype)) if state else self(value, dtype)


def part_between(traced: Traced, start: fx.Node, end: fx.Node) -> Part | None:
    """The part of the model that computes one value from another.

    Args:
        traced: the model.
        start: the node whose value is given.
        end: the node whose value is wanted.

    Returns:
        None if `end` also depends on the model's input in a way that does not pass through `start`; the batch
        size does not count.
    """
    needed: set[fx.Node] = set()
    open_nodes = [end]
    after = _descendants(start)
    while open_nodes:
        node = open_nodes.pop()
        if node is start or node in needed:
            continue
        if node.op == "placeholder":
            return None
        needed.add(node)
        if node in after or not is_batch_size(node):
            open_nodes += node.all_input_nodes
    return Part(traced.root, [node for node in traced.graph.nodes if node in needed], start, end)


def replay(traced: Traced, start: fx.Node) -> Callable[[Tensor], Tensor] | None:
    """From a layer's inputs (b, n) to the model's output, differentiable in the model's parameters.

    Args:
        traced: the model.
        start: the node whose value is the layer's input, so that a residual around the layer is followed.

    Returns:
        None if the output also depends on what `start` does not hold, or is not one tensor.
    """
    if traced.trial is not None:
        return _rerun(traced, traced.trial, start)
    output = next(node for node in reversed(traced.graph.nodes) if node.op == "output").args[0]
    if not isinstance(output, fx.Node) or (whole := part_between(traced, start, output)) is None:
        return None
    return whole.run


def random_devices(value: Tensor) -> list[torch.device]:
    """Devices besides the CPU whose random state a run on `value` may move."""
    return [value.device] if value.is_cuda else []


def _rerun(traced: Traced, trial: Tensor, start: fx.Node) -> Callable[[Tensor], Tensor] | None:
    """A recorded graph holds for one batch size only; run the model itself if its input *is* the layer's."""
    placeholder = next(node for node in traced.graph.nodes if node.op == "placeholder")
    before = part_between(traced, placeholder, start)
    if before is None:
        return None
    with torch.no_grad():
        reached, flat = before.run(trial.clone()), trial.reshape(ROWS, -1)
    if reached.shape != flat.shape or not torch.equal(reached, flat):
        return None
    root, shape = traced.root, trial.shape[1:]

    def whole(inputs: Tensor) -> Tensor:
        state = {name: buffer.clone() for name, buffer in root.named_buffers()}
        with torch.random.fork_rng(devices=random_devices(inputs)):
            output: Tensor = functional_call(root, state, (inputs.reshape(len(inputs), *shape),))
        return output

    return whole


def _descendants(start: fx.Node) -> set[fx.Node]:
    found: set[fx.Node] = set()
    open_nodes = [start]
    while open_nodes:
        node = open_nodes.pop()
        if node not in found:
            found.add(node)
            open_nodes += node.users
    return found
