"""Exercises of notebook 08, with the mistakes that people make in them."""

import torch
from torch import Tensor

from spear_widgets.kit.exercise import Cases, Exercise, Mistake


# ---------------------------------------------------------------- clipping
def clip(grads, norm):  # type: ignore[no-untyped-def]  # shown as the solution
    """Mean of the rows, each shortened to the norm if it is longer."""
    lengths = grads.norm(dim=1, keepdim=True)
    return (grads * (norm / lengths).clamp(max=1)).mean(dim=0)


def _clips_the_mean(grads: Tensor, norm: float) -> Tensor:
    mean = grads.mean(dim=0)
    return mean * min(1.0, norm / float(mean.norm()))


def _examples() -> Cases:
    for seed, (b, n, norm) in enumerate([(4, 6, 1.0), (8, 30, 2.5), (3, 5, 0.1)]):
        generator = torch.Generator().manual_seed(seed)
        grads = torch.randn(b, n, generator=generator, dtype=torch.float64)
        grads = (
            grads / grads.norm(dim=1, keepdim=True) * torch.logspace(1, -1, b, dtype=torch.float64)[:, None]
        )
        yield f"{b} examples, norm {norm:g}", (grads * norm, norm)


CLIP = Exercise(
    name="08/clip",
    level="warm-up",
    minutes=8,
    task="Write `clip(grads, norm)`: grads has one example's gradient in each row, shape (b, k). Shorten each row to "
    "the norm if it is longer, leave it if it is not, and return the mean over the examples, shape (k,).",
    reference=clip,
    cases=_examples,
    mistakes=(
        Mistake(
            _clips_the_mean, "Clip every example first, then take the mean: one example must not rule it."
        ),
        Mistake(
            lambda grads, norm: (grads * (norm / grads.norm(dim=1, keepdim=True))).mean(dim=0),
            "A row that is shorter than the norm stays as it is: the factor is at most 1.",
        ),
        Mistake(
            lambda grads, norm: grads.clamp(-norm, norm).mean(dim=0),
            "It is the length of the whole row that is limited, not each entry.",
        ),
        Mistake(
            lambda grads, norm: clip(grads, norm) * len(grads),
            "The mean over the examples is wanted, not their sum.",
        ),
        Mistake(
            lambda grads, norm: (grads * (grads.norm(dim=1, keepdim=True) <= norm)).mean(dim=0),
            "A row that is too long is shortened, not thrown away.",
        ),
    ),
    hints=(
        "How long is each row, and by which factor must it shrink?",
        "The factor is norm / length, but at most 1.",
        "`(grads * (norm / lengths).clamp(max=1)).mean(dim=0)`, with lengths of shape (b, 1).",
    ),
)


# ---------------------------------------------------------------- quantisation
def quantise(grad, bits):  # type: ignore[no-untyped-def]  # shown as the solution
    """Entries rounded to multiples of max|g| / (2^(bits−1) − 1)."""
    step = grad.abs().max() / (2 ** (bits - 1) - 1)
    return (grad / step).round() * step


def _floors(grad: Tensor, bits: int) -> Tensor:
    step = grad.abs().max() / (2 ** (bits - 1) - 1)
    return (grad / step).floor() * step


def _all_bits(grad: Tensor, bits: int) -> Tensor:
    step = grad.abs().max() / (2**bits - 1)
    return (grad / step).round() * step


def _signed_maximum(grad: Tensor, bits: int) -> Tensor:
    step = grad.max() / (2 ** (bits - 1) - 1)
    return (grad / step).round() * step


def _numbers() -> Cases:
    for seed, (n, bits) in enumerate([(12, 4), (40, 8), (9, 3)]):
        grad = torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        grad[0] = -4.0  # the largest entry is negative
        yield f"{n} numbers, {bits} bits", (grad, bits)


QUANTISE = Exercise(
    name="08/quantise",
    level="warm-up",
    minutes=8,
    task="Write `quantise(grad, bits)`: round every entry to the nearest multiple of a step, the largest magnitude "
    "over 2^(bits − 1) − 1.",
    reference=quantise,
    cases=_numbers,
    mistakes=(
        Mistake(
            _floors, "Round to the nearest multiple: floor always goes down, which shifts the whole gradient."
        ),
        Mistake(_all_bits, "One bit is the sign: 2^(bits − 1) − 1 steps on each side of zero."),
        Mistake(
            lambda grad, bits: (grad / (grad.abs().max() / (2 ** (bits - 1) - 1))).round(),
            "These are the numbers of steps. Multiply by the step again.",
        ),
        Mistake(_signed_maximum, "The largest magnitude is wanted: the largest entry here is negative."),
    ),
    hints=(
        "How long is one step?",
        "`step = grad.abs().max() / (2 ** (bits - 1) - 1)`.",
        "Divide by the step, round, multiply by it again.",
    ),
)
