"""A client's message as the server has it: the gradients, the network, and what is known of the client."""

import html
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spear_core.client import networks
from spear_core.client.data import Batch

NAMES = ("client_1", "client_2", "client_3", "client_4", "client_5")
SHIFT, SCALE = 0.5, 0.25  # every client's: (pixel − SHIFT) / SCALE goes into the network
SIDE = 16  # pixels of a photograph
FOLDER = Path("capstone")


@dataclass(frozen=True)
class Message:
    """What a server holds of one client.

    Attributes:
        name: one of `NAMES`.
        gradients: what was sent, by the name of the parameter.
        network: arguments of `spear_core.client.networks.fully_connected`, and the seed of its weights.
        known: what the server knows of the client besides, as keyword arguments of `spear_core.invert`.
        words: what the client did, in a sentence.
    """

    name: str
    gradients: dict[str, Tensor]
    network: dict[str, int]
    known: dict[str, Any] = field(default_factory=dict)
    words: str = ""

    @cached_property
    def model(self) -> nn.Sequential:
        """The network with the weights that the client had."""
        shape: dict[str, Any] = dict(self.network)
        generator = torch.Generator().manual_seed(shape.pop("seed"))
        return networks.fully_connected(**shape, generator=generator)

    def save(self, folder: Path) -> Path:
        """Write the message, as `message` reads it."""
        about = {"network": self.network, "known": self.known, "words": self.words}
        path = folder / f"{self.name}.npz"
        arrays: dict[str, Any] = {name: gradient.numpy() for name, gradient in self.gradients.items()}
        np.savez_compressed(path, about=np.array(json.dumps(about)), **arrays)
        return path

    def _lines(self) -> list[tuple[str, str]]:
        network, first = self.network, next(iter(self.gradients.values()))
        hidden = "1 hidden layer" if network["depth"] == 2 else f"{network['depth'] - 1} hidden layers"
        known = ", ".join(f"{name} = {value}" for name, value in self.known.items())
        return [
            ("client", self.words),
            ("network", f"{hidden} of {network['width']} units, {network['classes']} classes"),
            ("sent for the first layer", f"{tuple(first.shape)}"),
            ("known besides", known or "nothing"),
        ]

    def __repr__(self) -> str:
        return "\n".join([f"Message {self.name}", *(f"  {name:26}{text}" for name, text in self._lines())])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{name}</th><td style='text-align:left'>{html.escape(text)}</td></tr>"
            for name, text in self._lines()
        )
        return f"<table><caption>Message <code>{self.name}</code></caption>{rows}</table>"


def message(name: str, folder: Path = FOLDER) -> Message:
    """Read a message.

    Raises:
        ValueError: if there is none of that name.
        FileNotFoundError: if the folder is not beside the notebook.
    """
    if name not in NAMES:
        raise ValueError(f"name must be one of {', '.join(NAMES)}, got {name!r}")
    path = folder / f"{name}.npz"
    if not path.is_file():
        raise FileNotFoundError(f"{path} must lie beside the notebook: copy the folder {folder.name} there")
    with np.load(path) as file:
        about = json.loads(str(file["about"]))
        gradients = {key: torch.from_numpy(file[key]) for key in file.files if key != "about"}
    return Message(name, gradients, **about)


def as_batch(rows: Tensor) -> Batch:
    """Rows as a batch of pictures without labels."""
    labels = torch.zeros(len(rows), dtype=torch.int64)
    shift, scale = torch.tensor(SHIFT), torch.tensor(SCALE)
    return Batch(rows.to(torch.float32), labels, 0, (3, SIDE, SIDE), shift, scale)
