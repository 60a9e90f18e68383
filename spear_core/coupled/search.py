"""Batches of half the width and more: forward consistency through several layers at once.

One relation, z_1 ∈ span[M, β] and relu(z_1) ∈ 𝒴, determines a sample while b < m/2, and its walkers get lost a little
earlier. The layers behind say the same again of y_2, y_3 …: k relations coupled reach b = k m/(k + 1).

1. **walk** (`coupled_walk`): all layers' affine spaces against the graph of relu between them;
2. **finish** (`coupled_finish`): the activation patterns, with units on the wrong side found one by one; the patterns
   alone give the direction q in every layer by back-propagation;
3. **deflate** (`coupled_chain`): c ⟂ q, and p_j ⟂ q_j in every layer.

Where fewer units are active than c has unknowns, c itself stays open (inactive units may move): it follows once
enough other samples are found, by c_k · q_i = 0, and is Q⁻¹ when all are.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from spear_core.consistency.masked_least_squares import masked_products
from spear_core.coupled.chain import Chain
from spear_core.coupled.finish import Sample, judge, settle
from spear_core.coupled.walk import random_starts, walk
from spear_core.problem import Problem
from spear_core.spear.reconstruction import Forward

WALKERS = 16
PATIENCE = 12  # rounds without a find
STARTS_PER_SAMPLE = 40
ONE_PLACE = 0.995  # cosine of two walkers that have come to the same sample
SAME_SAMPLE = 1e-4  # relative distance of two finds of one sample
CROWDED = 0.44  # share b/m from which one relation costs more
HALF = 0.5  # share b/m up to which two relations are enough
DETERMINED = 1e-6  # smallest pivot of c's normal equations, relative to the largest, that still determines it


@dataclass(frozen=True)
class Found:
    """What is found after a round.

    Attributes:
        samples: one by one.
        walkers: z_1 of the round's walkers as columns, shape (m, K), for drawing.
        rounds: rounds so far.
        starts: random starts so far.
    """

    samples: tuple[Sample, ...]
    walkers: Tensor
    rounds: int = 0
    starts: int = 0

    def directions(self, layer: int) -> Tensor:
        """Q in a layer, counted from 0, of all samples: unit columns, shape (b, f)."""
        return torch.stack([sample.directions[layer] for sample in self.samples], dim=1)


def obstacle(problem: Problem, batch_size: int) -> str:
    """Why coupled relations do not apply, or an empty text."""
    hidden, output = problem.layers[:-1], problem.layers[-1]
    if problem.branches or len(hidden) < 3 or output.activation is not None:
        return "needs a chain of at least three hidden layers up to the output"
    if not all(layer.has_relu for layer in hidden):
        return "needs ReLU behind every hidden layer"
    if len(output.bias) < 2:
        return "needs an output layer with at least two classes"
    if any(min(layer.weight_grad.shape) <= batch_size for layer in hidden[:3]):
        return "needs three layers that are wider than the batch"
    if len({len(layer.bias) for layer in hidden[:3]}) > 1:
        return "needs three layers of one width"
    return ""


def pays(problem: Problem, batch_size: int) -> bool:
    """Whether coupled relations apply, and are the faster way."""
    crowded = batch_size > CROWDED * len(problem.attacked.bias)
    return crowded and not obstacle(problem, batch_size)


def relations_for(problem: Problem, batch_size: int) -> int:
    """How many relations to couple: two while b ≤ m/2, three beyond where there are as many layers."""
    wanted = 2 if batch_size <= HALF * len(problem.attacked.bias) else 3
    return min(wanted, len(problem.layers) - 2)


def search(
    chain: Chain,
    *,
    known: Tensor | None = None,
    generator: torch.Generator | None = None,
    deadline: float = float("inf"),
    max_starts: int | None = None,
) -> Iterator[Found]:
    """Find the samples of a batch, round by round.

    Args:
        chain: the coupled relations.
        known: z_1 of samples found by another method or process, shape (f, m); taken out from the start.
        generator: CPU generator, source of all randomness.
        deadline: value of `time.monotonic()` at which to stop, in the middle of a round as well.
        max_starts: give up after so many random starts; default: 40 per sample.

    Yields:
        What is found after each round, at least once.
    """
    b, m, device = chain.batch_size, chain.width, chain.weights.device
    max_starts = max_starts or STARTS_PER_SAMPLE * b
    given = () if known is None else (judge(chain, torch.relu(z.to(torch.float64))) for z in known)
    samples = tuple(sample for sample in given if sample is not None)
    found = Found(samples[:b], torch.empty(m, 0, device=device))
    idle = 0
    while True:
        none = torch.empty(b, 0, dtype=torch.float64, device=device)
        out = tuple(found.directions(j) if found.samples else none for j in range(chain.relations + 1))
        spaces = chain.spaces(out)
        starts = random_starts(chain, spaces, WALKERS, generator)
        small = tuple(space.to(torch.float32) for space in spaces)
        z, y, gap = walk(small, *starts, deadline=deadline)
        new: list[Sample] = []
        for i in _apart(y[0], gap):
            if time.monotonic() > deadline:
                break
            sample = settle(chain, spaces, z[:, :, i].double(), y[:, :, i].double())
            if sample is not None and all(_distance(sample, other) > SAME_SAMPLE for other in new):
                new.append(sample)
        found = Found(
            (*found.samples, *new)[:b], z[0] / chain.weights[0], found.rounds + 1, found.starts + WALKERS
        )
        yield found
        idle = 0 if new else idle + 1
        spent = found.starts >= max_starts or time.monotonic() > deadline
        if len(found.samples) == b or spent or idle >= PATIENCE:
            return


def _apart(y: Tensor, gap: Tensor) -> list[int]:
    """One walker for each place to which any has come, the nearest one; y is (m, K)."""
    # on the host: a GPU would make it wait for each pair
    units = (y / y.norm(dim=0).clamp_min(torch.finfo(y.dtype).tiny)).cpu()
    chosen: list[int] = []
    for i in gap.argsort().tolist():
        if all(float(units[:, i] @ units[:, j]) < ONE_PLACE for j in chosen):
            chosen.append(i)
    return chosen


def _distance(sample: Sample, other: Sample) -> float:
    return float((sample.activation - other.activation).norm() / sample.activation.norm())


def coefficients(chain: Chain, forward: Forward, found: Found) -> tuple[Tensor, Tensor]:
    """C of the samples that are determined, shape (k, b), and which these are, shape (f,).

    If all are found, Q gives it. Otherwise each c_i solves c_i · q_k = 0 for the other found samples, c_i · Lᵀ g = 1
    and the equations of its active units, M c + β = y.
    """
    if not found.samples:
        empty = chain.splits[0].factor
        return empty.new_empty(0, chain.batch_size), torch.zeros(0, dtype=torch.bool, device=empty.device)
    Q, mean = found.directions(0), chain.means[0]
    if Q.shape[0] == Q.shape[1]:
        lengths = torch.linalg.solve(Q, mean)
        return torch.linalg.inv(Q * lengths), torch.ones_like(mean, dtype=torch.bool)
    y = torch.stack([sample.activation for sample in found.samples], dim=1)
    active = (y > 0).to(y.dtype)
    M, beta = forward.weights.T, forward.layer.bias.to(y.dtype)[:, None]
    scale = M.norm(dim=0).mean()  # equations count alike
    shared = Q @ Q.T + torch.outer(mean, mean) / mean.square().sum()
    own = Q.T[:, :, None] * Q.T[:, None, :]
    gram = masked_products(M / scale, M / scale, active) + shared - own
    wanted = (M / scale).T @ (active * (y - beta) / scale) + (mean / mean.square().sum())[:, None]
    lower, failed = torch.linalg.cholesky_ex(gram)
    pivots = lower.diagonal(dim1=1, dim2=2).square()
    determined = (failed == 0) & (pivots.amin(dim=1) > DETERMINED * pivots.amax(dim=1))
    solved = torch.cholesky_solve(wanted.T[determined][:, :, None], lower[determined])[:, :, 0]
    return solved, determined
