"""Exercises of notebook 05, with the mistakes that people make in them."""

import torch
from torch import Tensor

from spear_widgets.kit.exercise import Cases, Exercise, Mistake


# ---------------------------------------------------------------- PSNR
def psnr(truth, guess):  # type: ignore[no-untyped-def]  # shown as the solution
    """10 log₁₀(range² / mean squared error), in decibels."""
    span = truth.max() - truth.min()
    return 10 * torch.log10(span**2 / (truth - guess).square().mean())


def _pictures() -> Cases:
    for seed, (n, error) in enumerate([(12, 0.5), (300, 1e-2), (50, 1e-6)]):
        generator = torch.Generator().manual_seed(seed)
        truth = 3 * torch.randn(n, generator=generator, dtype=torch.float64)
        guess = truth + error * torch.randn(n, generator=generator, dtype=torch.float64)
        yield f"{n} pixels, errors of about {error:g}", (truth, guess)


PSNR = Exercise(
    name="07/psnr",
    level="warm-up",
    minutes=5,
    task="Write `psnr(truth, guess)`: 10 log₁₀(range² / mean squared error) in decibels, for one picture, both of "
    "shape (n,). The range is the largest minus the smallest pixel of the truth.",
    reference=psnr,
    cases=_pictures,
    mistakes=(
        Mistake(
            lambda truth, guess: (
                10 * torch.log10((truth.max() - truth.min()) / (truth - guess).square().mean())
            ),
            "The range must be squared, as the error is.",
        ),
        Mistake(
            lambda truth, guess: (
                10 * torch.log((truth.max() - truth.min()) ** 2 / (truth - guess).square().mean())
            ),
            "Decibels use the logarithm to base 10: `torch.log10`.",
        ),
        Mistake(
            lambda truth, guess: (
                10 * torch.log10((truth.max() - truth.min()) ** 2 / (truth - guess).square().mean().sqrt())
            ),
            "The mean squared error is wanted, without the root.",
        ),
        Mistake(
            lambda truth, guess: -psnr(truth, guess),
            "A better guess must give a larger number: range over error.",
        ),
        Mistake(
            lambda truth, guess: 10 * torch.log10(1 / (truth - guess).square().mean()),
            "These pixels do not lie between 0 and 1. Use the range of the truth.",
        ),
    ),
    hints=(
        "Which two numbers does the fraction compare?",
        "The range is `truth.max() − truth.min()`; the mean squared error is `(truth − guess).square().mean()`.",
        "Return 10 · `torch.log10`(range² / mean squared error).",
    ),
)


# ---------------------------------------------------------------- Wilson's interval
def wilson(successes, trials):  # type: ignore[no-untyped-def]  # shown as the solution
    """Both ends of Wilson's 95 % interval."""
    z, share = 1.96, successes / trials
    middle = share + z**2 / (2 * trials)
    half = z * (share * (1 - share) / trials + z**2 / (4 * trials**2)) ** 0.5
    return torch.tensor([middle - half, middle + half]) / (1 + z**2 / trials)


def _normal(successes: int, trials: int) -> Tensor:
    share = successes / trials
    half = 1.96 * (share * (1 - share) / trials) ** 0.5
    return torch.tensor([share - half, share + half])


def _half_only(successes: int, trials: int) -> Tensor:
    low, high = wilson(successes, trials)
    return (high - low) / 2


def _counts() -> Cases:
    return [(f"{k} of {n}", (k, n)) for k, n in ((10, 10), (3, 20), (0, 5), (150, 300))]


WILSON = Exercise(
    name="07/wilson",
    level="warm-up",
    minutes=8,
    task="Write `wilson(successes, trials)`: the two ends of Wilson's interval as a tensor of shape (2,), "
    r"$\left(p + \frac{z^2}{2n} \mp z \sqrt{\frac{p(1-p)}{n} + \frac{z^2}{4n^2}}\right) / "
    r"\left(1 + \frac{z^2}{n}\right)$, "
    "with $z = 1.96$, where $p$ is the share and $n$ the number of trials.",
    reference=wilson,
    cases=_counts,
    mistakes=(
        Mistake(_normal, "That is the normal interval. For 10 of 10 it has length zero; Wilson's has not."),
        Mistake(
            lambda successes, trials: wilson(successes, trials) * (1 + 1.96**2 / trials),
            "Both ends must be divided by 1 + z²/n.",
        ),
        Mistake(_half_only, "That is half of its length. Return both ends."),
    ),
    hints=(
        "Compute p first, then the middle and the half width.",
        "The middle is p + z²/(2n), the half width z √(p(1−p)/n + z²/(4n²)), both still to be divided.",
        "`torch.tensor([middle − half, middle + half]) / (1 + z²/n)`.",
    ),
)
