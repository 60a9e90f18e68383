"""A few epochs of training, so that attacks can be tried on networks that have learnt something."""

import torch
from torch import nn
from torch.nn import functional as F

from spear_core.client import data


def train(
    model: nn.Module,
    name: str = "digits",
    *,
    epochs: int = 5,
    samples: int = 500,
    minibatch: int = 25,
    lr: float = 0.1,
    size: int = 32,
    generator: torch.Generator | None = None,
) -> float:
    """Train a classifier in place, with plain stochastic gradient descent.

    The model takes rows of the data set `name`, photographs of side `size`, and has as many outputs as it has classes;
    a CPU `generator` chooses so many `samples` of it, and their order in every epoch.

    Returns:
        Accuracy on these samples, from 0 to 1.
    """
    batch = data.load(name, samples, size=size, generator=generator)
    parameters = list(model.parameters())
    for _ in range(epochs):
        for rows in torch.randperm(samples, generator=generator).split(minibatch):
            loss = F.cross_entropy(model(batch.inputs[rows]), batch.labels[rows])
            grads = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                for parameter, grad in zip(parameters, grads, strict=True):
                    parameter.sub_(lr * grad)
    with torch.no_grad():
        return float((model(batch.inputs).argmax(dim=1) == batch.labels).to(torch.float64).mean())
