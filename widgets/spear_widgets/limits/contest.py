"""Two measurements of a reader's own defence: what the attack makes of its messages, and what training pays for it.

The digits of the training and the networks are those of `benchmarks/defences.py`, so its accuracies compare.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor

from spear_core import client
from spear_core.client import data
from spear_core.client.networks import fully_connected
from spear_core.study import defended, metrics, sparsest
from spear_core.study.outcomes import outcome
from spear_widgets.kit import base
from spear_widgets.kit.exercise import Case, Exercise, Function
from spear_widgets.kit.guard import Ran
from spear_widgets.kit.verdict import Verdict
from spear_widgets.limits.defences import PATIENCE

TRAINED, EPOCHS, MINIBATCH, WIDTH, NETWORKS = 1200, 5, 24, 100, 2
Defend = Callable[[Tensor, torch.Generator], Any]


@dataclass(frozen=True)
class Recognised:
    """How many of a defended client's samples are recognisable in what the attack makes of its message."""

    count: int
    of: int

    def __str__(self) -> str:
        return f"{self.count} of {self.of} samples are recognisable"


@dataclass(frozen=True)
class Lost:
    """Points of accuracy that training loses."""

    points: float

    def __str__(self) -> str:
        return f"{self.points:.1f} points of accuracy are lost"


def recognised(defend: Defend, kind: str, seed: int) -> Recognised:
    """Attack a client that sends `defend` of each gradient, with all searches and by the zeros alone."""
    sent = defended.message("format", "float32", kind, seed)
    random = torch.Generator().manual_seed(seed)
    gradients = {name: _changed(defend, grad, random) for name, grad in sent.gradients.items()}
    sent = replace(sent, gradients=gradients, options={"batch_size": defended.BATCH})
    with base.one_thread():
        psnr = outcome(sent, time_limit=PATIENCE).psnr
        try:
            alone = sparsest.sparsest_batch(gradients["0.weight"], gradients["0.bias"], defended.BATCH)
            psnr = torch.maximum(psnr, metrics.compare(alone, sent.batch.inputs).psnr)
        except ValueError:  # too little is left to draw from
            pass
    return Recognised(int((psnr >= metrics.SEEN_DB).sum()), len(psnr))


def lost(defend: Defend) -> Lost:
    """Train two networks with the defence in every step, and compare with the same ones without it."""
    shares = [accuracy(defend, seed) for seed in range(NETWORKS)]
    return Lost(100 * (sum(_undefended()) - sum(shares)) / NETWORKS)


@cache
def _undefended() -> tuple[float, ...]:
    return tuple(accuracy(lambda grad, random: grad, seed) for seed in range(NETWORKS))


def accuracy(defend: Defend, seed: int) -> float:
    """Share of unseen digits that a network is right about after five epochs of defended gradients."""
    digits = data.load("digits", 1797, generator=torch.Generator().manual_seed(seed))
    model = fully_connected(64, WIDTH, 3, generator=torch.Generator().manual_seed(100 + seed))
    random = torch.Generator().manual_seed(200 + seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    with base.one_thread():
        for _ in range(EPOCHS):
            for rows in torch.randperm(TRAINED, generator=random).split(MINIBATCH):
                sent = client.gradients(model, digits.inputs[rows], digits.labels[rows])
                for name, parameter in model.named_parameters():
                    parameter.grad = _changed(defend, sent[name], random)
                optimiser.step()
        with torch.no_grad():
            right = model(digits.inputs[TRAINED:]).argmax(dim=1) == digits.labels[TRAINED:]
    return float(right.double().mean())


def _changed(defend: Defend, grad: Tensor, random: torch.Generator) -> Tensor:
    """What a defence makes of a gradient.

    Raises:
        NotImplementedError: if it returns nothing.
        ValueError: if that is no gradient of the same shape.
    """
    changed = defend(grad.clone(), random)
    if changed is None or changed is ...:
        raise NotImplementedError
    if not isinstance(changed, Tensor) or changed.shape != grad.shape or not changed.isfinite().all():
        raise ValueError(f"defend must return finite numbers of the shape of grad, {tuple(grad.shape)}")
    return changed.to(grad.dtype)


@dataclass(frozen=True, kw_only=True, repr=False)
class Contest(Exercise):
    """An exercise whose answer is called many times; what it brings about is judged.

    Attributes:
        brings: (function, arguments of a case) → what the judge looks at.
    """

    brings: Callable[..., Any]

    def verdict(self, function: Function) -> Verdict:
        """Run an answer in all cases, and judge what it brings about."""

        @functools.wraps(function)
        def brought(*arguments: Any) -> Any:
            return self.brings(function, *arguments)

        return super().verdict(brought)

    @cached_property
    def _cases(self) -> list[Case]:
        return [Case(text, given, None) for text, given in self.cases()]  # nothing to compare with

    def _wrong(self, function: Function, case: Case, runs: list[Ran], judged: str) -> Verdict:
        # the judge knows the mistakes: no other case is run for them
        shown = (("case", case.description), ("yours", str(runs[-1].value)))
        return Verdict(False, "Not yet.", judged, shown)
