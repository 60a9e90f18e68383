"""A client whose BatchNorm is in training mode: what it sends, and what comes back."""

import copy
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from spear_core.client import data
from spear_core.study import metrics
from spear_widgets.kit import base
from spear_widgets.kit.samples import picture_of

SIDE, UNITS = 16, 800  # a few more units than a picture has numbers, so that they see all of its mean


@dataclass(frozen=True, eq=False)
class NormalisedClient:
    """A client after one step.

    Attributes:
        model: the server's, before the step.
        batch: the private one.
        gradients: what is sent, by name.
        after: the client's state after the step, running statistics and all.
    """

    model: nn.Module
    batch: data.Batch
    gradients: dict[str, Tensor]
    after: dict[str, Tensor]


@lru_cache(maxsize=4)
def normalised_client(b: int = 8, seed: int = 0) -> NormalisedClient:
    """Photographs of 16 × 16, three linear layers, a BatchNorm after the first of them."""
    batch = data.load("photos", b, size=SIDE, generator=torch.Generator().manual_seed(seed))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        hidden = [nn.Linear(UNITS, UNITS), nn.ReLU(), nn.Linear(UNITS, batch.classes)]
        first = [nn.Linear(batch.inputs.shape[1], UNITS), nn.BatchNorm1d(UNITS), nn.ReLU()]
    model = nn.Sequential(*first, *hidden).train()
    client = copy.deepcopy(model)
    loss = nn.functional.cross_entropy(client(batch.inputs), batch.labels)
    grads = torch.autograd.grad(loss, list(client.parameters()))
    names = [name for name, _ in client.named_parameters()]
    return NormalisedClient(model, batch, dict(zip(names, grads)), client.state_dict())


def recovered(client: NormalisedClient, inputs: Tensor) -> base.Picture:
    """What came back, in the order of the private batch."""
    order = metrics.compare(inputs, client.batch.inputs).order
    words = "Eight photographs of 16 × 16, computed from the gradient and the running statistics of a client."
    return picture_of(client.batch, inputs[order.clamp_min(0)], words)
