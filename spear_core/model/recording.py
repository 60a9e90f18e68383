"""Record one real forward pass as a graph, for models that cannot be traced symbolically."""

import math
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

ROWS = 4  # samples of the made-up batch
SIDES = (28, 32, 16, 8, 64, 96, 128, 224)  # of made-up images, common ones first
TOKENS = 8  # of made-up sequences
CHANNELS = (1, 3)  # of images that are flattened before their first layer


def record(root: nn.Module, example: Any = None) -> fx.Graph:
    """Run a model once and write down its calls: on an example, a tensor, tuple or dict, or on a made-up batch.

    Parameters and buffers stay as they are. Tensors that the forward makes itself become attributes of the
    model, so give a copy. Raises what the forward raises.
    """
    failure: Exception = LookupError("no input to try")
    for trial in _trials(root) if example is None else _twice(example):
        kwargs = trial if isinstance(trial, dict) else {}
        args = () if kwargs else tuple(trial) if isinstance(trial, tuple | list) else (trial,)
        # a forward may also change its parameters in place
        given = (*root.named_parameters(), *root.named_buffers())
        state = {name: tensor.detach().clone() for name, tensor in given}
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        recorder = _Recorder(root, state, inputs)
        try:
            with torch.no_grad(), recorder:
                output = functional_call(root, state, args, kwargs)
            recorder.finish(output)
            return recorder.graph
        except Exception as error:  # the wrong shape for this model: its forward may raise anything
            failure = error
    raise failure


class _Recorder(TorchFunctionMode):
    """Writes every call that makes or changes a tensor into a graph."""

    def __init__(self, root: nn.Module, state: Mapping[str, Tensor], inputs: Iterable[Tensor]) -> None:
        super().__init__()
        self.graph = fx.Graph()
        self._root = root
        self._nodes = {id(value): self.graph.placeholder("value") for value in inputs}
        self._names = {id(tensor): name for name, tensor in (*root.named_parameters(), *state.items())}
        self._alive: list[Any] = []  # an id stands for a tensor only while that tensor lives

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func is Tensor.__setitem__:
            self._nodes[id(args[0])] = self._call(_set_item, args, kwargs)
        elif isinstance(result, Tensor):
            self._nodes[id(result)] = self._call(func, args, kwargs)
            self._nodes[id(result)].meta["shape"] = result.shape
        elif isinstance(result, tuple | list) and any(isinstance(part, Tensor) for part in result):
            node = self._call(func, args, kwargs)
            for position, part in enumerate(result):
                self._nodes[id(part)] = self.graph.call_function(operator.getitem, (node, position))
        self._alive.append(result)
        return result

    def finish(self, output: Any) -> None:
        """Name what the model returned."""
        self.graph.output(fx.node.map_aggregate(output, self._argument))

    def _call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> fx.Node:
        return self.graph.call_function(func, *fx.node.map_aggregate((args, kwargs), self._argument))

    def _argument(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if id(value) in self._nodes:
            return self._nodes[id(value)]
        if id(value) not in self._names:
            self._names[id(value)] = name = f"_constant_{len(self._names)}"
            setattr(self._root, name, value)
        return self.graph.create_node("get_attr", self._names[id(value)])


def _twice(example: Any) -> Iterable[Any]:
    """An example; of one sample, it twice before that: of one alone nobody could tell what the batch changes."""
    tensors = [leaf for leaf in tree_leaves(example) if isinstance(leaf, Tensor)]
    if all(tensor.shape[:1] == (1,) for tensor in tensors):
        yield tree_map(lambda leaf: torch.cat([leaf, leaf]) if isinstance(leaf, Tensor) else leaf, example)
    yield example


def _set_item(target: Tensor, index: Any, value: Any) -> Tensor:
    target[index] = value
    return target


def _trials(root: nn.Module) -> Iterable[Tensor]:
    """Made-up batches in the shapes that the model's layers suggest."""
    reference = next((p for p in root.parameters() if p.is_floating_point()), None)
    if reference is None:
        return
    generator = torch.Generator().manual_seed(0)
    for shape in _shapes(root):
        # positive and below one, as images are
        yield torch.rand(shape, generator=generator).to(reference.device, reference.dtype)
    if any(isinstance(module, nn.Embedding) for module in root.modules()):
        yield torch.ones(ROWS, TOKENS, dtype=torch.int64, device=reference.device)


def _shapes(root: nn.Module) -> Iterable[tuple[int, ...]]:
    for module in root.modules():
        if isinstance(module, nn.Conv2d):
            yield from ((ROWS, module.in_channels, side, side) for side in SIDES)
        elif isinstance(module, nn.Conv1d):
            yield from ((ROWS, module.in_channels, side) for side in SIDES)
        elif isinstance(module, nn.Linear):
            n = module.in_features
            yield (ROWS, n)
            for channels in CHANNELS:
                side = math.isqrt(n // channels)
                if channels * side * side == n:
                    yield (ROWS, channels, side, side)
            yield (ROWS, TOKENS, n)
