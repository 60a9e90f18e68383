"""Small convolutional networks: two convolutions, each with ReLU and perhaps a pool, and two linear layers."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import nn

from spear_core import client
from spear_core.client import data

POOLS: dict[str, Callable[[int], nn.Module] | None] = {
    "max": nn.MaxPool2d,
    "average": nn.AvgPool2d,
    "none": None,
}


@dataclass(frozen=True)
class Design:
    """What a reader chooses of a network.

    Attributes:
        side: of a picture, in pixels.
        colours: 1 or 3.
        kernel: side of each convolution's kernel.
        padded: whether a convolution's output is as large as its input.
        first, second: channels of the two convolutions.
        stride: of both.
        pool: after both, one of `POOLS`.
        units: of the first linear layer.
    """

    side: int = 28
    colours: int = 1
    kernel: int = 5
    padded: bool = True
    first: int = 32
    second: int = 64
    stride: int = 1
    pool: str = "max"
    units: int = 512

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one input."""
        return self.colours, self.side, self.side


FEDAVG = Design()
FLOWER = Design(side=32, colours=3, padded=False, first=6, second=16, units=120)


@lru_cache(maxsize=4)
def network(design: Design, seed: int = 0, classes: int = 10) -> nn.Sequential:
    """A fresh network.

    Raises:
        ValueError: if nothing of a picture is left before its linear layers.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    before, around, pool = design.colours, design.kernel // 2 if design.padded else 0, POOLS[design.pool]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for number, channels in enumerate((design.first, design.second), start=1):
            layers[f"conv{number}"] = nn.Conv2d(before, channels, design.kernel, design.stride, around)
            layers[f"relu{number}"] = nn.ReLU()
            if pool is not None:
                layers[f"pool{number}"] = pool(2)
            before = channels
        layers["flatten"] = nn.Flatten()
        try:
            with torch.no_grad():
                features = nn.Sequential(layers)(torch.zeros(1, *design.shape)).shape[1]
        except RuntimeError as error:
            raise ValueError(
                "Nothing is left of the picture before the second layer ends. Choose padding, or no pool."
            ) from error
        layers["hidden"] = nn.Linear(features, design.units)
        layers["relu3"] = nn.ReLU()
        layers["classes"] = nn.Linear(design.units, classes)
    return nn.Sequential(layers)


@dataclass(frozen=True, eq=False)
class Client:
    """A network, a private batch of photographs, and what is sent.

    Attributes:
        model: the network.
        pictures: the private ones, shape (b, colours, side, side).
        gradients: by name.
    """

    model: nn.Module
    pictures: torch.Tensor
    gradients: dict[str, torch.Tensor]


def photo_client(design: Design, b: int, seed: int) -> Client:
    """A client that trains on photographs, in colour or grey."""
    batch = data.load("photos", b, size=design.side, generator=torch.Generator().manual_seed(seed))
    pictures = batch.inputs.reshape(b, 3, design.side, design.side)
    pictures = pictures.mean(dim=1, keepdim=True) if design.colours == 1 else pictures
    model = network(design, seed)
    return Client(model, pictures, client.gradients(model, pictures, batch.labels))
