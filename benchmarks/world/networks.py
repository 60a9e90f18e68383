"""Networks of every kind that people write, float32, with weights from torch's global generator."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .batches import log_uniform


class Sine(nn.Module):
    """An activation of one's own."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(3 * x)


SMOOTH = (nn.GELU, nn.SiLU, nn.Tanh, nn.ELU, nn.LeakyReLU, nn.Softplus, nn.Sigmoid, nn.Hardtanh, Sine)


@dataclass(frozen=True)
class Plan:
    """Sizes and the activation of a network that is to be built.

    Attributes:
        rng: chooses what is left open.
        sizes: n, the hidden widths, the outputs.
        activation: of all hidden layers.
    """

    rng: random.Random
    sizes: tuple[int, ...]
    activation: type[nn.Module]

    def layers(self, after: Callable[[int], list[nn.Module]] = lambda width: []) -> list[nn.Module]:
        """Linear → activation → linear …; `after` a hidden linear layer of a width comes what it gives."""
        modules: list[nn.Module] = []
        for fan_in, fan_out in pairwise(self.sizes[:-1]):
            modules += [nn.Linear(fan_in, fan_out), *after(fan_out), self.activation()]
        return [*modules, nn.Linear(*self.sizes[-2:])]


def drawn(rng: random.Random, b: int, n: int, outputs: int, alike: bool = False) -> tuple[str, nn.Module]:
    """A network, mostly wide enough for b samples, and what it is, in words; evaluation mode where that matters."""
    depth = rng.choice((2, 2, 2, 3, 3, 4, 5, 6, 8)) if alike or rng.random() < 0.96 else 1
    least = max(16, 2 * b) if alike else 4 if rng.random() < 0.2 else b + 2
    most = 400 if alike or rng.random() < 0.7 else max(4 * b, least + 8)
    width = round(log_uniform(rng, least, most))
    hidden = [max(2, round(width * rng.choice((1, 1, 1, 1, 1, 1, 0.5, 0.25)))) for _ in range(depth - 2)]
    activation = nn.ReLU if rng.random() < (0.8 if alike else 0.6) else rng.choice(SMOOTH)
    sizes = (n, *[width, *hidden][: depth - 1], outputs)
    names = ["plain"] * len(KINDS) + list(KINDS) if not alike else ["plain", "plain", "plain", "residual"]
    name = rng.choice(names) if depth > 1 else "plain"
    model = KINDS[name](Plan(rng, sizes, activation)).train(name in ("plain", "dropout, training"))
    return f"{name}; {'-'.join(map(str, sizes))} {activation.__name__}", model


# ---------------------------------------------------------------- norms, masks, shapes
def _batch_norm(plan: Plan) -> nn.Module:
    norms = nn.Sequential(*plan.layers(lambda width: [_settled(nn.BatchNorm1d(width))]))
    return (
        nn.Sequential(_settled(nn.BatchNorm1d(plan.sizes[0])), *norms) if plan.rng.random() < 0.2 else norms
    )


def _settled(norm: nn.BatchNorm1d) -> nn.BatchNorm1d:
    """As after some training."""
    norm.running_mean.normal_(std=0.3)
    norm.running_var.uniform_(0.3, 1.5)
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    nn.init.normal_(norm.bias, std=0.2)
    return norm


def _layer_norm(plan: Plan) -> nn.Module:
    if plan.rng.random() < 0.5:
        return nn.Sequential(nn.LayerNorm(plan.sizes[0]), *plan.layers())
    return nn.Sequential(*plan.layers(lambda width: [nn.LayerNorm(width)]))


def _dropout(plan: Plan) -> nn.Module:
    return nn.Sequential(*plan.layers(lambda width: [nn.Dropout(plan.rng.choice((0.1, 0.5)))]))


def _without_bias(plan: Plan) -> nn.Module:
    modules = plan.layers()
    linear = [module for module in modules if isinstance(module, nn.Linear)]
    for layer in plan.rng.sample(linear, plan.rng.randint(1, len(linear))):
        layer.register_parameter("bias", None)
    return nn.Sequential(*modules)


def _pooled(plan: Plan) -> nn.Module:
    """A convolution along the row, pooled to one or a few positions, and a fully connected head."""
    places = plan.rng.choice((1, 2, 4))
    features = nn.Sequential(
        *(nn.Unflatten(1, (1, plan.sizes[0])), nn.Conv1d(1, 6, 3, padding=1), plan.activation()),
        *(nn.AdaptiveAvgPool1d(places), nn.Flatten()),
    )
    return nn.Sequential(features, *Plan(plan.rng, (6 * places, *plan.sizes[1:]), plan.activation).layers())


