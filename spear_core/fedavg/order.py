"""Which samples shared a minibatch, and in which order: read off the update itself.

Every local step moves the weights, so a sample's error ∂L/∂z depends on what came before it. With the inputs
known, η Σ_t w_ti ∂L/∂z_i(t) is known for every sample i, and the weights w_ti of the samples in the steps, 1 / (size of
the minibatch) or 0, are the only unknowns left: a division of the batch in every epoch. What comes first moves
everything that follows, so epochs are divided one after the other, those to come at their average, w = 1/b:

1. the linear model of the simulated client relaxes the weights to real numbers, and the nearest division is an
   assignment problem;
2. samples are exchanged between minibatches as long as the simulated client comes closer to the update.

A client that keeps its order divides all epochs alike, which is tried first; one that shuffles, each anew.

A schedule, shape (T, b), holds the weight of every sample in every step; a division those of one epoch, shape (s, b).
"""

from dataclasses import dataclass
from functools import partial

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from spear_core.fedavg.robust import robust_solution
from spear_core.fedavg.training import Client, History, LocalTraining
from spear_core.search import Budget

ROUNDED = 4.0  # times the update's own rounding; a division that explains it so well is the right one
DIFFERENCE = 1e-5  # step of the finite differences, relative to the weight of one sample
WIDTHS = (1, 4)  # divisions to follow from epoch to epoch: the best; if it leads nowhere, several
CHUNK_NUMBERS = 2**23  # numbers that the simulated clients of one chunk hold


