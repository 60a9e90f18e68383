"""How pictures form on the way from an attacked layer back to the network's inputs: what the search did, recorded."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from spear_core.attack.diagnose import attackable
from spear_core.attack.inversion import Inversion
from spear_core.attack.invert import states
from spear_core.attack.through import onwards
from spear_core.front.descent import relative
from spear_core.front.part import Front, front_of
from spear_core.front.search import Event
from spear_core.model.parameters import Gradients
from spear_core.model.reading import choose, read

KICKS = 8  # random ones that are averaged
EARLY, EVERY = (1, 2, 4, 7, 10, 15), 20  # steps of a descent after which it is looked at


@dataclass(frozen=True)
class Moment:
    """Where all samples are once something has happened to some.

    Attributes:
        event: what happened.
        step: how many steps of a descent have led there, 0 of other events.
        at: to which, shape (k,).
        inputs: where all are, shape (b, *shape), float64.
        rest: relative residual of each one's features, shape (b,).
    """

    event: Event
    step: int
    at: Tensor
    inputs: Tensor
    rest: Tensor


@dataclass
class Forming:
    """The pictures of a batch as they form.

    Attributes:
        front: F, from pictures to features.
        target: the features that the attack found, shape (b, n), float64.
        moments: in their order.
        inversion: the result; None until it is there.
        step: of the descent that goes on.
        told: called with every moment; a KeyboardInterrupt from it ends the search with what there is.
    """

    front: Front
    target: Tensor = field(default_factory=lambda: torch.zeros(0))
    moments: list[Moment] = field(default_factory=list)
    inversion: Inversion | None = None
    step: int = 0
    told: Callable[[Moment], None] | None = None

    def watch(self, event: Event, at: Tensor, x: Tensor) -> None:
        """Note where some samples are, now and then; the others are where they were."""
        self.step = self.step + 1 if event is Event.DESCENT else 0
        if event is Event.DESCENT and self.step not in EARLY and self.step % EVERY:
            return
        empty = torch.zeros(len(self.target), *self.front.shape, dtype=torch.float64)
        inputs = self.moments[-1].inputs.clone() if self.moments else empty
        inputs[at] = x.detach().to(inputs)
        with torch.no_grad():
            rest = relative(self.front.features(inputs) - self.target, self.target)
        self.moments.append(Moment(event, self.step, at, inputs, rest))
        if self.told is not None:
            self.told(self.moments[-1])

    def contradictions(self, inputs: Tensor) -> Tensor:
        """How much the equations contradict each other at each number of the pictures; shape as `inputs`.

        The root mean square of Jᵀ(ξ ∘ errors) over random ξ, the direction of a kick: Jᵀ errors itself is zero where
        they balance.
        """
        x = inputs.to(torch.float32).requires_grad_(True)
        errors = self.front.features(x) - self.target.to(x.dtype)
        random = torch.randn(KICKS, *errors.shape, generator=torch.Generator().manual_seed(0)) * errors.detach()
        (slopes,) = torch.autograd.grad(errors, x, random, is_grads_batched=True)
        return slopes.square().mean(dim=0).sqrt()


def form(
    model: nn.Module,
    gradients: Gradients,
    input_shape: tuple[int, ...],
    told: Callable[[Moment], None] | None = None,
) -> Forming:
    """Attack a client as `invert(…, input_shape=…)` does, and record how its pictures form; `told` hears of it.

    >>> from spear_core import client
    >>> front = nn.Sequential(nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.Flatten())
    >>> model = nn.Sequential(*front, nn.Linear(128, 60), nn.ReLU(), nn.Linear(60, 4))
    >>> pictures, labels = torch.rand(2, 1, 8, 8), torch.tensor([0, 1])
    >>> forming = form(model, client.gradients(model, pictures, labels), (1, 8, 8))
    >>> forming.moments[0].event, forming.inversion.network_inputs_certified.tolist()
    (<Event.START: 'blank start'>, [True, True])

    Raises:
        InputError: as `invert` does.
    """
    reading = read(model, gradients)
    problem = attackable(reading, None, "auto")
    grad = problem.attacked.weight_grad
    forming = Forming(front_of(reading, choose(reading, None)[0], input_shape, grad), told=told)
    onward = onwards(reading, None, problem, input_shape, None, None, None, forming.watch)
    *_, last = states(problem)
    found = last.reconstruction
    if found is not None:
        forming.target = found.inputs[:, : grad.shape[1]].to(grad).to(torch.float64)  # as `onwards` takes them
    forming.inversion = onward(last)
    return forming
