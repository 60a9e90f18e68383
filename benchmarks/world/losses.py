"""Losses of every kind that people train with: (outputs (b, c), targets) → scalar."""

import random
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

Loss = Callable[[Tensor, Tensor], Tensor]


def drawn(rng: random.Random, alike: bool = False) -> tuple[str, Loss, int]:
    """A loss, its name, and how many outputs the network shall have."""
    outputs = rng.choice((1, 1, 1, 2, 2, 3, 5, 10, 10, 10, 10, 10, 40, 100, 1000))
    if alike and rng.random() < 0.6:  # what proves most
        return "cross-entropy", F.cross_entropy, 10
    if outputs == 1:
        name = rng.choice(("mean squared error", "binary", "huber", "ranking", "absolute"))
    else:
        name = rng.choice(["cross-entropy"] * (len(CLASSES) // 2) + list(CLASSES) + list(NUMBERS))
    return name, (CLASSES | NUMBERS | {"ranking": _ranking})[name], outputs


def targets(rng: random.Random, name: str, b: int, outputs: int) -> Tensor:
    """What the loss takes for b samples: classes, or numbers in as many columns as outputs."""
    if name in CLASSES:
        one = rng.random() < 0.15  # only one class in the batch
        return torch.randint(outputs, (1 if one else b,)).expand(b).clone()
    numbers = torch.rand(b, outputs, dtype=torch.float64)
    return numbers.round() if name == "binary" or rng.random() < 0.3 else numbers


# ---------------------------------------------------------------- of classes
def _weighted(outputs: Tensor, labels: Tensor) -> Tensor:
    weight = 0.5 + torch.arange(outputs.shape[1]).remainder(5).to(outputs)
    return F.cross_entropy(outputs, labels, weight=weight)


def _focal(outputs: Tensor, labels: Tensor) -> Tensor:
    log_p = F.log_softmax(outputs, dim=1).gather(1, labels[:, None])
    return -((1 - log_p.exp()).square() * log_p).mean()


def _policy_gradient(outputs: Tensor, actions: Tensor) -> Tensor:
    advantage = torch.sin(1.7 * torch.arange(len(outputs)).to(outputs) + 0.3)
    return -(advantage * F.log_softmax(outputs, dim=1).gather(1, actions[:, None])[:, 0]).mean()


def _contrastive(outputs: Tensor, labels: Tensor) -> Tensor:
    """Supervised: those of one label attract each other; alone, a sample's neighbour is its pair."""
    z = F.normalize(outputs, dim=1)
    similar = z @ z.T / 0.5 - 1e9 * torch.eye(len(z)).to(z)
    pairs = (labels[:, None] == labels) | (torch.arange(len(z)) // 2 == torch.arange(len(z))[:, None] // 2)
    pairs = pairs & ~torch.eye(len(z), dtype=torch.bool)
    return -(F.log_softmax(similar, dim=1) * pairs).sum() / pairs.sum().clamp_min(1)


def _margin(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.multi_margin_loss(outputs, labels)


# ---------------------------------------------------------------- of numbers
def _ranking(outputs: Tensor, numbers: Tensor) -> Tensor:
    """All pairs: whose number is larger shall have the larger output, by a margin of one."""
    higher = (numbers[:, 0, None] > numbers[:, 0]).to(outputs)
    return (higher * F.relu(1 - outputs[:, 0, None] + outputs[:, 0])).sum() / higher.sum().clamp_min(1)


CLASSES: dict[str, Loss] = {
    "cross-entropy": F.cross_entropy,
    "cross-entropy, summed": partial(F.cross_entropy, reduction="sum"),
    "cross-entropy, weighted": _weighted,
    "cross-entropy, smoothed": partial(F.cross_entropy, label_smoothing=0.1),
    "focal": _focal,
    "policy gradient": _policy_gradient,
    "contrastive": _contrastive,
    "margin": _margin,
}
NUMBERS: dict[str, Loss] = {
    "mean squared error": F.mse_loss,
    "binary": F.binary_cross_entropy_with_logits,
    "huber": F.smooth_l1_loss,
    "absolute": F.l1_loss,
}