def find_schedule(
    client: Client,
    training: LocalTraining,
    inputs: Tensor,
    labels: Tensor,
    output_grads: Tensor,
    budget: Budget,
    *,
    thorough: bool = True,
) -> Tensor:
    """The schedule that gives η Σ_t w_ti ∂L/∂z_i(t) of the first layer, `output_grads`, shape (b, m).

    The budget's generator gives the starts besides the linear model's; after its deadline the best so far is settled
    for. Several divisions are followed only if `thorough`, where the best one of each epoch leads nowhere.
    """
    b = len(inputs)
    size = min(training.batch_size or b, b)
    in_order = training.schedule(torch.arange(b, device=inputs.device))
    if size == b:
        return in_order
    epochs = in_order.split(-(-b // size))
    seen = Seen(client, inputs, labels, output_grads, budget)
    for width in WIDTHS if thorough else WIDTHS[:1]:
        schedule = _followed(seen, epochs, width)
        if seen.explains([], schedule):
            break
    return schedule


@dataclass(frozen=True)
class Seen:
    """What is known of the samples (see `find_schedule`), and how far a schedule is from explaining it."""

    client: Client
    inputs: Tensor
    labels: Tensor
    output_grads: Tensor
    budget: Budget

    def missing(self, past: History, schedules: Tensor) -> Tensor:
        """What schedules (K, T', b) of the steps after `past` leave of `output_grads`, as columns.

        Shape (b m, K), fewer columns if the deadline passes.
        """
        b, m = self.output_grads.shape
        width = sum(sum(weight.shape) for weight in self.client.weights)  # numbers that a step leaves behind
        rows = schedules.shape[1] * b + (len(past[0][0]) if past else 0)
        found = [self.output_grads.new_zeros(b * m, 0)]
        for chunk in schedules.split(max(1, CHUNK_NUMBERS // (rows * width))):
            if self.budget.late:
                break
            grads = self.client.train(self.inputs, self.labels, chunk, past)[0][0]
            left = self.output_grads - self.client.lr * grads.unflatten(1, (-1, b)).sum(dim=1)
            found.append(left.flatten(1).T)
        return torch.cat(found, dim=1)

    def misfits(self, past: History, schedules: Tensor) -> list[float]:
        """Σ |entry|^¼ of what is missing, of each schedule; infinite for those that the deadline left out.

        Units that a wrong later step carries across their kinks are far off, whatever the earlier steps are; the others
        come closer with every step that is right.
        """
        found = self.missing(past, schedules).abs().sqrt().sqrt().sum(dim=0)
        return F.pad(found, (0, len(schedules) - len(found)), value=torch.inf).tolist()

    def explains(self, past: History, schedule: Tensor) -> bool:
        """Whether a schedule of the steps after `past` leaves nothing but rounding."""
        missing = self.missing(past, schedule[None]).norm(dim=0)
        return bool((missing <= ROUNDED * self.client.rounding * self.output_grads.norm()).any())


def _followed(seen: Seen, epochs: tuple[Tensor, ...], width: int) -> Tensor:
    """The best schedule that is found by dividing epoch after epoch, `width` schedules followed from one to the next.

    `epochs` are a division of each, for its weights; the last one may be cut short.
    """
    average = torch.full_like(torch.cat(epochs), 1 / epochs[0].shape[1])
    kept = [(0.0, average[:0])]
    for epoch in epochs:
        if seen.budget.late:
            return torch.cat([kept[0][1], average[len(kept[0][1]) :]])
        found = []
        for _, schedule in kept:
            past = seen.client.train(seen.inputs, seen.labels, schedule)
            rest = average[len(schedule) :]
            for misfit, division in _divided(seen, past, rest, epoch.amax(dim=1), width):
                # a client that keeps its order has told all by now
                repeated = division.repeat(len(epochs), 1)[: len(rest)]
                if len(rest) > len(epochs[0]) and seen.explains(past, repeated):
                    return torch.cat([schedule, repeated])
                found.append((misfit, torch.cat([schedule, division])))
        kept = sorted(found, key=lambda one: one[0])[:width]
    return kept[0][1]


def _divided(
    seen: Seen, past: History, rest: Tensor, weight: Tensor, width: int
) -> list[tuple[float, Tensor]]:
    """The divisions of one epoch that explain the update best, at most `width` from so many starts; with their misfits.

    After the epochs `past` are left this one and those to come, of average weights `rest`, shape (T', b); `weight` is
    that of one sample in each step of the epoch, shape (s,).
    """
    average, later = rest[: len(weight)], rest[len(weight) :]

    def whole(divisions: Tensor) -> Tensor:
        return torch.cat([divisions, later.expand(len(divisions), -1, -1)], dim=1)

    # the linear model, by finite differences
    size = DIFFERENCE * average[0, 0]
    moved = average + size * torch.eye(average.numel()).to(average).unflatten(1, average.shape)
    missing = seen.missing(past, whole(torch.cat([average[None], moved])))
    if missing.shape[1] <= average.numel():  # late
        return [(torch.inf, average)]
    jacobian = (missing[:, :1] - missing[:, 1:]) / size
    late = partial(getattr, seen.budget, "late")
    relaxed = average + robust_solution(jacobian, missing[:, :1], late).reshape(average.shape)
    # from its solution, and from others, exchanges as long as they come closer
    starts = [relaxed, *torch.rand(width - 1, *average.shape, generator=seen.budget.generator).to(average)]
    found: dict[tuple[float, ...], tuple[float, Tensor]] = {}
    for start in starts:
        tried, least = _nearest(start, weight)[None], torch.inf
        while True:
            misfits = seen.misfits(past, whole(tried))
            found |= {tuple(one.flatten().tolist()): (misfit, one) for one, misfit in zip(tried, misfits)}
            best = min(misfits, default=torch.inf)
            if not best < least:
                break
            least, tried = best, _exchanges(tried[misfits.index(best)])
    return sorted(found.values(), key=lambda one: one[0])[:width]


def _nearest(relaxed: Tensor, weight: Tensor) -> Tensor:
    """The division next to relaxed weights, both of shape (s, b): every step full, each sample in one at most."""
    seats = torch.repeat_interleave(torch.arange(len(weight)), (1 / weight).round().long().cpu())
    # moving sample i from where the relaxed weights put it costs (1/size − w)² in place of w²
    cost = (weight[:, None] * (weight[:, None] - 2 * relaxed.nan_to_num())).cpu()[seats]
    seat, sample = (torch.as_tensor(found) for found in linear_sum_assignment(cost.numpy()))
    w = torch.zeros_like(relaxed)
    w[seats[seat].to(w.device), sample.to(w.device)] = weight[seats[seat].to(w.device)]
    return w


def _exchanges(w: Tensor) -> Tensor:
    """All divisions in which two samples have changed places, shape (K, s, b)."""
    samples = torch.arange(w.shape[1], device=w.device)
    pairs = torch.combinations(samples)
    pairs = pairs[(w[:, pairs[:, 0]] != w[:, pairs[:, 1]]).any(dim=0)]
    order = samples.repeat(len(pairs), 1).scatter(1, pairs, pairs.flip(1))
    return w[:, order].transpose(0, 1)
