"""A client with one defence and one knob, and what it sends: what the benchmark and notebook 08 share.

The attack on it is in `spear_core.study.outcomes`. Unless the knob says otherwise: b = 8, four linear layers of width
400, ReLU, plain gradients in float32.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from spear_core import client
from spear_core.client import data, defences
from spear_core.client.networks import fully_connected

BATCH, WIDTH, DEPTH, SIDE = 8, 400, 4, 32  # b, m, linear layers, side of a photograph
CLIP = 1.0  # norm of an example's gradient under DP-SGD
STEPS, LR = 5, 0.1  # of FedAvg, where the knob is another one
FORMATS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
Step = Callable[..., dict[str, Tensor]]  # its result is what is sent
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
class Sender:
    """A client before it defends itself: all of it follows from a kind of data (see `data.load`) and a seed."""

    kind: str
    seed: int

    def batch(self, size: int = BATCH) -> data.Batch:
        """Its private batch."""
        generator = torch.Generator().manual_seed(self.seed)
        return data.load(self.kind, size, size=SIDE, generator=generator)

    def network(self, batch: data.Batch, **options: Any) -> nn.Sequential:
        """Its network for such a batch, with `options` of `fully_connected` in the place of the usual ones."""
        options = {"width": WIDTH, "depth": DEPTH, "classes": batch.classes} | options
        generator = torch.Generator().manual_seed(10_000 + self.seed)
        return fully_connected(batch.inputs.shape[1], generator=generator, **options)

    @property
    def noise(self) -> torch.Generator:
        """Source of what it adds at random."""
        return torch.Generator().manual_seed(20_000 + self.seed)

    def plain(self, batch: data.Batch | None = None, **options: Any) -> Message:
        """What it sends without any defence: of another batch, or of a network with other options."""
        batch = self.batch() if batch is None else batch
        return _sent(batch, self.network(batch, **options))


@dataclass(frozen=True)
class Defence:
    """One defence.

    Attributes:
        name: in words.
        knob: what its values are.
        values: from no defence to a strong one.
        send: what a client sends at one of these values.
    """

    name: str
    knob: str
    values: tuple[Any, ...]
    send: Callable[[Sender, Any], Message]


def message(defence: str, value: Any, kind: str = "photos", seed: int = 0) -> Message:
    """The message of a client that uses one of `DEFENCES`, by its key, at one value of its knob; see `Sender`.

    Raises:
        KeyError: no such defence.
    """
    return DEFENCES[defence].send(Sender(kind, seed), value)


# ---------------------------------------------------------------- what is sent
def _sent(batch: data.Batch, model: nn.Sequential, kind: Step = client.gradients, **how: Any) -> Message:
    return Message(batch, model, kind(model, batch.inputs, batch.labels, **how))


def _changed(sender: Sender, change: Step, *knob: Any, **options: Any) -> Message:
    """Gradients that were changed before they were sent; the server is told b."""
    sent = sender.plain()
    return replace(sent, gradients=change(sent.gradients, *knob, **options), options={"batch_size": BATCH})


def _clipped(sender: Sender, norm: float, sigma: float = 0.0) -> Message:
    batch, noise = sender.batch(), {"noise_multiplier": sigma, "generator": sender.noise}
    sent = _sent(batch, sender.network(batch), client.clipped, norm=norm, **noise)
    return replace(sent, options={"batch_size": BATCH})


def _fedavg(sender: Sender, steps: int = STEPS, lr: float = LR, batch_size: int | None = None) -> Message:
    batch = sender.batch()
    sent = _sent(batch, sender.network(batch), client.update, steps=steps, lr=lr, batch_size=batch_size)
    return replace(sent, options={"local_steps": steps, "lr": lr, "local_batch_size": batch_size})


def _labels(sender: Sender, count: int) -> Message:
    return sender.plain(replace(sender.batch(), labels=torch.arange(BATCH) % count))


def _copies(sender: Sender, copies: int) -> Message:
    batch, rows = sender.batch(), torch.arange(BATCH)
    rows[:copies] = 0  # the same picture with the same label, `copies` times
    return sender.plain(replace(batch, inputs=batch.inputs[rows], labels=batch.labels[rows]))


def _near(sender: Sender, distance: float) -> Message:
    batch = sender.batch()
    inputs = batch.inputs.clone()
    noise = torch.randn(inputs[0].shape, generator=sender.noise)
    inputs[1] = inputs[0] + distance * inputs[0].square().mean().sqrt() * noise
    return sender.plain(replace(batch, inputs=inputs))


def _dropout(sender: Sender, p: float) -> Message:
    """Dropout behind every activation; the server does not see which units were dropped."""
    batch = sender.batch()
    modules = [[m] if isinstance(m, nn.Linear) else [m, nn.Dropout(p)] for m in sender.network(batch)]
    with torch.random.fork_rng(devices=[]):  # nn.Dropout takes no generator
        torch.manual_seed(sender.noise.initial_seed())
        return _sent(batch, nn.Sequential(*chain(*modules)).train())


def _batch_norm(sender: Sender, mode: str) -> Message:
    """BatchNorm before every activation, unless the mode is "none"."""
    batch = sender.batch()
    *hidden, last = sender.network(batch)
    added = mode != "none"
    modules = [[m, nn.BatchNorm1d(WIDTH)] if added and isinstance(m, nn.Linear) else [m] for m in hidden]
    return _sent(batch, nn.Sequential(*chain(*modules), last).train(mode == "train"))


DEFENCES = {
    "noise": Defence(
        "gaussian noise", "noise / rms of the gradient", (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0),
        lambda sender, size: _changed(sender, client.noised, size, generator=sender.noise),
    ),
    "clip": Defence("clipping per example", "largest norm C", (10.0, 1.0, 0.1, 0.01, 0.001), _clipped),
    "dp": Defence(
        "DP-SGD: clipping and noise", "noise multiplier σ, C = 1", (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0),
        lambda sender, sigma: _clipped(sender, CLIP, sigma),
    ),
    "bits": Defence(
        "quantisation", "bits for each number", (16, 12, 8, 6, 4, 3, 2),
        lambda sender, bits: _changed(sender, defences.quantised, bits),
    ),
    "top": Defence(
        "top-k sparsification", "share of entries kept", (1.0, 0.9, 0.5, 0.1, 0.01, 0.001),
        lambda sender, share: _changed(sender, defences.sparsified, share),
    ),
    "format": Defence(
        "shorter numbers", "format", tuple(FORMATS),
        lambda sender, name: _changed(sender, defences.rounded, FORMATS[name]),
    ),
    "steps": Defence("FedAvg: local steps", "steps, lr 0.1", (1, 2, 5, 10, 20), _fedavg),
    "lr": Defence(
        "FedAvg: learning rate", "lr, 5 steps", (0.001, 0.01, 0.1, 0.3, 1.0),
        lambda sender, lr: _fedavg(sender, lr=lr),
    ),
    "minibatch": Defence(
        "FedAvg: minibatches", "samples per step, one epoch, lr 0.1", (8, 4, 2, 1),
        lambda sender, size: _fedavg(sender, steps=BATCH // size, batch_size=size),
    ),
    "batch": Defence(
        "larger batches", "batch size b", (8, 24, 64, 120, 160, 200, 240),
        lambda sender, b: sender.plain(sender.batch(b)),
    ),
    "clients": Defence(
        "secure aggregation", "clients of 8 samples each", (1, 2, 5, 10, 20, 25, 30),
        lambda sender, clients: sender.plain(sender.batch(BATCH * clients)),
    ),
    "width": Defence(
        "narrower layers", "width m", (400, 100, 50, 24, 16, 12, 8),
        lambda sender, width: sender.plain(width=width),
    ),
    "activation": Defence(
        "other activations", "activation", ("ReLU", "LeakyReLU", "GELU", "SiLU", "Tanh", "Sigmoid", "Hardtanh"),
        lambda sender, name: sender.plain(activation=getattr(nn, name)),
    ),
    "labels": Defence("one-label batches", "different labels", (8, 4, 2, 1), _labels),
    "copies": Defence("duplicates", "copies of one sample", (1, 2, 4, 8), _copies),
    "near": Defence("near-duplicates", "distance / rms of the sample", (1.0, 0.1, 1e-2, 1e-3, 1e-4), _near),
    "dropout": Defence("dropout", "share dropped", (0.0, 0.1, 0.3, 0.5, 0.8), _dropout),
    "norm": Defence("batch norm", "mode", ("none", "eval", "train"), _batch_norm),
    "hidden": Defence(
        "hiding layers", "hidden gradient", tuple(HIDDEN),
        lambda sender, what: _changed(sender, defences.withheld, HIDDEN[what]),
    ),
}  # fmt: skip
