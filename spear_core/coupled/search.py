"""Batches of half the width and more: forward consistency through several layers at once.

One relation, z_1 ∈ span[M, β] and relu(z_1) ∈ 𝒴, determines a sample while b < m/2, and its walkers get lost a little
earlier. The layers behind say the same again of y_2, y_3 …: k relations coupled reach b = k m/(k + 1).

1. **walk** (`walk`): all layers' affine spaces against the graph of relu between them;
2. **finish** (`finish`): the activation patterns, with units on the wrong side found one by one; the patterns
   alone give the direction q in every layer by back-propagation;
3. **deflate** (`chain`): c ⟂ q, and p_j ⟂ q_j in every layer.

Where fewer units are active than c has unknowns, c itself stays open (inactive units may move): it follows once
enough other samples are found, by c_k · q_i = 0, and is Q⁻¹ when all are.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from spear_core.certificate.certify import certified
from spear_core.consistency.deflation import well_determined
from spear_core.consistency.masked_least_squares import solved
from spear_core.coupled.chain import Chain
from spear_core.coupled.finish import Sample, sample_of, settle
from spear_core.coupled.walk import random_starts, walk
from spear_core.linalg import first_apart, inverse, masked_products
from spear_core.problem import Problem
from spear_core.search import Budget, Method, State, Step, Target, stopped_late
from spear_core.spear.reconstruction import from_coefficients
from spear_core.spear.records import Forward, Reconstruction
from spear_core.tolerances import SAME_SAMPLE

WALKERS = 16
PATIENCE = 12  # rounds without a find
STARTS_PER_SAMPLE = 40
ONE_PLACE = 0.995  # cosine of two walkers that have come to the same sample
PAYS_FROM = 0.44  # share b/m from which one relation costs more
BLURRED_FROM = 0.4  # the same from which half of all samples have hardly more active units than unknowns
HALF = 0.5  # share b/m up to which two relations are enough
NEWS = 1 / 8  # share of the batch whose finding is worth a reconstruction of all found so far


@dataclass(frozen=True)
class Found:
    """What is found after a round: samples one by one, from so many random starts."""

    samples: tuple[Sample, ...]
    starts: int = 0

    def __len__(self) -> int:
        return len(self.samples)

    def directions(self, layer: int) -> Tensor:
        """q in a layer, counted from 0, of all samples: unit columns, shape (b, f)."""
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
    return batch_size > PAYS_FROM * len(problem.attacked.bias) and not obstacle(problem, batch_size)


def sharpens(problem: Problem, batch_size: int) -> bool:
    """Whether coupled relations apply where two layers may leave samples with few active units blurred."""
    return batch_size > BLURRED_FROM * len(problem.attacked.bias) and not obstacle(problem, batch_size)


def relations_for(problem: Problem, batch_size: int) -> int:
    """How many relations to couple: two while b ≤ m/2, three beyond where there are as many layers."""
    wanted = 2 if batch_size <= HALF * len(problem.attacked.bias) else 3
    return min(wanted, len(problem.layers) - 2)


def search(target: Target, before: State, budget: Budget) -> Iterator[State]:
    """Samples round by round from the gradients of three and more consecutive layers; see `spear_core.search.Search`.

    The target is a chain to which `obstacle` has nothing to object. By default at most 40 random starts per sample.
    """
    began, b = time.perf_counter(), target.batch_size
    chain = Chain.of(target, relations_for(target.problem, b))
    state, shown = replace(before, step=Step.CONSISTENCY, method="consistency"), -b
    known = None if before.reconstruction is None else before.reconstruction.preactivations
    for found in rounds(chain, budget, known):
        if len(found) == b or len(found) - shown >= NEWS * b:
            state, shown = replace(state, reconstruction=_batch(chain, target.forward, found)), len(found)
        state = replace(state, samples_drawn=found.starts).timed("consistency", began)
        yield state
        began = time.perf_counter()
    if len(found) > shown:
        state = replace(state, reconstruction=_batch(chain, target.forward, found))
    late = stopped_late(budget, b - len(found), f"{found.starts:,} random starts")
    yield from conclude(target, replace(state, notes=late), budget)


def conclude(target: Target, state: State, budget: Budget) -> Iterator[State]:
    """The state with the certificate of the samples found so far, as far as a state was made of them."""
    if state.reconstruction is None:
        yield replace(state, step=Step.CERTIFICATE)
    else:
        yield certified(target, state, budget)


def rounds(chain: Chain, budget: Budget, known: Tensor | None = None) -> Iterator[Found]:
    """What is found after each round, at least once.

    z_1 of samples `known` from another method or process, shape (f, m), are taken out from the start.
    """
    b = chain.batch_size
    max_starts = budget.max_samples or STARTS_PER_SAMPLE * b
    given = () if known is None else (sample_of(chain, torch.relu(z.to(torch.float64))) for z in known)
    found = Found(tuple(sample for sample in given if sample is not None)[:b])
    idle = 0
    while True:
        none = chain.weights.new_empty(b, 0)
        # from random starts in what is left of the spaces
        layers = range(chain.relations + 1)
        spaces = chain.spaces(tuple(found.directions(j) if len(found) else none for j in layers))
        starts = random_starts(chain, spaces, WALKERS, budget.generator)
        small = tuple(space.to(torch.float32) for space in spaces)
        z, y, gap = walk(small, *starts, deadline=budget.deadline)
        # one walker for each sample is worth a finish, which takes longest: the clock is looked at before each
        new: list[Sample] = []
        for i in _places(y[0], gap):
            if budget.late:
                break
            sample = settle(chain, spaces, z[:, :, i].double(), y[:, :, i].double())
            if sample is not None and _is_new(sample, new):
                new.append(sample)
        found = Found((*found.samples, *new)[:b], found.starts + WALKERS)
        yield found
        idle = 0 if new else idle + 1
        spent = found.starts >= max_starts or budget.late
        if len(found) == b or spent or idle >= PATIENCE:
            return


def _places(y: Tensor, gap: Tensor) -> list[int]:
    """One walker for each place to which any has come, the nearest one; y is (m, K)."""
    order = gap.argsort()
    rays = normalize(y, dim=0)[:, order]
    nearest: list[int] = order[first_apart(rays.T @ rays >= ONE_PLACE)].tolist()
    return nearest


def _is_new(sample: Sample, others: list[Sample]) -> bool:
    apart = [(sample.activation - other.activation).norm() for other in others]
    return not apart or bool((torch.stack(apart) > SAME_SAMPLE * sample.activation.norm()).all())


def _batch(chain: Chain, forward: Forward, found: Found) -> Reconstruction:
    c, determined = coefficients(chain, forward, found)
    directions = found.directions(0)[:, determined] if len(found) else c.T
    return from_coefficients(forward, c, directions)


def coefficients(chain: Chain, forward: Forward, found: Found) -> tuple[Tensor, Tensor]:
    """c_i of the samples that are determined, as rows, (k, b), and which these are, shape (f,).

    If all are found, Q gives it. Otherwise each c_i solves c_i · q_k = 0 for the other found samples, c_i · Lᵀ g = 1
    and the equations of its active units, M c + β = y.
    """
    if not found.samples:
        empty = chain.splits[0].factor
        return empty.new_empty(0, chain.batch_size), torch.zeros(0, dtype=torch.bool, device=empty.device)
    Q, mean = found.directions(0), chain.means[0]
    if Q.shape[0] == Q.shape[1]:
        back = inverse(Q)
        return back / (back @ mean)[:, None], torch.ones_like(mean, dtype=torch.bool)
    y = torch.stack([sample.activation for sample in found.samples], dim=1)
    active = (y > 0).to(y.dtype)
    M, beta = forward.weights.T, forward.layer.bias.to(y.dtype)[:, None]
    scale = M.norm(dim=0).mean()  # equations count alike
    shared = Q @ Q.T + torch.outer(mean, mean) / mean.square().sum()
    own = Q.T[:, :, None] * Q.T[:, None, :]
    gram = masked_products(M / scale, M / scale, active) + shared - own
    wanted = (M / scale).T @ (active * (y - beta) / scale) + (mean / mean.square().sum())[:, None]
    lower, failed = torch.linalg.cholesky_ex(gram)
    determined = well_determined(lower, failed)
    return solved(lower[determined], wanted[:, determined]).T, determined


COUPLED = Method("consistency", search, conclude, finds_samples=True)
