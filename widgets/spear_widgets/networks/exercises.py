"""Exercises of notebook 09, with the mistakes that people make in them."""

import math

import torch
from torch import Tensor

from spear_widgets.kit.exercise import Cases, Exercise, Mistake
from spear_widgets.networks.counting import counted
from spear_widgets.networks.designs import FEDAVG, FLOWER, Design


# ---------------------------------------------------------------- counting
def impossible_from(cuts, n):  # type: ignore[no-untyped-def]  # shown as the solution
    """The least b with b d + P < b n at some cut, infinite if no cut is narrow."""
    found = [P // (n - d) + 1 for d, P in cuts if d < n]
    return min(found, default=math.inf)


NETWORKS = (
    ("Flower's quick-start CNN", FLOWER),
    ("the CNN of the FedAvg paper", FEDAVG),
    ("the same with 16 and 8 channels", Design(first=16, second=8)),
    ("the same with 8 and 16 channels, and stride 2", Design(first=8, second=16, stride=2)),
)


def _networks() -> Cases:
    for name, design in NETWORKS:
        found = counted(design)
        yield name, ([(cut.numbers, cut.before) for cut in found.cuts], found.unknowns)
    yield "a cut that is just as wide at b = 6", ([(30, 60), (10, 60)], 20)
    yield "two wide cuts", ([(30, 5), (20, 0)], 20)


def _whole_gradient_only(cuts: list[tuple[int, int]], n: int) -> int:
    d, P = cuts[-1]
    return P // max(n - d, 1) + 1


def _rounds_up(cuts: list[tuple[int, int]], n: int) -> float:
    return min((-(-P // (n - d)) for d, P in cuts if d < n), default=math.inf)


IMPOSSIBLE = Exercise(
    name="09/impossible_from",
    level="task",
    minutes=15,
    task="Decide from the counts. Write `impossible_from(cuts, n)`: `cuts` is a list of pairs $(d, P)$, numbers of one "
    "sample that pass and entries of the gradients before; `n` is how many numbers an input has. Return the least "
    "batch size $b$ at which some cut lets fewer than $b\\,n$ numbers through, or `math.inf` if there is none.",
    reference=impossible_from,
    cases=_networks,
    mistakes=(
        Mistake(
            _rounds_up,
            "At equality there are still enough numbers. The cut must let *fewer* than $b\\,n$ through: "
            "$b > P / (n - d)$.",
        ),
        Mistake(
            lambda cuts, n: max((P // (n - d) + 1 for d, P in cuts if d < n), default=math.inf),
            "One cut is enough to make it impossible: take the smallest of these batch sizes.",
        ),
        Mistake(
            lambda cuts, n: min((P // n + 1 for d, P in cuts if d < n), default=math.inf),
            "$b\\,d$ numbers of the samples pass as well: what is missing of each sample is $n - d$.",
        ),
        Mistake(
            _whole_gradient_only,
            "That is the last cut alone, the gradient as a whole. The others may be narrower.",
        ),
        Mistake(
            lambda cuts, n: min((P // abs(n - d) + 1 for d, P in cuts if d != n), default=math.inf),
            "A cut with $d \\ge n$ lets enough through at any batch size: leave it out.",
        ),
        Mistake(
            lambda cuts, n: min((P // (n - d) + 1 for d, P in cuts if d < n), default=0),
            "Where no cut is narrower than an input, no batch size is impossible: return `math.inf`.",
        ),
    ),
    hints=(
        "Solve $b\\,d + P < b\\,n$ for $b$, for one cut.",
        "$b > P / (n - d)$, if $d < n$; the least whole number above a quotient is `P // (n - d) + 1`.",
        "The least over all cuts with $d < n$: `min(…, default=math.inf)`.",
    ),
)


# ---------------------------------------------------------------- BatchNorm
def batch_statistics(mean, var, mean_after, var_after, momentum, b):  # type: ignore[no-untyped-def]  # the solution
    """Mean μ and variance s² of the batch, as BatchNorm divides by them, shape (2, m)."""
    mu = (mean_after - (1 - momentum) * mean) / momentum
    unbiased = (var_after - (1 - momentum) * var) / momentum
    return torch.stack([mu, unbiased * (b - 1) / b])


def _mixed_up(
    mean: Tensor, var: Tensor, mean_after: Tensor, var_after: Tensor, momentum: float, b: int
) -> Tensor:
    return batch_statistics(mean, var, mean_after, var_after, 1 - momentum, b)


def _differences(
    mean: Tensor, var: Tensor, mean_after: Tensor, var_after: Tensor, momentum: float, b: int
) -> Tensor:
    return torch.stack([(mean_after - mean) / momentum, (var_after - var) / momentum * (b - 1) / b])


def _unbiased(
    mean: Tensor, var: Tensor, mean_after: Tensor, var_after: Tensor, momentum: float, b: int
) -> Tensor:
    found = batch_statistics(mean, var, mean_after, var_after, momentum, b)
    return torch.stack([found[0], found[1] * b / (b - 1)])


def _other_way(
    mean: Tensor, var: Tensor, mean_after: Tensor, var_after: Tensor, momentum: float, b: int
) -> Tensor:
    found = batch_statistics(mean, var, mean_after, var_after, momentum, b)
    return torch.stack([found[0], found[1] * (b / (b - 1)) ** 2])


def _as_sent(
    mean: Tensor, var: Tensor, mean_after: Tensor, var_after: Tensor, momentum: float, b: int
) -> Tensor:
    return torch.stack([mean_after, var_after])


def _steps() -> Cases:
    for seed, (m, b, momentum) in enumerate(((5, 4, 0.1), (40, 8, 0.1), (12, 3, 0.25), (7, 24, 0.6))):
        random = torch.Generator().manual_seed(seed)
        norm = torch.nn.BatchNorm1d(m, momentum=momentum, dtype=torch.float64)
        z = torch.randn(2, b, m, generator=random, dtype=torch.float64) * torch.arange(1, m + 1) + 1
        norm(z[0])  # so that the server's own statistics are not 0 and 1
        before = [norm.running_mean.clone(), norm.running_var.clone()]  # type: ignore[union-attr]
        norm(z[1])
        after = [norm.running_mean.clone(), norm.running_var.clone()]  # type: ignore[union-attr]
        yield f"{m} units, b = {b}, momentum {momentum:g}", (*before, *after, momentum, b)


STATISTICS = Exercise(
    name="09/batch_statistics",
    level="warm-up",
    minutes=10,
    task="Write `batch_statistics(mean, var, mean_after, var_after, momentum, b)`: from a BatchNorm's running mean and "
    "variance before and after one step, shape $(m,)$ each, compute those of the batch: $\\mu$ and $s^2$, the "
    "variance that BatchNorm itself divides by, $\\frac{1}{b} \\sum_i (z_i - \\mu)^2$. Return both, shape $(2, m)$. "
    "The running variance takes in $\\frac{1}{b-1} \\sum_i (z_i - \\mu)^2$.",
    reference=batch_statistics,
    cases=_steps,
    mistakes=(
        Mistake(_mixed_up, "In PyTorch the momentum is the share of the *new* batch, not of the old value."),
        Mistake(
            _differences,
            "The old value enters with the share 1 − momentum: subtract that much of it, not all.",
        ),
        Mistake(
            _unbiased,
            "The mean is right. The running variance divides by $b - 1$, BatchNorm itself by $b$.",
        ),
        Mistake(_other_way, "The mean is right. The variance that divides by $b$ is the smaller one."),
        Mistake(_as_sent, "These are running statistics: a mixture of the batch with what was before."),
    ),
    hints=(
        "after = (1 − momentum) · before + momentum · batch: solve for the last.",
        "`(mean_after - (1 - momentum) * mean) / momentum`, and the same of the variance.",
        "The variance has then still to be multiplied by (b − 1) / b; `torch.stack` joins both.",
    ),
)
