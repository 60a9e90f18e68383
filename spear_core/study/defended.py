"""A client with one defence and one knob, and what it sends: what the benchmark and notebook 08 share.

The attack on it is in `spear_core.study.outcomes`. Unless the knob says otherwise: b = 8, four linear layers of width
400, ReLU, plain gradients in float32.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from spear_core import client
from spear_core.client import data, defences
from spear_core.client.networks import fully_connected

BATCH, WIDTH, DEPTH, SIDE = 8, 400, 4, 32
CLIP = 1.0  # norm of an example's gradient under DP-SGD
STEPS, LR = 5, 0.1  # of FedAvg, where the knob is another one
FORMATS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
HIDDEN = {
    "nothing": (),
    "first layer": ("0.",),
    "second layer": ("2.",),
    "all but the first": ("2.", "4.", "6."),
}


@dataclass(frozen=True)
class Message:
    """What a client sends, and what it would rather keep.

    Attributes:
        batch: the private batch.
        model: which the server knows.
        gradients: sent, by parameter name.
        options: of `spear_core.invert`: what the server knows beside the gradients.
    """

    batch: data.Batch
    model: nn.Sequential
    gradients: Mapping[str, Tensor]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Defence:
    """One defence.

    Attributes:
        name: in words.
        knob: what its values are.
        values: from no defence to a strong one.
        send: (load, network, value, generator) → message; load takes b, network the keywords of `fully_connected`.
    """

    name: str
    knob: str
    values: tuple[Any, ...]
    send: Callable[[Callable[[int], data.Batch], Callable[..., nn.Sequential], Any, torch.Generator], Message]


def message(defence: str, value: Any, kind: str = "photos", seed: int = 0) -> Message:
    """The message of a client that uses a defence at one value of its knob.

    Args:
        defence: key of `DEFENCES`.
        value: of its knob.
        kind: of the data, see `spear_core.client.data.load`.
        seed: of batch, network and noise.

    Raises:
        KeyError: no such defence.
    """

    def load(b: int) -> data.Batch:
        return data.load(kind, b, size=SIDE, generator=torch.Generator().manual_seed(seed))

    def network(batch: data.Batch, **options: Any) -> nn.Sequential:
        generator = torch.Generator().manual_seed(10_000 + seed)
        options = {"width": WIDTH, "depth": DEPTH, "classes": batch.classes} | options
        return fully_connected(batch.inputs.shape[1], generator=generator, **options)

    return DEFENCES[defence].send(load, network, value, torch.Generator().manual_seed(20_000 + seed))


# ---------------------------------------------------------------- what is sent
def plain(batch: data.Batch, model: nn.Sequential) -> Message:
    """A message without any defence."""
    return Message(batch, model, client.gradients(model, batch.inputs, batch.labels))


def _changed(change: Callable[[dict[str, Tensor], Any, torch.Generator], Mapping[str, Tensor]]) -> Any:
    """A defence that changes the gradients; the server is told b."""

    def send(load: Any, network: Any, value: Any, generator: torch.Generator) -> Message:
        batch = load(BATCH)
        sent = plain(batch, network(batch))
        changed = change(dict(sent.gradients), value, generator)
        return replace(sent, gradients=changed, options={"batch_size": BATCH})

    return send


def _clipped(options_of: Callable[[Any], dict[str, Any]]) -> Any:
    def send(load: Any, network: Any, value: Any, generator: torch.Generator) -> Message:
        batch = load(BATCH)
        model = network(batch)
        sent = client.clipped(model, batch.inputs, batch.labels, generator=generator, **options_of(value))
        return Message(batch, model, sent, {"batch_size": BATCH})

    return send


def _fedavg(training_of: Callable[[Any], dict[str, Any]]) -> Any:
    def send(load: Any, network: Any, value: Any, generator: torch.Generator) -> Message:
        batch = load(BATCH)
        model = network(batch)
        training = {"steps": STEPS, "lr": LR, "batch_size": None} | training_of(value)
        sent = client.update(model, batch.inputs, batch.labels, **training)
        known = {"local_steps": training["steps"], "lr": training["lr"]}
        return Message(batch, model, sent, known | {"local_batch_size": training["batch_size"]})

    return send


def _sized(load: Any, network: Any, b: int, generator: torch.Generator) -> Message:
    batch = load(b)
    return plain(batch, network(batch))


def _network(options_of: Callable[[Any], dict[str, Any]]) -> Any:
    def send(load: Any, network: Any, value: Any, generator: torch.Generator) -> Message:
        batch = load(BATCH)
        return plain(batch, network(batch, **options_of(value)))

    return send


def _batch(change: Callable[[data.Batch, Any, torch.Generator], data.Batch]) -> Any:
    """Nothing is changed but the data themselves."""

    def send(load: Any, network: Any, value: Any, generator: torch.Generator) -> Message:
        batch = change(load(BATCH), value, generator)
        return plain(batch, network(batch))

    return send


def _labels(batch: data.Batch, count: int, generator: torch.Generator) -> data.Batch:
    return replace(batch, labels=torch.arange(BATCH) % count)


def _copies(batch: data.Batch, copies: int, generator: torch.Generator) -> data.Batch:
    rows = torch.arange(BATCH)
    rows[:copies] = 0  # the same picture with the same label, `copies` times
    return replace(batch, inputs=batch.inputs[rows], labels=batch.labels[rows])


def _near(batch: data.Batch, distance: float, generator: torch.Generator) -> data.Batch:
    inputs = batch.inputs.clone()
    noise = torch.randn(inputs[0].shape, generator=generator)
    inputs[1] = inputs[0] + distance * inputs[0].square().mean().sqrt() * noise
    return replace(batch, inputs=inputs)


def _dropout(load: Any, network: Any, p: float, generator: torch.Generator) -> Message:
    """Dropout behind every activation; the server does not see which units were dropped."""
    batch = load(BATCH)
    modules = []
    for module in network(batch):
        modules += [module] if isinstance(module, nn.Linear) else [module, nn.Dropout(p)]
    model = nn.Sequential(*modules).train()
    with torch.random.fork_rng(devices=[]):  # nn.Dropout takes no generator
        torch.manual_seed(generator.initial_seed())
        return plain(batch, model)


def _batch_norm(load: Any, network: Any, mode: str, generator: torch.Generator) -> Message:
    batch = load(BATCH)
    modules = []
    for module in network(batch):
        modules += [module]
        if mode != "none" and isinstance(module, nn.Linear) and module.out_features == WIDTH:
            modules += [nn.BatchNorm1d(WIDTH)]
    return plain(batch, nn.Sequential(*modules).train(mode == "train"))


ACTIVATIONS = ("ReLU", "LeakyReLU", "GELU", "SiLU", "Tanh", "Sigmoid", "Hardtanh")
DEFENCES = {
    "noise": Defence(
        "gaussian noise",
        "noise / rms of the gradient",
        (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0),
        _changed(lambda grads, value, generator: client.noised(grads, value, generator=generator)),
    ),
    "clip": Defence(
        "clipping per example",
        "largest norm C",
        (10.0, 1.0, 0.1, 0.01, 0.001),
        _clipped(lambda norm: {"norm": norm}),
    ),
    "dp": Defence(
        "DP-SGD: clipping and noise",
        "noise multiplier σ, C = 1",
        (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0),
        _clipped(lambda sigma: {"norm": CLIP, "noise_multiplier": sigma}),
    ),
    "bits": Defence(
        "quantisation",
        "bits for each number",
        (16, 12, 8, 6, 4, 3, 2),
        _changed(lambda grads, bits, generator: defences.quantised(grads, bits)),
    ),
    "top": Defence(
        "top-k sparsification",
        "share of entries kept",
        (1.0, 0.9, 0.5, 0.1, 0.01, 0.001),
        _changed(lambda grads, share, generator: defences.sparsified(grads, share)),
    ),
    "format": Defence(
        "shorter numbers",
        "format",
        tuple(FORMATS),
        _changed(lambda grads, name, generator: defences.rounded(grads, FORMATS[name])),
    ),
    "steps": Defence(
        "FedAvg: local steps", "steps, lr 0.1", (1, 2, 5, 10, 20), _fedavg(lambda steps: {"steps": steps})
    ),
    "lr": Defence(
        "FedAvg: learning rate", "lr, 5 steps", (0.001, 0.01, 0.1, 0.3, 1.0), _fedavg(lambda lr: {"lr": lr})
    ),
    "minibatch": Defence(
        "FedAvg: minibatches",
        "samples per step, one epoch, lr 0.1",
        (8, 4, 2, 1),
        _fedavg(lambda size: {"batch_size": size, "steps": BATCH // size}),
    ),
    "batch": Defence("larger batches", "batch size b", (8, 24, 64, 120, 160, 200, 240), _sized),
    "clients": Defence(
        "secure aggregation",
        "clients of 8 samples each",
        (1, 2, 5, 10, 20, 25, 30),
        lambda load, network, clients, generator: _sized(load, network, BATCH * clients, generator),
    ),
    "width": Defence(
        "narrower layers",
        "width m",
        (400, 100, 50, 24, 16, 12, 8),
        _network(lambda width: {"width": width}),
    ),
    "activation": Defence(
        "other activations",
        "activation",
        ACTIVATIONS,
        _network(lambda name: {"activation": getattr(nn, name)}),
    ),
    "labels": Defence("one-label batches", "different labels", (8, 4, 2, 1), _batch(_labels)),
    "copies": Defence("duplicates", "copies of one sample", (1, 2, 4, 8), _batch(_copies)),
    "near": Defence(
        "near-duplicates", "distance / rms of the sample", (1.0, 0.1, 1e-2, 1e-3, 1e-4), _batch(_near)
    ),
    "dropout": Defence("dropout", "share dropped", (0.0, 0.1, 0.3, 0.5, 0.8), _dropout),
    "norm": Defence("batch norm", "mode", ("none", "eval", "train"), _batch_norm),
    "hidden": Defence(
        "hiding layers",
        "hidden gradient",
        tuple(HIDDEN),
        _changed(lambda grads, what, generator: defences.withheld(grads, HIDDEN[what])),
    ),
}
