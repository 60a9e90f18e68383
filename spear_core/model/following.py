"""What follows a linear layer: z → s ∘ z + t → σ → s' ∘ y + t' → the next linear layers."""

import operator
from dataclasses import dataclass, replace

import torch
from torch import fx, nn

from spear_core.model.activations import KNOWN, Effect, Elementwise, probe
from spear_core.model.calls import LinearCall
from spear_core.model.folding import Affine
from spear_core.model.graph import Traced, label, users
from spear_core.model.recording import ROWS
from spear_core.model.section import section_between


@dataclass(frozen=True)
class Following:
    """What the output of a linear layer goes through."""

    before: Affine | None = None  # the activation, e.g. BatchNorm in eval mode
    activation: Elementwise | None = None  # σ; None if nothing elementwise follows
    name: str = ""  # of the activation
    after: Affine | None = None  # the activation
    layers: tuple[LinearCall, ...] = ()  # that take the result, nothing else in between
    branches: bool = False  # whether something else takes the result as well
    masked: str = ""  # what is random in between, e.g. Dropout in train mode
    stopped: fx.Node | None = None  # where the chain ends, if not at the model's output or a linear layer

    def describe(self, root: nn.Module) -> str:
        """In a few words, e.g. "BatchNorm1d → ReLU"."""
        affine = self.before.modules if self.before else ()
        steps = [type(root.get_submodule(name)).__name__ for name in affine]
        steps += [self.name] if self.activation else []
        steps += [f"{self.masked} in train mode"] if self.masked else []
        if not steps and self.stopped is not None:
            return label(self.stopped, root)
        return " → ".join(steps) or ("a linear layer" if self.layers else "output")


def follow(traced: Traced, call: LinearCall, calls: list[LinearCall]) -> Following:
    """Walk from a linear layer's output to where it is used next; `calls` are all linear layers of the model."""
    root, shape = traced.root, call.node.meta.get("shape", (ROWS, call.shape[0]))
    device = next(root.parameters()).device
    takers = {other.node: other for other in calls}
    here = start = call.node  # of the walk, of the activation
    way = Following()
    while True:
        # where the chain of single steps ends
        found = tuple(takers[user] for user in users(here) if user in takers)
        step = None if found else _next(traced, here)
        if step is None or step.op == "output":
            return replace(way, layers=found, branches=len(users(here)) > 1)
        # what the next step does to made-up inputs, and so what it adds to the chain
        if way.activation is None:
            start = here
        effect = _effect(traced, here, step, shape, device)
        modules = (str(step.target),) if step.op == "call_module" else ()
        if effect.kind == "random":
            way = replace(way, masked=label(step, root))
        elif effect.kind == "affine" and way.activation is None:
            way = replace(way, before=Affine.of(effect, modules, way.before))
        elif effect.kind == "affine" and way.name in KNOWN:
            way = replace(way, after=Affine.of(effect, modules, way.after))
        elif effect.kind != "identity":
            # ReLU in five lines of arithmetic: not one of them is elementwise and known, all of them together are
            whole = effect if start is here else _effect(traced, start, step, shape, device)
            if whole.kind != "elementwise":
                return replace(way, stopped=step)
            name = whole.name or " ".join(filter(None, (way.name, label(step, root))))
            way = replace(way, activation=whole.function, name=name, after=None)
        here = step


def _next(traced: Traced, node: fx.Node) -> fx.Node | None:
    """The first call that all ways from a value lead through: its only user, or where its users meet."""
    if not users(node):
        return None
    seen = {node}
    for candidate in traced.graph.nodes:
        if seen.isdisjoint(candidate.all_input_nodes) or candidate in seen:
            continue
        if all(user in seen or user is candidate for value in seen for user in users(value)):
            return _first_of_tuple(candidate)
        seen.add(candidate)
    return None


def _first_of_tuple(node: fx.Node) -> fx.Node:
    """Of a call with several results, the one that takes the first, if no other is taken; else the call."""
    taker = next(iter(node.users)) if len(node.users) == 1 else node
    return taker if taker.target is operator.getitem and taker.args[1] == 0 else node


def _effect(
    traced: Traced, start: fx.Node, end: fx.Node, shape: tuple[int, ...], device: torch.device
) -> Effect:
    if end.op == "call_module" and end.all_input_nodes == [start]:
        module = traced.root.get_submodule(str(end.target))
        if type(module) is nn.ReLU and "forward" not in vars(module):  # no need to ask the commonest of all
            return Effect("elementwise", function=torch.relu, name="ReLU")
    section = section_between(traced, start, end)
    return Effect("other") if section is None else probe(section, shape, device)
