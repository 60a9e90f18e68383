"""What was there before exact inversion: guess a batch, and move it until its gradient looks like the observed one.

Two optimisations in the space of the inputs, as they were published:

- `deep_leakage`: minimise ‖∇θ L(x', y') − g‖² over inputs x' and soft labels y' with L-BFGS (Zhu, Liu, Han, *Deep
  Leakage from Gradients*, NeurIPS 2019, arXiv:1906.08935).
- `inverting_gradients`: minimise 1 − cos(∇θ L(x', y), g) + α TV(x') with Adam on the signs of the derivative, labels
  known (Geiping, Bauermeister, Dröge, Moeller, *Inverting Gradients*, NeurIPS 2020, arXiv:2003.14053).

Both are generators of guesses, so that a reader can watch; the last one is the result. Neither can tell when it
is right: nothing here is ever certified. Both take the model, which is left as it is, and `gradients`, ∂L/∂θ by
parameter name with L the mean cross-entropy; a CPU `generator` gives their start.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HISTORY = 100  # steps that L-BFGS remembers, as in the code of the paper
INNER_STEPS = 20  # evaluations in one step of L-BFGS
DECAYS = (3 / 8, 5 / 8, 7 / 8)  # parts of the run after which the step size falls to a tenth
STEP_SIZE = 0.1  # of Adam on signs


@dataclass(frozen=True)
class Guess:
    """Where an optimisation stands.

    Attributes:
        inputs: x', shape (b, n).
        labels: shape (b,); where they are guessed as well, the likeliest.
        objective: what is minimised.
        step: how many steps were made.
    """

    inputs: Tensor
    labels: Tensor
    objective: float
    step: int


def deep_leakage(
    model: nn.Module,
    gradients: Mapping[str, Tensor],
    shape: Sequence[int],
    classes: int,
    *,
    steps: int = 300,
    generator: torch.Generator | None = None,
) -> Iterator[Guess]:
    """Deep Leakage from Gradients (DLG): L-BFGS from a random batch with random soft labels.

    The model maps inputs of the given shape, (b, …), to (b, classes); a step of L-BFGS takes up to 20 evaluations.

    Yields:
        The start, and a guess after every step; it ends early where the steps leave the numbers.
    """
    target, parameters = list(gradients.values()), [model.get_parameter(name) for name in gradients]
    like = target[0]
    inputs = torch.randn(*shape, generator=generator).to(like).requires_grad_()
    logits = torch.randn(shape[0], classes, generator=generator).to(like).requires_grad_()
    optimiser = torch.optim.LBFGS([inputs, logits], lr=1, max_iter=INNER_STEPS, history_size=HISTORY)

    def objective() -> Tensor:
        loss = F.cross_entropy(model(inputs), logits.softmax(dim=1))
        grads = torch.autograd.grad(loss, parameters, create_graph=True)
        distance = torch.stack([(g - t).square().sum() for g, t in zip(grads, target, strict=True)]).sum()
        inputs.grad, logits.grad = torch.autograd.grad(distance, [inputs, logits])
        return distance.detach()

    for step in range(steps + 1):
        if step:
            optimiser.step(objective)
        distance = float(objective())
        if not math.isfinite(distance):
            return
        yield Guess(inputs.detach().clone(), logits.detach().argmax(dim=1), distance, step)


def inverting_gradients(
    model: nn.Module,
    gradients: Mapping[str, Tensor],
    labels: Tensor,
    pictures: tuple[int, int, int],
    *,
    variation: float = 1e-2,
    bounds: tuple[Tensor, Tensor] | None = None,
    steps: int = 2000,
    generator: torch.Generator | None = None,
) -> Iterator[Guess]:
    """Inverting Gradients: cosine distance and total variation, minimised by Adam on signs.

    The model maps flat `pictures`, (b, n) with n = C H W, to (b, classes); the labels, shape (b,), count as known.
    `variation` is α, and `bounds` are the least and the largest value of a pixel, to which guesses are clamped.

    Yields:
        A guess after every step.
    """
    target, parameters = list(gradients.values()), [model.get_parameter(name) for name in gradients]
    size = torch.stack([t.square().sum() for t in target]).sum().sqrt()
    inputs = torch.randn(len(labels), math.prod(pictures), generator=generator).to(target[0]).requires_grad_()
    optimiser = torch.optim.Adam([inputs], lr=STEP_SIZE)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [int(part * steps) for part in DECAYS])
    for step in range(1, steps + 1):
        grads = torch.autograd.grad(F.cross_entropy(model(inputs), labels), parameters, create_graph=True)
        product = torch.stack([(g * t).sum() for g, t in zip(grads, target, strict=True)]).sum()
        length = torch.stack([g.square().sum() for g in grads]).sum().sqrt()
        objective = 1 - product / (length * size) + variation * total_variation(inputs, pictures)
        (grad,) = torch.autograd.grad(objective, inputs)
        inputs.grad = grad.sign()
        optimiser.step()
        schedule.step()
        if bounds is not None:
            with torch.no_grad():
                inputs.clamp_(*bounds)
        yield Guess(inputs.detach().clone(), labels, float(objective.detach()), step)


def best_so_far(run: Iterable[Guess], frames: int) -> Tensor:
    """Of the guesses up to each of some even steps the one whose gradient fits best, shape (frames + 1, b, n).

    The attacker sees how well a gradient fits. Steps of a fixed size may leave a good guess for a far worse one, and
    whether they do hangs on the rounding of the machine.
    """
    best = list(accumulate(run, lambda *guesses: min(guesses, key=lambda guess: guess.objective)))
    return torch.stack([best[round(i * (len(best) - 1) / frames)].inputs for i in range(frames + 1)])


def total_variation(inputs: Tensor, pictures: tuple[int, int, int]) -> Tensor:
    """Mean absolute difference of neighbouring pixels, down plus across, of flat pictures (b, n) with n = C H W.

    >>> float(total_variation(torch.tensor([[0.0, 1.0, 0.0, 1.0]]), (1, 2, 2)))
    1.0
    """
    pixels = inputs.reshape(-1, *pictures)
    down, across = pixels.diff(dim=2).abs().mean(), pixels.diff(dim=3).abs().mean()
    return down + across
