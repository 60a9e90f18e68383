"""Models and batches that several test files share."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spear_core.client.networks import fully_connected

N, WIDTH, HIDDEN, CLASSES, B = 12, 40, 20, 5, 4


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mlp(seed: int = 1, dtype: torch.dtype = torch.float64, **options) -> nn.Sequential:
    """The fixture of most tests: 12-40-20-5, ReLU, float64."""
    return fully_connected(N, [WIDTH, HIDDEN], 3, CLASSES, generator=seeded(seed), dtype=dtype, **options)


def batch(seed: int = 0, b: int = B, n: int = N, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = seeded(seed)
    return torch.randn(b, n, generator=generator, dtype=dtype), torch.randint(
        CLASSES, (b,), generator=generator
    )


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Parameters and BatchNorm statistics as after some training, from a seed; float64, eval mode."""
    generator = seeded(seed)
    model = model.double().eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.weight.uniform_(-1.5, 1.5, generator=generator)
                module.bias.normal_(std=0.3, generator=generator)
                module.running_mean.normal_(std=0.3, generator=generator)
                module.running_var.uniform_(0.2, 0.6, generator=generator)
            elif isinstance(module, nn.Linear | nn.Conv2d):
                bound = module.weight[0].numel() ** -0.5
                for parameter in module.parameters():
                    parameter.uniform_(-bound, bound, generator=generator)
    return model


class Forward(nn.Module):
    """Three linear layers and whatever a test's function does with them."""

    def __init__(self, forward: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second, self.last = (
            nn.Linear(N, WIDTH),
            nn.Linear(WIDTH, HIDDEN),
            nn.Linear(HIDDEN, CLASSES),
        )
        self.norm, self.relu, self.dropout = nn.BatchNorm1d(WIDTH), nn.ReLU(inplace=True), nn.Dropout()
        self.function = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


class BatchNormMLP(nn.Module):
    """A table classifier: Linear (no bias) → BatchNorm → ReLU → Dropout, twice, then a linear output."""

    def __init__(self, width: int = 100) -> None:
        super().__init__()
        self.block1 = self._block(nn.Linear(N, width, bias=False))
        self.block2 = self._block(nn.Linear(width, HIDDEN))
        self.head = nn.Linear(HIDDEN, CLASSES)

    @staticmethod
    def _block(linear: nn.Linear) -> nn.Sequential:
        return nn.Sequential(linear, nn.BatchNorm1d(linear.out_features), nn.ReLU(), nn.Dropout(0.1))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block2(self.block1(x)))


class ResidualMLP(nn.Module):
    """Stem, then blocks x + W₂ relu(W₁ x) with checks of the shape, then a head."""

    def __init__(self, blocks: int = 2, width: int = 60) -> None:
        super().__init__()
        self.stem = nn.Linear(N, width)
        self.up = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(blocks))
        self.down = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(blocks))
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() > 2:  # data of any shape: this alone keeps torch.fx from tracing
            x = x.flatten(1)
        x = F.relu(self.stem(x))
        for up, down in zip(self.up, self.down):
            x = x + down(F.relu(up(x)))
        return self.head(x)


class SmallCNN(nn.Module):
    """Two convolutions with pooling, then a fully connected head, as in many tutorials."""

    def __init__(self, side: int = 8, width: int = 100) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 6, 3, padding=1),
            nn.ReLU(),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(6 * (side // 2) ** 2, width), nn.ReLU(), nn.Linear(width, CLASSES)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


def network(*widths, zero_biases=False, dtype=torch.float64, seed=0):
    """Linear layers of these widths with ReLU between them."""
    torch.manual_seed(seed)
    layers = []
    for n, m in pairwise(widths):
        layers += [nn.Linear(n, m), nn.ReLU()]
    model = nn.Sequential(*layers[:-1]).to(dtype)
    for parameter in model.parameters():
        if zero_biases and parameter.ndim == 1:
            nn.init.zeros_(parameter)
    return model
