"""How close a recovered batch is to the true one: matching, PSNR, share exact."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

EXACT_DB = 90.0  # at 90 dB no pixel of an 8-bit image can differ
FOUND_DB = 40.0  # from here on nobody mistakes the picture
SEEN_DB = 25.0  # from here on it can be recognised; below, it is mostly a mixture of several
FAR = 1e3  # times the longest true row: recovered rows further away are all equally wrong; squared, it leaves 10 digits


def share_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval for a probability of which `successes` of `trials` were seen (Wilson 1927).

    By hand: scipy's takes a thousand times as long, and a second to import.

    >>> tuple(round(end, 3) for end in share_interval(10, 10))
    (0.722, 1.0)
    """
    z, share = NormalDist().inv_cdf((1 + confidence) / 2), successes / trials
    middle = share + z**2 / (2 * trials)
    half = z * math.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2)
    low, high = (middle - half) / (1 + z**2 / trials), (middle + half) / (1 + z**2 / trials)
    return (low if successes > 0 else 0.0), (high if successes < trials else 1.0)


@dataclass(frozen=True)
class Score:
    """Comparison of a recovered batch with the truth.

    Attributes:
        order: shape (b,), the recovered row that belongs to each true row; −1 where none is left.
        psnr: shape (b,), in dB for each true row; −inf where nothing was recovered.
        largest_error: largest absolute difference over all matched rows.
    """

    order: Tensor
    psnr: Tensor
    largest_error: float

    @property
    def exact(self) -> Tensor:
        """Which true rows came back exactly (≥ 90 dB), shape (b,)."""
        return self.psnr >= EXACT_DB


def compare(recovered: Tensor, truth: Tensor) -> Score:
    """Match recovered rows to true rows one to one, and measure each pair.

    A gradient does not know the order of its batch, so rows are paired by the assignment with the most exact pairs,
    and among those the one with the least total squared error. PSNR = 10 log₁₀(range² / mean squared error), the
    range being that of the true batch.

    Recovered rows have shape (k, n) with any k, true ones (b, n).

    Raises:
        ValueError: if the rows differ in length.

    >>> compare(torch.eye(3).flip(0), torch.eye(3)).order.tolist()
    [2, 1, 0]
    """
    if recovered.ndim != 2 or truth.ndim != 2 or recovered.shape[1] != truth.shape[1]:
        raise ValueError(
            f"both batches must be (rows, {truth.shape[-1]}), "
            f"got {tuple(recovered.shape)} and {tuple(truth.shape)}"
        )
    found, true = recovered.detach().cpu().to(torch.float64), truth.detach().cpu().to(torch.float64)
    order = torch.full((len(true),), -1)
    psnr = torch.full((len(true),), -torch.inf, dtype=torch.float64)
    usable = found.isfinite().all(dim=1).nonzero().flatten()
    # a row that is far off, or no number at all, would drown the differences between all others
    far = FAR * true.norm(dim=1).max().clamp_min(torch.finfo(torch.float64).tiny)
    distance = torch.cdist(true, found[usable]).clamp_max(far)
    span = (true.max() - true.min()).clamp_min(torch.finfo(torch.float64).tiny)
    # one strange row must not cost an exact pair its partner for the sake of the sum
    exact = distance <= span * 10 ** (-EXACT_DB / 20) * true.shape[1] ** 0.5
    cost = distance.square() - exact * len(true) * far**2
    rows, columns = (torch.as_tensor(i) for i in linear_sum_assignment(cost.numpy()))
    if not len(rows):
        return Score(order, psnr, torch.inf)
    difference = true[rows] - found[usable[columns]]
    order[rows] = usable[columns]
    psnr[rows] = 20 * (span.log10() - difference.square().mean(dim=1).sqrt().log10())
    return Score(order, psnr, float(difference.abs().max()))
