"""The client of a world: what it fed into every layer is kept, as the truth that certificates are judged by."""

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from spear_core import client

from .batches import log_uniform
from .losses import Loss

Batch = tuple[Tensor, Tensor]
Grads = dict[str, Tensor]


@dataclass(frozen=True)
class Fed:
    """What a linear layer was fed with: rows (k, n) and ∂L/∂z of each, (k, m), float64; whether ReLU follows it."""

    rows: Tensor
    output_grads: Tensor
    relu: bool = True


@dataclass
class Client:
    """Network, loss, and where the next batch comes from; every pass is remembered."""

    rng: random.Random
    model: nn.Module
    loss: Loss
    batch: Batch
    another: Callable[[], Batch]
    passes: list[dict[str, Fed]] = field(default_factory=list)

    def gradient(self, batch: Batch | None = None, weights: nn.Module | None = None) -> Grads:
        """∂L/∂θ of a batch, by default the client's own, at some weights, by default those that the server knows."""
        model, (inputs, targets) = weights or self.model, batch or self.batch
        named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        with _Recorder(model) as seen:
            loss = self.loss(model(inputs).flatten(0, -2), targets)
        outputs = [out for _, _, out in seen.calls]
        found = torch.autograd.grad(loss, [*named.values(), *outputs], allow_unused=True)
        fed: dict[str, list[tuple[Tensor, Tensor]]] = {}
        for (name, rows, out), grad in zip(seen.calls, found[len(named) :], strict=True):
            grad = torch.zeros_like(out) if grad is None else grad
            fed.setdefault(name, []).append((rows.flatten(0, -2), grad.flatten(0, -2)))
        self.passes.append({n: Fed(*(torch.cat(part).double() for part in zip(*f))) for n, f in fed.items()})
        return {name: grad for name, grad in zip(named, found) if grad is not None}

    def fed(self, name: str, shape: tuple[int, int]) -> Fed | None:
        """All that a layer was fed with, copies from later passes left out; without a name, one of its shape."""
        found: Fed | None = None
        for one in self.passes:
            like = (f for f in one.values() if (f.output_grads.shape[1], f.rows.shape[1]) == shape)
            if (now := one.get(name) or next(like, None)) is None:
                continue
            if found is None:
                found = now
                continue
            new = ~(now.rows[:, None] == found.rows).all(dim=2).any(dim=1)
            rows, grads = torch.cat([found.rows, now.rows[new]]), now.output_grads[new]
            found = Fed(rows, torch.cat([found.output_grads, grads]))
        return found


class _Recorder(TorchFunctionMode):
    """Inputs and outputs of all calls of `F.linear`, by the name of the layer whose weight or bias they use."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.owners = {id(p): name.rpartition(".")[0] for name, p in model.named_parameters()}
        self.calls: list[tuple[str, Tensor, Tensor]] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func is F.linear:
            owner = next((self.owners[id(p)] for p in args[1:] if id(p) in self.owners), "")
            self.calls.append((owner, args[0].detach().clone(), out))
            return out.clone()  # what works in place leaves the output alone whose gradient is asked for
        return out


# ---------------------------------------------------------------- what clients do beside one gradient
def _stale(me: Client) -> Grads:
    """The server has moved on by one step."""
    grads, rate = me.gradient(), log_uniform(me.rng, 1e-6, 0.1)
    with torch.no_grad():
        for name, parameter in me.model.named_parameters():
            if name in grads:
                parameter -= rate * grads[name]
    return grads


def _momentum(me: Client) -> Grads:
    """The last step's gradient is part of this one."""
    before = copy.deepcopy(me.model)
    last, rate = me.gradient(me.another(), before), log_uniform(me.rng, 1e-4, 0.1)
    with torch.no_grad():
        for name, parameter in me.model.named_parameters():
            parameter -= rate * last.get(name, torch.zeros(())).to(parameter)
    return _sum(me.gradient(), last, 0.9)


def _two_clients(me: Client) -> Grads:
    return _sum(me.gradient(), me.gradient(me.another()))


def _local_steps(me: Client) -> Grads:
    """FedAvg, sent as if it were a gradient: on all samples each time, or on half of them."""
    rate, steps, weights = log_uniform(me.rng, 1e-4, 0.3), me.rng.randint(2, 8), copy.deepcopy(me.model)
    per_step = len(me.batch[0]) if me.rng.random() < 0.5 else -(-len(me.batch[0]) // 2)
    total: Grads = {}
    if len(me.batch[0]) != len(me.batch[1]):  # of sequences with a target for every token
        per_step = len(me.batch[0])
    for _, rows in zip(range(steps), client.messages.minibatches(len(me.batch[0]), per_step)):
        part = me.batch if per_step == len(me.batch[0]) else (me.batch[0][rows], me.batch[1][rows])
        grads = me.gradient(part, weights)
        with torch.no_grad():
            for name, parameter in weights.named_parameters():
                parameter -= rate * grads.get(name, torch.zeros(())).to(parameter)
        total = _sum(grads, total) if total else grads
    return total


def _weight_decay(me: Client) -> Grads:
    decay, named = log_uniform(me.rng, 1e-6, 1e-1), dict(me.model.named_parameters())
    return {name: grad + decay * named[name].detach() for name, grad in me.gradient().items()}


def _adaptive(me: Client) -> Grads:
    """Adam's first step."""
    return {name: grad / (grad.abs() + 1e-8) for name, grad in me.gradient().items()}


def _clipped_one_by_one(me: Client) -> Grads:
    """DP-SGD without its noise, or with a little."""
    grads = me.gradient()
    if len(me.batch[0]) != len(me.batch[1]):
        return grads
    norm = log_uniform(me.rng, 1e-2, 1)
    noise = me.rng.choice((0, 0, 1e-4))

    def loss(output: Tensor, targets: Tensor) -> Tensor:  # of tokens, too, of which a sample may have one
        return me.loss(output.flatten(0, -2), targets)

    return client.clipped(me.model, *me.batch, loss, norm=norm, noise_multiplier=noise)


def _sum(grads: Grads, others: Grads, weight: float = 1.0) -> Grads:
    return {name: grad + weight * others[name] if name in others else grad for name, grad in grads.items()}


KINDS: dict[str, Callable[[Client], Grads]] = {
    "stale weights": _stale,
    "momentum": _momentum,
    "two clients": _two_clients,
    "local steps": _local_steps,
    "weight decay": _weight_decay,
    "adaptive": _adaptive,
    "clipped one by one": _clipped_one_by_one,
}
