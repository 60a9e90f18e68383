"""Make the capstone's five messages, and the key with the photographs behind them, from one seed.

python -m teaching.capstone FOLDER --seed N   # messages into FOLDER/capstone, the key into FOLDER/key.npz

The seed of the messages in `notebooks/capstone` is below, so whoever reads this file can compute their key. A class
that is graded gets messages of a large seed that only its teacher knows. A batch on which the reference attack does
not find what its message is there to show is drawn anew.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import spear_core
from spear_core import client
from spear_core.client import data
from spear_core.study import metrics
from spear_widgets.capstone import grade
from spear_widgets.capstone.messages import NAMES, SCALE, SHIFT, SIDE, Message

PUBLISHED_SEED = 2024
FLAT = 0.5  # a crop whose pixels deviate less than this, in units of SCALE, shows nothing
Sent = dict[str, Tensor]


def photographs(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Crops that show something, shape (count, 768), and their labels."""
    inputs: list[Tensor] = []
    while len(inputs) < count:
        batch = data.load("photos", 1, size=SIDE, standardize=False, generator=generator)
        row = (batch.inputs[0] - SHIFT) / SCALE
        if row.std() > FLAT:
            inputs.append(row)
    return torch.stack(inputs), torch.randint(10, (count,), generator=generator)


# ---------------------------------------------------------------- the clients: their photographs, what they send
def plain(model: nn.Module, generator: torch.Generator) -> tuple[Tensor, Sent]:
    """One gradient, as it is."""
    inputs, labels = photographs(8, generator)
    return inputs, client.gradients(model, inputs, labels)


def twins(model: nn.Module, generator: torch.Generator) -> tuple[Tensor, Sent]:
    """Two of the photographs differ by less than a grey level and have one label: one row between them comes back."""
    inputs, labels = photographs(5, generator)
    inputs[1] = inputs[0] + 0.002 * torch.randn(inputs.shape[1], generator=generator)
    labels[1] = labels[0]
    return inputs, client.gradients(model, inputs, labels)


def one_layer(model: nn.Module, generator: torch.Generator) -> tuple[Tensor, Sent]:
    """Two classes make all errors collinear: without the batch size a row may be a mean of several."""
    inputs, labels = photographs(6, generator)
    return inputs, client.gradients(model, inputs, labels % 2)


def fedavg(model: nn.Module, generator: torch.Generator) -> tuple[Tensor, Sent]:
    """The sum of several steps: it takes their number and the learning rate to replay the client."""
    inputs, labels = photographs(4, generator)
    return inputs, client.update(model, inputs, labels, steps=5, lr=0.01)


def noised(model: nn.Module, generator: torch.Generator) -> tuple[Tensor, Sent]:
    """Clipped and noised, too little to hide the photographs and too much to prove them."""
    inputs, labels = photographs(4, generator)
    return inputs, client.clipped(
        model, inputs, labels, norm=1.0, noise_multiplier=0.001, generator=generator
    )


@dataclass(frozen=True)
class Client:
    """What a client does, its network, and what the server knows, in words and as arguments of `spear_core.invert`."""

    sends: Callable[[nn.Module, torch.Generator], tuple[Tensor, Sent]]
    network: dict[str, int]
    known: dict[str, Any]
    words: str


CLIENTS = {
    "client_1": Client(plain, {"width": 60, "depth": 4}, {}, "sent one gradient of its batch"),
    "client_2": Client(twins, {"width": 60, "depth": 4}, {}, "sent one gradient of its batch"),
    "client_3": Client(
        one_layer,
        {"width": 60, "depth": 2, "classes": 2},
        {"batch_size": 6},
        "sent one gradient of its batch of six",
    ),
    "client_4": Client(
        fedavg,
        {"width": 100, "depth": 4},
        {"local_steps": 5, "lr": 0.01},
        "sent its weights before minus after five steps, each on the whole batch, with learning rate 0.01",
    ),
    "client_5": Client(
        noised,
        {"width": 60, "depth": 4},
        {"batch_size": 4},
        "clipped four gradients, averaged them, and added gaussian noise",
    ),
}


def solve(message: Message) -> tuple[Tensor, Tensor]:
    """The reference: what is known goes into `invert`, and what is certified is claimed. Rows and claims."""
    inversion = spear_core.invert(message.model, message.gradients, **message.known, time_limit=60)
    rows, claims = inversion.inputs.to(torch.float32), inversion.certified_rows
    if CLIENTS[message.name].sends is twins:  # the row that weighs twice stands for two
        rows, claims = torch.cat([rows, rows[~claims]]), torch.cat([claims, claims[~claims]])
    return rows, claims


def shows(name: str, truth: Tensor, rows: Tensor, claims: Tensor) -> bool:
    """Whether the reference finds what the message is there to show."""
    psnr = metrics.compare(rows, truth).psnr
    if CLIENTS[name].sends is twins:
        seen = bool((psnr[:2] < metrics.EXACT_DB).all() and (psnr[:2] >= metrics.FOUND_DB).all())
        return seen and int(claims.sum()) == len(truth) - 2 == int((psnr >= metrics.EXACT_DB).sum())
    if CLIENTS[name].sends is noised:
        return bool((psnr >= metrics.SEEN_DB).all()) and not claims.any()
    return bool(claims.all()) and bool((psnr >= metrics.EXACT_DB).all())


def make(name: str, seed: int) -> tuple[Message, Tensor, int]:
    """A message, the photographs behind it, and the points of the reference."""
    who = CLIENTS[name]
    shape = {"inputs": 3 * SIDE * SIDE, "classes": 10, **who.network, "seed": NAMES.index(name)}
    message = Message(name, {}, shape, who.known, who.words)
    for attempt in count():
        generator = torch.Generator().manual_seed(1000 * seed + 100 * NAMES.index(name) + attempt)
        truth, sent = who.sends(message.model, generator)
        made = replace(message, gradients=sent)
        rows, claims = solve(made)
        if shows(name, truth, rows, claims):
            return made, truth, grade.points(rows, claims, truth)
    raise AssertionError("unreachable")


def write(folder: Path, seed: int) -> Path:
    """All messages into folder/capstone, and the key; returns the key's path."""
    (folder / "capstone").mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {}
    for name in NAMES:
        message, truth, best = make(name, seed)
        message.save(folder / "capstone")
        arrays |= {name: truth.numpy(), f"{name}_best": np.array(best)}
    path = folder / "key.npz"
    np.savez_compressed(path, **arrays)
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--seed", type=int, default=PUBLISHED_SEED, help=f"default: the published one, {PUBLISHED_SEED}"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(write(options.folder, options.seed))
