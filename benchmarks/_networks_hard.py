"""Small networks and pictures on which a certificate of a network's input could go wrong."""

import random
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from spear_core.client import data

SIZE = 8


class Bent(nn.Module):
    """An activation that is even, periodic, or flat in parts, so that copies of an input may give the same features."""

    KINDS: ClassVar[dict[str, Callable[[Tensor], Tensor]]] = {
        "abs": torch.abs,
        "square": torch.square,
        "cos": lambda x: torch.cos(3 * x),
        "clamp": lambda x: x.clamp(-0.2, 0.2),
        "steps": lambda x: torch.relu(x) + torch.relu(-x - 0.1),
        "triangle": lambda x: (x - x.round()).abs(),
    }

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        return self.KINDS[self.kind](x)


class Residual(nn.Module):
    """x plus what another module makes of it, of the same shape."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


PLAIN: tuple[Callable[[], nn.Module], ...] = (
    nn.ReLU,
    nn.GELU,
    nn.LeakyReLU,
    nn.SiLU,
    nn.Tanh,
    nn.ELU,
    nn.Identity,
)


def network(seed: int, channels: int) -> nn.Module:
    """A random front part, a linear layer to be attacked, and what follows."""
    draw = random.Random(seed)
    layers: list[nn.Module] = []
    before = channels
    for _ in range(draw.choice((1, 1, 2, 2, 3))):
        after = draw.randint(draw.choice((1, 8)), 20)
        layers.append(_convolution(draw, before, after, first=not layers))
        before = after
        if draw.random() < 0.3:
            layers.append(_batch_norm(draw, after))
        layers.append(Bent(draw.choice(list(Bent.KINDS))) if draw.random() < 0.3 else draw.choice(PLAIN)())
        pool = draw.choice((None, None, nn.MaxPool2d(2, ceil_mode=True), nn.AvgPool2d(2, ceil_mode=True)))
        layers += [] if pool is None else [pool]
        if draw.random() < 0.2:
            layers.append(Residual(nn.Conv2d(after, after, 3, padding=1)))
    if draw.random() < 0.15:
        layers.append(nn.AdaptiveAvgPool2d(draw.choice((1, 2, 4))))
    layers.append(nn.Flatten())
    with torch.no_grad():
        features = nn.Sequential(*layers)(torch.zeros(2, channels, SIZE, SIZE)).shape[1]
    width = draw.choice((60, 100))
    last = [nn.Linear(features, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)]
    return nn.Sequential(*layers, *last).eval()


def _convolution(draw: random.Random, before: int, after: int, first: bool) -> nn.Conv2d:
    """Filters that may be twice there, negated, mirrored or zero, so that equations say less than they count."""
    kernel = draw.choice((1, 2, 3, 3, 5))
    # later ones may get pictures of one pixel
    padding = draw.choice((0, kernel // 2)) if first else kernel // 2
    mode = draw.choice(("zeros", "zeros", "circular", "reflect")) if first else "zeros"
    conv = nn.Conv2d(
        before,
        after,
        kernel,
        stride=draw.choice((1, 1, 2)) if kernel > 1 else 1,
        padding=padding,
        padding_mode=mode if padding else "zeros",
        bias=draw.random() < 0.7,
    )
    with torch.no_grad():
        half = after // 2
        match draw.choice(("plain", "plain", "twice", "negated", "mirrored", "even", "zero")):
            case "twice" if half:
                conv.weight[:half] = conv.weight[half : 2 * half]
            case "negated" if half:
                conv.weight[:half] = -conv.weight[half : 2 * half]
            case "mirrored" if half:
                conv.weight[:half] = conv.weight[half : 2 * half].flip(-1)
            case "even":
                conv.weight += conv.weight.flip(-1)
            case "zero":
                conv.weight[:half] = 0
    return conv


def _batch_norm(draw: random.Random, channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels)
    with torch.no_grad():
        for values in (norm.running_var, norm.weight):
            values.uniform_(0.2, 2.0)
        norm.running_mean.normal_(0, 0.3)
        norm.bias.normal_(0, draw.choice((0.0, 0.5)))
    return norm


def pictures(seed: int, channels: int, b: int) -> Tensor:
    """Photographs, or what they are made of: flat areas, few values, black parts, noise, pictures that are alike."""
    draw, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    batch = data.load("photos", b, size=SIZE, generator=generator)
    x = batch.inputs.reshape(b, 3, SIZE, SIZE)
    x = x if channels == 3 else x.mean(dim=1, keepdim=True)
    match draw.choice(("photo", "photo", "flat", "values", "black", "noise", "alike", "binary")):
        case "flat":
            x[:, :, : SIZE // 2] = x[:, :, :1, :1]
        case "values":
            x = (4 * x).round() / 4
        case "black":
            x = x * (torch.rand(b, 1, SIZE, SIZE, generator=generator) < 0.3)
        case "noise":
            x = torch.randn(x.shape, generator=generator)
        case "alike":
            x = x[:1] + 1e-3 * torch.randn(x.shape, generator=generator)
        case "binary":
            x = (x > x.mean()).to(x.dtype)
    return x