class Tokens(nn.Module):
    """Rows (b, t, n), one sequence a sample; averaged before the last layer, or an output for every token."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(plan.sizes[0]) if plan.rng.random() < 0.4 else nn.Identity()
        *body, self.head = plan.layers()
        self.body, self.pool = nn.Sequential(*body), plan.rng.random() < 0.5

    def forward(self, x: Tensor) -> Tensor:
        h = self.body(self.norm(x))
        return self.head(h.mean(dim=1) if self.pool else h)


# ---------------------------------------------------------------- ways around
class Residual(nn.Module):
    """Stem, blocks x + W₂ σ(W₁ x), head."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        n, width, *_, outputs = plan.sizes if len(plan.sizes) > 2 else (plan.sizes[0], 8, plan.sizes[-1])
        blocks = max(1, (len(plan.sizes) - 3) // 2)
        self.stem, self.head, self.act = nn.Linear(n, width), nn.Linear(width, outputs), plan.activation()
        self.up = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(blocks))
        self.down = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.stem(x))
        for up, down in zip(self.up, self.down):
            x = x + down(self.act(up(x)))
        return self.head(x)


class WideAndDeep(nn.Module):
    """A linear model and a deep one, added; or a gate on what the deep one sees."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        n, outputs = plan.sizes[0], plan.sizes[-1]
        self.gated = plan.rng.random() < 0.5
        self.wide = nn.Linear(n, n if self.gated else outputs)
        self.deep = nn.Sequential(*plan.layers())

    def forward(self, x: Tensor) -> Tensor:
        return self.deep(x * torch.sigmoid(self.wide(x))) if self.gated else self.wide(x) + self.deep(x)


class Functional(nn.Module):
    """No activation modules: `F.relu`, in place, a method; the shape is asked for."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        relu = plan.rng.choice((F.relu, torch.relu_, lambda h: h.clamp(min=0)))
        self.way = relu if plan.activation is nn.ReLU else plan.activation()
        self.linear = nn.ModuleList(nn.Linear(*sizes) for sizes in pairwise(plan.sizes))
        self.scale = nn.Parameter(torch.ones(()))  # of which not everything that is a parameter is a layer

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(x.shape[0], -1) * self.scale
        for layer in self.linear[:-1]:
            x = self.way(layer(x))
        return self.linear[-1](x)


# ---------------------------------------------------------------- layers of one's own
class Computed(nn.Linear):
    """A linear layer that computes its weight: scaled, masked, or with an adapter W + B A."""

    def __init__(self, fan_in: int, fan_out: int, way: str) -> None:
        super().__init__(fan_in, fan_out)
        self.way = way
        if way == "adapter":
            self.down, self.up = (nn.Linear(*s, bias=False) for s in ((fan_in, 2), (2, fan_out)))
        self.register_buffer("mask", (torch.rand(fan_out, fan_in) < 0.7).to(self.weight.dtype))

    def forward(self, x: Tensor) -> Tensor:
        if self.way == "adapter":
            return super().forward(x) + self.up(self.down(x))
        weight = self.weight * (0.5 if self.way == "scaled" else self.mask)
        return F.linear(x, weight, self.bias)


def _own_layers(plan: Plan) -> nn.Module:
    modules = plan.layers()
    where = plan.rng.choice([i for i, module in enumerate(modules) if isinstance(module, nn.Linear)])
    sizes = modules[where].in_features, modules[where].out_features
    modules[where] = Computed(*sizes, plan.rng.choice(("scaled", "masked", "adapter")))
    return nn.Sequential(*modules)


class Tied(nn.Module):
    """An autoencoder whose decoder is its encoder's transpose, and a head."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        n, width, *_, outputs = plan.sizes if len(plan.sizes) > 2 else (plan.sizes[0], 8, plan.sizes[-1])
        self.encoder, self.head, self.act = nn.Linear(n, width), nn.Linear(n, outputs), plan.activation()
        self.bias = nn.Parameter(torch.zeros(n))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.linear(self.act(self.encoder(x)), self.encoder.weight.t(), self.bias))


class Remembering(nn.Sequential):
    """Keeps what it has seen in a list."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__(*modules)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        for module in self:
            x = module(x)
            self.seen.append(x.mean().detach())
        return x


KINDS: dict[str, Callable[[Plan], nn.Module]] = {
    "plain": lambda plan: nn.Sequential(*plan.layers()),
    "batch norm": _batch_norm,
    "layer norm": _layer_norm,
    "dropout": _dropout,
    "dropout, training": _dropout,
    "without bias": _without_bias,
    "pooled": _pooled,
    "tokens": Tokens,
    "residual": Residual,
    "wide and deep": WideAndDeep,
    "functional": Functional,
    "own layers": _own_layers,
    "tied": Tied,
    "remembering": lambda plan: Remembering(*plan.layers()),
}
