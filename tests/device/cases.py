"""Small attacks, one for each method, that a GPU would run from the first line to the last."""

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from spear_core import client
from spear_core.attack.inversion import Inversion
from spear_core.attack.invert import invert, invert_layer
from spear_core.client.networks import fully_connected
from tests.core.zoo import seeded


@dataclass(frozen=True)
class Case:
    """What the server sees, on the CPU, and how it attacks.

    Attributes:
        model: the network.
        sent: the client's gradients, or its update.
        options: of `invert`.
        layer_only: whether the server knows the first layer and nothing else.
    """

    model: nn.Module
    sent: dict[str, Tensor]
    options: dict[str, Any] = field(default_factory=dict)
    layer_only: bool = False

    def invert(self, device: torch.device | str, **more: Any) -> Inversion:
        """The attack, with all that the server has on one device."""
        model, sent = copy.deepcopy(self.model).to(device), {k: t.to(device) for k, t in self.sent.items()}
        options = {**self.options, **more}
        if self.layer_only:
            first = sent["0.weight"], sent["0.bias"], model[0].weight.detach(), model[0].bias.detach()
            return invert_layer(*first, **options)
        return invert(model, sent, **options)


def _plain(
    b: int, *, width: int = 60, n: int = 60, depth: int = 4, activation: type = nn.ReLU, **options: Any
) -> Case:
    model, x, y = _client(b, width, n, depth, activation)
    return Case(model, client.gradients(model, x, y), options)


def _client(b: int, width: int = 60, n: int = 60, depth: int = 4, activation: type = nn.ReLU):
    model = fully_connected(n, width, depth, activation=activation, generator=seeded(1))
    x = torch.randn(b, n, generator=seeded())
    return model, x, torch.randint(10, (b,), generator=seeded())


def _fedavg() -> Case:
    model, x, y = _client(4, width=150, n=100, depth=3)
    model, x = model.double(), x.double()
    return Case(model, client.update(model, x, y, steps=5, lr=0.05), {"local_steps": 5, "lr": 0.05})


def _noisy() -> Case:
    model, x, y = _client(4, width=100)
    return Case(
        model, client.noised(client.gradients(model, x, y), 1e-3, generator=seeded(2)), {"batch_size": 4}
    )


def _layer() -> Case:
    case = _plain(4)
    return Case(case.model, case.sent, {"batch_size": 4}, layer_only=True)


CASES = {
    "sampling": lambda: _plain(9, method="sampling"),
    "halfspace": lambda: _plain(10, method="halfspace"),
    "consistency, alternating": lambda: _plain(6),
    "consistency, reflecting": lambda: _plain(20),
    "consistency, GELU": lambda: _plain(10, activation=nn.GELU),
    "coupled": lambda: _plain(18, width=40, n=80, depth=5),
    "b > n": lambda: _plain(12, n=8),
    "FedAvg": _fedavg,
    "noisy": _noisy,
    "one layer": _layer,
}
