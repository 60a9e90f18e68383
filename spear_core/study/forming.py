"""How pictures form on the way from an attacked layer back to the network's inputs: what the search did, recorded."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from spear_core.attack.diagnose import attackable
from spear_core.attack.inversion import Inversion
from spear_core.attack.invert import states
from spear_core.attack.through import onwards
from spear_core.front.descent import Event, relative
from spear_core.front.part import Front, front_of
from spear_core.model.parameters import Gradients
from spear_core.model.reading import choose, read

KICKS = 8  # random ones that are averaged
EARLY, EVERY = (1, 2, 4, 7, 10, 15), 20  # steps of a descent after which it is looked at


@dataclass(frozen=True)
class Moment:
    """Where all pictures are once an event, or that step of a descent, has moved some.

    With which (`at`), where all are (`inputs`, shape (b, …), float64), and the relative residuals of their features.
    """

    event: Event
    step: int
    at: Tensor
    inputs: Tensor
    rest: Tensor


@dataclass
class Forming:
    """F, the features y that the attack found, shape (b, n), the moments in their order, and the result."""

    front: Front
    told: Callable[[Moment], None]
    target: Tensor = field(default_factory=lambda: torch.zeros(0))
    moments: list[Moment] = field(default_factory=list)
    inversion: Inversion | None = None
    step: int = 0

    def watch(self, event: Event, at: Tensor, x: Tensor) -> None:
        """Note where some pictures are, now and then; the others are where they were."""
        self.step = self.step + 1 if event is Event.STEP else 0
        if self.step and self.step not in EARLY and self.step % EVERY:
            return
        empty = torch.zeros(len(self.target), *self.front.shape, dtype=torch.float64)
        inputs = self.moments[-1].inputs.clone() if self.moments else empty
        inputs[at] = x.detach().to(inputs)
        with torch.no_grad():
            rest = relative(self.front.features(inputs) - self.target, self.target)
        self.moments.append(Moment(event, self.step, at, inputs, rest))
        self.told(self.moments[-1])

    def contradictions(self, inputs: Tensor) -> Tensor:
        """Root mean square of random kicks, Jᵀ(ξ ∘ errors): how much equations contradict each number of `inputs`."""
        x = inputs.to(torch.float32).requires_grad_(True)
        errors = self.front.features(x) - self.target.to(x.dtype)
        random = (
            torch.randn(KICKS, *errors.shape, generator=torch.Generator().manual_seed(0)) * errors.detach()
        )
        (kicks,) = torch.autograd.grad(errors, x, random, is_grads_batched=True)
        return kicks.square().mean(dim=0).sqrt()


def form(
    model: nn.Module,
    gradients: Gradients,
    input_shape: tuple[int, ...],
    told: Callable[[Moment], None] = lambda moment: None,
) -> Forming:
    """Attack a client as `invert(…, input_shape=…)` does, and record how its pictures form.

    `told` hears of every moment; a KeyboardInterrupt from it ends the search with what there is.
    """
    reading = read(model, gradients)
    problem = attackable(reading, None, "auto")
    grad = problem.attacked.weight_grad
    forming = Forming(front_of(reading, choose(reading, None)[0], input_shape, grad), told)
    onward = onwards(reading, None, problem, input_shape, None, None, None, forming.watch)
    *_, last = states(problem)
    if last.reconstruction is not None:
        forming.target = last.reconstruction.inputs[:, : grad.shape[1]].to(grad).to(torch.float64)
    forming.inversion = onward(last)
    return forming
