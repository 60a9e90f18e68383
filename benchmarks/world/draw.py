"""A world from a seed."""

import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spear_core.attack.options import METHODS

from . import batches, client, losses, networks, tampering

MOST = 40  # samples


@dataclass(frozen=True)
class World:
    """What is given to the attack, and the truth behind it.

    Attributes:
        seed: it was drawn from.
        words: what it is made of: data, network, loss, start, tampering, call.
        model: what the server knows; so are the `gradients`, by name.
        options: of `invert`.
        by_layer: whether `invert_layer` is called, with the tensors of the first layer alone.
        patience: None, or the `time_limit` as a share of what a trial may take.
        client: who made the gradients.
    """

    seed: int
    words: dict[str, str]
    model: nn.Module
    gradients: dict[str, Tensor]
    options: dict[str, object]
    by_layer: bool
    patience: float | None
    client: client.Client

    def __str__(self) -> str:
        lines = [f"{name:10} {text}" for name, text in self.words.items()]
        return "\n".join([f"world {self.seed}", *lines, str(self.model), f"options {self.options}"])


def draw(seed: int, *, alike: bool = False, method: str | None = None) -> World:
    """The world of a seed; `alike`: of samples that resemble each other, and of raw tables; with a method or any.

    The global state of torch's random numbers is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        rng = random.Random(f"{'alike' if alike else 'world'} {seed}")
        torch.manual_seed(rng.getrandbits(60))
        return _drawn(seed, rng, alike, method)


def _drawn(seed: int, rng: random.Random, alike: bool, method: str | None) -> World:
    b = round(
        batches.log_uniform(rng, 2, 12 if rng.random() < 0.8 else MOST)
        if alike
        else batches.log_uniform(rng, 1, MOST)
    )
    data, make = batches.drawn(rng, alike)
    another = _again(make, rng, b)
    rows = another()
    loss_name, loss, outputs = losses.drawn(rng, alike)
    network, model = networks.drawn(rng, *rows.shape, outputs, alike)
    dtype = torch.float64 if rng.random() < 0.4 else torch.float32
    unit = 1.0 if alike or rng.random() < 0.92 else batches.log_uniform(rng, 1e-4, 1e6)
    model = model.to(dtype)

    tokens = rng.randint(1, 6) if isinstance(model, networks.Tokens) else 0

    def batch() -> client.Batch:
        inputs, count = another().to(dtype) * unit, b
        if tokens:
            t = min(tokens, len(inputs))
            inputs = inputs[: len(inputs) // t * t].reshape(-1, t, inputs.shape[1])
            count = len(inputs) if model.pool else len(inputs) * t
        targets = losses.targets(rng, loss_name, count if tokens else len(inputs), outputs)
        return inputs, targets.to(dtype) if targets.is_floating_point() else targets

    start = _start(rng, model, loss, batch)
    me = client.Client(rng, model, loss, batch(), batch)
    tampered, gradients = _sent(me, alike)
    call, options, by_layer, patience = _call(rng, me, method)
    sizes = f"b = {'×'.join(map(str, me.batch[0].shape[:-1]))}, n = {me.batch[0].shape[-1]}"
    words = {
        "data": f"{data}; {sizes}, {str(dtype)[6:]}" + f", times {unit:.0e}" * (unit != 1),
        "network": network,
        "loss": loss_name,
        "start": start,
        "tampering": tampered,
        "call": call,
    }
    return World(seed, words, model, gradients, options, by_layer, patience, me)


def _again(make: batches.Batches, rng: random.Random, b: int) -> Callable[[], Tensor]:
    """Draws batches of the same choices, so of the same size, with other samples each time."""
    own = random.Random(rng.getrandbits(60))
    state = own.getstate()

    def rows() -> Tensor:
        own.setstate(state)
        return make(own, b)

    return rows


def _start(rng: random.Random, model: nn.Module, loss: losses.Loss, batch: Callable[[], client.Batch]) -> str:
    """Weights: initialised in one of several ways, then trained for some steps on other batches of the kind."""
    way = rng.choice((*["default"] * 5, "zero biases", "zero biases", "orthogonal", "zero head"))
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    for layer in linear:
        if way != "default" and layer.bias is not None and (way != "zero head" or layer is linear[-1]):
            nn.init.zeros_(layer.bias)
    if way == "zero head":
        nn.init.zeros_(linear[-1].weight)
    if way == "orthogonal":
        for layer in linear:
            nn.init.orthogonal_(layer.weight)
    steps = rng.randint(1, 100) if rng.random() < 0.4 or way == "zero head" else 0
    rate = batches.log_uniform(rng, 1e-3, 0.3)
    parameters = list(model.parameters())
    inputs, targets = batch()
    for _ in range(steps):
        grads = torch.autograd.grad(
            loss(model(inputs).flatten(0, -2), targets), parameters, allow_unused=True
        )
        with torch.no_grad():
            for parameter, grad in zip(parameters, grads):
                if grad is not None:  # clipped, so that raw tables do not blow it up
                    parameter -= rate * grad / grad.norm().clamp_min(1)
    return f"{way}, {steps} steps" if steps else way


def _sent(me: client.Client, alike: bool) -> tuple[str, dict[str, Tensor]]:
    """Half of the time what an honest client sends, else something that happened to it."""
    names = [*tampering.KINDS, *client.KINDS]
    name = "none" if me.rng.random() < (0.9 if alike else 0.5) else me.rng.choice(names)
    if name in client.KINDS:
        return name, {n: g.detach() for n, g in client.KINDS[name](me).items()}
    grads = me.gradient()
    return name, tampering.KINDS[name](me.rng, grads) if name in tampering.KINDS else grads


def _call(
    rng: random.Random, me: client.Client, method: str | None
) -> tuple[str, dict[str, object], bool, float | None]:
    """Options of `invert`, in words and by name."""
    options: dict[str, object] = {}
    chosen = method or ("auto" if rng.random() < 0.85 else rng.choice(METHODS[1:]))
    words = [chosen]
    options["method"] = chosen
    first = next(iter(me.passes[0].values()), None)
    b, kind = len(first.rows) if first else 1, rng.random()
    if kind < 0.33:
        options["batch_size"] = b
        words.append("b given")
    elif kind < 0.36:
        options["batch_size"] = max(1, b + rng.choice((-2, -1, 1, 2, 5)))
        words.append("a wrong b")
    linear = [name for name, module in me.model.named_modules() if isinstance(module, nn.Linear)]
    by_layer = rng.random() < 0.04
    if by_layer:
        words.append("by layer")
    elif rng.random() < 0.1:
        options["layer"] = rng.choice(linear[:-1] * 4 + linear)
        words.append("another layer")
    patience = rng.choice((0.0, 0.05, 0.3, 1.0)) if rng.random() < 0.25 else None
    if patience is not None:
        words.append("time limit")
    return ", ".join(words), options, by_layer, patience
