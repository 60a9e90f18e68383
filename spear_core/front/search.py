"""Rounds of descent for all samples: from a blank start, and then from where each is stuck, after a kick."""

from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from spear_core.front.descent import Event, descend, kicked, normal
from spear_core.front.finish import finished
from spear_core.front.part import Front
from spear_core.front.proof import ROUNDINGS, Proof, prove
from spear_core.search import Budget
from spear_core.tolerances import precision

BLANK = 0.1  # standard deviation of the start
FIRST, LATER = 300, 200  # steps of the first round and of those after a kick
ROUNDS = 20
KICKS = (3.0, 0.5, 1.5)  # sizes, of the third, first and second round and so on
NEAR, NEARER = (
    1e-3,
    0.1,
)  # relative residual that ends a descent, and at most that share of what it was before
ALMOST = 2e-2  # relative residual from which on Gauss–Newton steps are tried
MEMORY = 2**28  # bytes that a descent may keep for its derivatives, all samples of a chunk together
TIGHT = 0.1  # share of the limit that a solution reaches, and what is close to one does not
LEAST_LIMIT = 1e-10  # relative residual that is rounding, however precise the gradients


@dataclass
class Pictures:
    """What came of all samples, filled in as they are found, so that an interruption leaves what there is.

    Attributes:
        inputs: of the network, shape (b, *shape), float64.
        rest: relative residual of their features, shape (b,); infinite where nothing was tried.
        proofs: of each sample that was proven, or why it was not.
    """

    inputs: Tensor
    rest: Tensor
    proofs: dict[int, Proof] = field(default_factory=dict)


def search(front: Front, target: Tensor, limit: float, budget: Budget, pictures: Pictures) -> None:
    """Find x with F(x) = y for every row y of `target`, shape (b, n), float64, and prove what was found."""
    assert budget.generator is not None
    chunk = max(1, MEMORY // _kept(front, target))
    for at in torch.arange(len(target), device=target.device).split(chunk):
        for place in range(ROUNDS):
            open_ = at[pictures.rest[at] > TIGHT * limit]
            if not len(open_) or budget.late:
                break
            _round(front, target, open_, place, budget, pictures)
        budget.watch(Event.BEST, at, pictures.inputs[at])
    for at in range(len(target)):
        if budget.late:
            break
        if pictures.rest[at] <= limit:
            pictures.proofs[at] = prove(front, target[at], pictures.inputs[at], limit, budget.generator)


def rounding_limit(dtype: torch.dtype) -> float:
    """The relative residual up to which features from gradients of a dtype count as reproduced."""
    return max(LEAST_LIMIT, ROUNDINGS * precision(dtype))


def _round(front: Front, target: Tensor, at: Tensor, place: int, budget: Budget, pictures: Pictures) -> None:
    assert budget.generator is not None
    goal, x = target[at].to(torch.float32), pictures.inputs[at].to(torch.float32)
    if place == 0:
        start = BLANK * normal(x, budget.generator)
    else:
        start = kicked(front.features, goal, x, KICKS[place % len(KICKS)], budget.generator)
    budget.watch(Event.KICK if place else Event.START, at, start)
    watched = replace(budget, watch=lambda event, some, where: budget.watch(event, at[some], where))
    steps = FIRST if place == 0 else LATER
    near = (NEARER * pictures.rest[at]).clamp_max(NEAR).to(torch.float32)
    x, rest = descend(front.features, goal, start, near, steps, watched, budget.generator)
    close = rest < ALMOST
    keep = partial(_keep, pictures)
    keep(at, x.to(torch.float64), rest.to(torch.float64))
    if close.any():
        x, rest = finished(front.features, target[at[close]], x[close], budget)
        keep(at[close], x, rest)
        budget.watch(Event.FINISH, at[close], x)


def _keep(pictures: Pictures, at: Tensor, x: Tensor, rest: Tensor) -> None:
    better = rest < pictures.rest[at]
    pictures.inputs[at[better]], pictures.rest[at[better]] = x[better], rest[better]


def _kept(front: Front, target: Tensor) -> int:
    """Bytes that one sample's descent keeps for its derivatives."""
    kept = 1

    def count(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.numel() * tensor.element_size()
        return tensor

    x = torch.zeros(1, *front.shape, dtype=torch.float32, device=target.device, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        front.features(x)
    return kept
