"""Exercises of notebook 07, with the mistakes that people make in them."""

from collections.abc import Callable
from typing import Any

import torch

from spear_core.study import metrics
from spear_widgets.kit.exercise import Cases, Exercise, Function, Mistake, OpenQuestion
from spear_widgets.scale.reach import measured


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
            lambda truth, guess: 10 * torch.log10(truth.max() ** 2 / (truth - guess).square().mean()),
            "The range is the largest minus the smallest pixel: these pixels are negative, too.",
        ),
        Mistake(
            lambda truth, guess: (
                10 * torch.log10((guess.max() - guess.min()) ** 2 / (truth - guess).square().mean())
            ),
            "A bad guess must not set its own scale: take the range of the truth.",
        ),
        Mistake(
            lambda truth, guess: (
                10 * torch.log10((truth.max() - truth.min()) ** 2 / (truth - guess).square().sum())
            ),
            "The error is a mean over the pixels, or a larger picture would look worse.",
        ),
        Mistake(
            lambda truth, guess: (
                10 * torch.log10((truth.max() - truth.min()) ** 2 / (truth - guess).abs().mean())
            ),
            "Square the error of each pixel before taking the mean.",
        ),
        Mistake(
            lambda truth, guess: torch.log10(
                (truth.max() - truth.min()) ** 2 / (truth - guess).square().mean()
            ),
            "Those are bels. A decibel is a tenth of one: ten times the logarithm.",
        ),
        Mistake(
            lambda truth, guess: (truth.max() - truth.min()) ** 2 / (truth - guess).square().mean(),
            "That is the fraction. Decibels are ten times its logarithm to base 10.",
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


# ---------------------------------------------------------------- how far it reaches
def reach(rows, seconds, least):  # type: ignore[no-untyped-def]  # shown as the solution
    """The last b before the lower end of the share's interval falls below `least`, within the time; 0 if none."""
    reached = 0
    for b in sorted({row["b"] for row in rows}):
        runs = [row for row in rows if row["b"] == b]
        found = sum(row["exact"] for row in runs if row["seconds"] <= seconds)
        low, _ = metrics.share_interval(found, b * len(runs))
        if low < least:
            break
        reached = b
    return reached


def _judged_by(
    end: Callable[[int, int], float],
    *,
    clock: bool = True,
    slow_runs_count: bool = True,
    gaps: bool = False,
) -> Function:
    """`reach` with another end of the interval, without the clock, without slow runs, or over gaps."""

    def answer(rows: list[dict[str, Any]], seconds: float, least: float) -> int:
        reached = 0
        for b in sorted({row["b"] for row in rows}):
            runs = [row for row in rows if row["b"] == b]
            fast = [row for row in runs if not clock or row["seconds"] <= seconds]
            of = b * len(runs if slow_runs_count else fast)
            if of and end(sum(row["exact"] for row in fast), of) >= least:
                reached = b
            elif not gaps:
                break
        return reached

    return answer


def _low(found: int, of: int) -> float:
    return metrics.share_interval(found, of)[0]


def _pooled(rows: list[dict[str, Any]], seconds: float, least: float) -> int:
    """The share over all batch sizes up to b."""
    reached = 0
    for b in sorted({row["b"] for row in rows}):
        runs = [row for row in rows if row["b"] <= b]
        found = sum(row["exact"] for row in runs if row["seconds"] <= seconds)
        if _low(found, sum(row["b"] for row in runs)) < least:
            break
        reached = b
    return reached


def _stored(method: str, width: int) -> list[dict[str, Any]]:
    return [
        {"b": b, "exact": run["exact"], "seconds": run["seconds"]}
        for b, runs in measured(method, width).items()
        for run in runs
    ]


def _made(*runs: tuple[int, int, float]) -> list[dict[str, Any]]:
    return [{"b": b, "exact": exact, "seconds": seconds} for b, exact, seconds in runs]


def _budgets() -> Cases:
    easy = [(8, 8, 1.0)] * 4
    gap = _made(*easy, (16, 16, 1.0), (16, 16, 1.0), (16, 0, 1.0), *[(24, 24, 1.0)] * 3)
    slow = _made(*easy, *[(16, 16, 2.0)] * 3, (16, 0, 9.0))
    return [
        ("sampling, m = 100, 5 seconds, 0.7", (_stored("sampling", 100), 5.0, 0.7)),
        ("consistency, m = 50, 5 seconds, 0.5", (_stored("consistency", 50), 5.0, 0.5)),
        ("consistency, m = 400, 30 seconds, 0.9", (_stored("consistency", 400), 30.0, 0.9)),
        ("ten made-up runs, one of which found nothing", (gap, 5.0, 0.6)),
        ("eight made-up runs, one of them slow", (slow, 5.0, 0.7)),
        ("six made-up runs, one of them half right", (_made(*easy, (16, 16, 1.0), (16, 8, 1.0)), 5.0, 0.8)),
        ("made-up runs that are all too slow", (slow, 0.5, 0.7)),
    ]


REACH = Exercise(
    name="07/reach",
    level="task",
    minutes=20,
    task="How far does an attack reach? Write `reach(rows, seconds, least)`: each row is a run, a dictionary with the "
    "batch size `b`, the number `exact` of its samples that came back exactly, and the `seconds` it took. A run that "
    "took longer than `seconds` counts as one that found nothing. Return the largest $b$ for which, there *and at "
    "every smaller $b$*, the lower end of the 95 % interval of the share of exact samples is at least `least`; 0 if "
    "there is none. `metrics.share_interval(found, of)` gives both ends.",
    reference=reach,
    cases=_budgets,
    mistakes=(
        Mistake(
            _judged_by(lambda found, of: found / of),
            "That is the share itself. 12 of 12 is a share of one, and its interval begins at 0.76: take the lower "
            "end.",
        ),
        Mistake(
            _judged_by(_low, gaps=True),
            "That goes on after a gap. Whoever attacks does not choose the batch, so stop at the first $b$ that fails.",
        ),
        Mistake(
            _judged_by(_low, clock=False), "Look at the clock, too: a run that took longer found nothing."
        ),
        Mistake(
            _judged_by(_low, slow_runs_count=False),
            "A run that was too slow is a failure, not a run that never was: it stays in the denominator.",
        ),
        Mistake(
            _judged_by(lambda found, of: metrics.share_interval(found, of)[1]),
            "The upper end says how good it may be. What is certain is the lower one.",
        ),
        Mistake(_pooled, "Easy small batches cover up the large ones: look at each $b$ by itself."),
    ),
    hints=(
        "For one $b$: how many samples were there in all its runs, and how many came back exactly in time?",
        "Go through the batch sizes in ascending order, and stop at the first whose lower end is below `least`.",
        "`found` is the sum of `exact` over the runs of this $b$ that were in time, `of` is $b$ times the number of "
        "all "
        "its runs.",
    ),
)

TRIALS = OpenQuestion(
    "07/trials",
    "The bars of this notebook take each *sample* as a trial: 12 of 12 samples is a share above 0.76. "
    "But the twelve came from one batch. Are they twelve trials? Say what speaks for and against it, what you would "
    "count instead, and what becomes of *every sample exact up to $b = 160$* at $m = 400$, with two batches there.",
    10,
    "Mostly not. A draw that is missing, a clock that stops, a pair of twins harm some samples of a batch together, "
    "so samples of one batch fail together more often than independent ones would, and bars over samples are "
    "too short. The safe unit is the batch: two of two batches whole leaves a share above 0.34 only. "
    "For a tighter claim at $b = 160$ one needs more batches, not larger ones.",
)
