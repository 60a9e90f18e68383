"""The front part of a model: what stands between the network's inputs and the attacked layer, as one map x ↦ F(x)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx

from spear_core.errors import InputError
from spear_core.model.calls import LinearCall
from spear_core.model.graph import asks_for_shape
from spear_core.model.reading import Reading
from spear_core.model.section import Section, section_between

Map = Callable[[Tensor], Tensor]

LARGE, AFFINE = 100.0, 1e-12  # size of inputs for which an affine map is told, and its misfit, relative
SAME = 1e-3  # relative difference up to which two runs in float32 are the same


@dataclass(frozen=True)
class Front:
    """F, from inputs of the network, shape (b, *shape), to inputs of the attacked layer, shape (b, n).

    Attributes:
        section: the calls of the model.
        shape: of one input.
        layer: name of the attacked layer.
        alone: whether nothing else of the model takes the input, the features or what lies between.
        affine: whether F is affine, so that it has no kinks, and one solution at most where J has full rank.
        bottlenecks: the values that all of F passes through on its way, each as a front part of its own.
        obstacle: why F cannot be inverted one sample at a time; empty if it can.
    """

    section: Section
    shape: tuple[int, ...]
    layer: str
    alone: bool
    affine: bool = False
    bottlenecks: tuple["Front", ...] = ()
    obstacle: str = ""

    def features(self, inputs: Tensor) -> Tensor:
        """F in the inputs' precision."""
        found: Tensor = self.section.run(inputs.clone(), inputs.dtype)  # a copy: calls may work in place
        return found


def linearised(features: Map, x: Tensor) -> tuple[Map, Map]:
    """v ↦ J v and w ↦ Jᵀ w of all samples at once, J the derivative of F at x.

    Back-propagation is linear in w, so that its own derivative is J: no second kind of derivative is needed.
    """
    x = x.detach().requires_grad_(True)
    y = features(x)
    w = torch.zeros_like(y, requires_grad=True)
    (slope,) = torch.autograd.grad(y, x, w, create_graph=True)

    def forward(v: Tensor) -> Tensor:
        several = v.dim() > x.dim()  # directions for each sample
        return torch.autograd.grad(slope, w, v, retain_graph=True, is_grads_batched=several)[0]

    def back(u: Tensor) -> Tensor:
        return torch.autograd.grad(y, x, u, retain_graph=True)[0]

    return forward, back


def front_of(reading: Reading, call: LinearCall, shape: tuple[int, ...], like: Tensor) -> Front:
    """The front part before a layer, for inputs of a shape; `like` tells the device.

    Raises:
        InputError: if the model does not take such inputs, or makes something else of them than that layer's.
    """
    starts = [node for node in reading.traced.graph.nodes if node.op == "placeholder" and node.users]
    end, n = call.node.all_input_nodes[0], call.shape[1]
    must = f"input_shape must be that of one input, which becomes {n} numbers before layer {call.name!r}, got"
    section = section_between(reading.traced, starts[0], end) if starts else None
    if section is None:
        raise InputError(f"{must} {shape} for a model whose layer {call.name!r} takes several inputs")
    trial = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0)).to(like.device)
    front = Front(section, shape, call.name, _alone(section, call))
    try:
        found = front.features(trial)
    except Exception as error:  # calls may raise anything
        raise InputError(f"{must} {shape}: {str(error).splitlines()[0][:200]}") from error
    if not isinstance(found, Tensor) or found.shape != (3, n):
        raise InputError(f"{must} {shape}, which becomes {tuple(getattr(found, 'shape', ()))[1:]}")
    parts = [Front(part, shape, call.name, False) for part in bottlenecks(section).values()]
    parts = [part for part in parts if isinstance(part.features(trial), Tensor)]
    parts = [replace(part, affine=_is_affine(part, trial)) for part in parts]
    affine, obstacle = _is_affine(front, trial), _obstacle(front, trial, found)
    return replace(front, affine=affine, bottlenecks=tuple(parts), obstacle=obstacle)


def bottlenecks(section: Section) -> dict[fx.Node, Section]:
    """The parts of a section up to each value that everything from its start on passes through."""
    nodes, reached = section.nodes, _reached(section)
    found = {}
    for place, node in enumerate(nodes[:-1], start=1):
        before = {section.start, *nodes[:place]}
        if {taken for user in nodes[place:] for taken in _values(user)} & before & reached == {node}:
            found[node] = section.up_to(node)
    return found


def _is_affine(front: Front, trial: Tensor) -> bool:
    a, b = (LARGE * trial.to(torch.float64)).split([1, 2])
    zero, of_a, of_b, of_sum = (front.features(x) for x in (torch.zeros_like(a), a, b, a + b))
    return bool((of_sum - of_a - of_b + zero).norm() <= AFFINE * of_sum.norm())


def _obstacle(front: Front, trial: Tensor, found: Tensor) -> str:
    """Samples must go through one by one, and come out the same each time."""
    what = "the front part treats samples together or at random: is a BatchNorm or Dropout in train mode? "
    what += "Network inputs are not sought then"
    try:
        single = torch.cat([front.features(one[None]) for one in trial])
    except Exception:  # as BatchNorm does of a single sample
        return what
    return "" if bool((single - found).norm() <= SAME * found.norm()) else what


def _reached(section: Section) -> set[fx.Node]:
    """What depends on the start."""
    reached = {section.start}
    for node in section.nodes:
        if not reached.isdisjoint(_values(node)):
            reached.add(node)
    return reached


def _values(node: fx.Node) -> list[fx.Node]:
    """What a call takes as a value, not for its shape."""
    return [] if asks_for_shape(node) else node.all_input_nodes


def _alone(section: Section, call: LinearCall) -> bool:
    inside: set[Any] = {call.node, *section.nodes}
    return all(user in inside or asks_for_shape(user) for node in _reached(section) for user in node.users)
