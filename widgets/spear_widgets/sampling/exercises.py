"""Exercises of notebook 03, with the mistakes that people make in them."""

import math

import torch
from torch import Tensor

from spear_widgets.kit.compare import numbers
from spear_widgets.kit.exercise import Cases, Exercise, Mistake, OpenQuestion
from spear_widgets.kit.scene import scene


# ---------------------------------------------------------------- false rejection
def false_rejection(units, threshold):  # type: ignore[no-untyped-def]  # shown as the solution
    """P(Bin(m, ½) < τ m), summed."""
    few = [k for k in range(units + 1) if k < threshold * units]
    return sum(math.comb(units, k) for k in few) / 2**units


def _up_to_and_with(units: int, threshold: float) -> float:
    few = [k for k in range(units + 1) if k <= threshold * units]
    return sum(math.comb(units, k) for k in few) / 2**units


def _bell_curve(units: int, threshold: float) -> float:
    score = (threshold * units - units / 2) / (units**0.5 / 2)
    return 0.5 * math.erfc(-score / 2**0.5)


def _widths() -> Cases:
    return [
        ("m = 20, τ = 0.25", (20, 0.25)),
        ("m = 30, τ = 0.3125", (30, 0.3125)),
        ("m = 64, τ = 0.375", (64, 0.375)),
        ("m = 10, τ = 0", (10, 0.0)),
    ]


FALSE_REJECTION = Exercise(
    name="03/false_rejection",
    level="warm-up",
    minutes=10,
    task="Write `false_rejection(units, threshold)`: the probability that a right direction has fewer than τ m zeros, "
    "if each of the m entries is zero with probability ½, independently.",
    reference=false_rejection,
    cases=_widths,
    mistakes=(
        Mistake(_up_to_and_with, "A direction with exactly τ m zeros is kept: count only those with fewer."),
        Mistake(
            lambda units, threshold: (
                sum(math.comb(units, k) for k in range(int(threshold * units))) / 2**units
            ),
            "`range(int(τ m))` ends one too early where τ m is no whole number: 9 zeros are fewer than 9.375.",
        ),
        Mistake(
            lambda units, threshold: (
                sum(math.comb(units, k) for k in range(1, units + 1) if k < threshold * units) / 2**units
            ),
            "No zero at all is a possibility, too: begin with k = 0.",
        ),
        Mistake(
            lambda units, threshold: sum(
                math.comb(units, k) * threshold**k * (1 - threshold) ** (units - k)
                for k in range(units + 1)
                if k < threshold * units
            ),
            "τ is where the line is drawn. An entry is zero with probability ½, whatever τ is.",
        ),
        Mistake(
            lambda units, threshold: 1 - false_rejection(units, threshold),
            "That is the probability of being kept. Rejection is the other tail.",
        ),
        Mistake(
            lambda units, threshold: math.comb(units, int(threshold * units)) / 2**units,
            "That is the probability of one number of zeros. Add up all numbers below τ m.",
        ),
        Mistake(
            lambda units, threshold: sum(
                math.comb(units, k) for k in range(units + 1) if k < threshold * units
            ),
            "Those are the ways, not their probability. Each of the 2^m patterns is equally likely.",
        ),
        Mistake(
            _bell_curve,
            "The bell curve is close in the middle and wrong in the tail, where a threshold sits. Sum the binomial.",
        ),
    ),
    hints=(
        "The number of zeros is like the number of heads in m tosses of a coin. For which numbers is q rejected?",
        "k zeros have probability C(m, k) / 2^m; `math.comb` gives C(m, k).",
        "Add up `math.comb(units, k)` for all whole k with `k < threshold * units`, and divide by `2**units`.",
    ),
)


# ---------------------------------------------------------------- a threshold from the noise
def zero_pattern(factor, values, inputs, q):  # type: ignore[no-untyped-def]  # shown as the solution
    """Which entries of L q are zero, to the noise that the gradient itself shows."""
    m, b = factor.shape
    # after the cliff there is nothing but noise, on (m − b)(n − b) numbers
    noise = (values[b:].square().sum() / ((m - b) * (inputs - b))).sqrt()
    # an error δG reaches L as δG V S⁻¹, and L q as δG V S⁻¹ q
    spread = noise * (q / values[:b]).norm()
    return (factor @ q).abs() < 3.5 * spread


def _noise(factor: Tensor, values: Tensor, inputs: int) -> Tensor:
    m, b = factor.shape
    return (values[b:].square().sum() / ((m - b) * (inputs - b))).sqrt()


def _noisy_gradients() -> Cases:
    for b, width, noise, sample in ((3, 100, 0.0, 0), (4, 200, 0.1, 0), (4, 100, 0.5, 1), (6, 200, 0.1, 2)):
        stage = scene("photos", b, width)
        generator = torch.Generator().manual_seed(1)
        G = stage.layer.weight_grad.double()
        G = G + noise * G.std() * torch.randn(G.shape, generator=generator, dtype=torch.float64)
        U, values, _ = torch.linalg.svd(G, full_matrices=False)
        L = U[:, :b]
        q = L.T @ stage.output_grads[sample].double()
        words = f"noise of {100 * noise:.0f} % of an entry" if noise else "32-bit rounding"
        yield f"b = {b}, m = {width}, {words}", (L, values, G.shape[1], q / q.norm())


def _mostly(wanted: Tensor, yours: Tensor) -> bool:
    """Whether the patterns agree except in a few entries: how wide the threshold is within reason is free."""
    yours = numbers(yours)
    same = yours.shape == wanted.shape and yours.dtype == torch.bool
    return same and float((wanted == yours).double().mean()) > 0.975


ZERO_PATTERN = Exercise(
    name="03/zero_pattern",
    level="task",
    minutes=30,
    task="Make the threshold from the noise. Write `zero_pattern(factor, values, inputs, q)`: a mask, shape (m,), "
    "of the entries of $L q$ that are zero up to the noise on the gradient, be it rounding or added by the client. "
    "`factor` is $L$, shape (m, b); `values` holds *all* singular values of $G$, largest first; `inputs` is $n$; "
    "`q` is a unit vector, shape (b,). Nobody tells how large the noise is. A mask that errs in one entry of 40 "
    "passes.",
    reference=zero_pattern,
    cases=_noisy_gradients,
    agree=_mostly,
    mistakes=(
        Mistake(
            lambda factor, values, inputs, q: (factor @ q).abs() < 1e-5 * (factor @ q).abs().max(),
            "One hundred-thousandth is right for 32-bit rounding only. How large is the noise of *this* gradient?",
        ),
        Mistake(
            lambda factor, values, inputs, q: (factor @ q).abs() < 1e-2 * (factor @ q).abs().max(),
            "A fixed share of the largest entry is too much for one client and too little for the next. Take it "
            "from the singular values after the cliff.",
        ),
        Mistake(
            lambda factor, values, inputs, q: (factor @ q).abs() < values[factor.shape[1]],
            "That compares entries of L, whose columns have length one, with a singular value of G, and a singular "
            "value sums up a whole matrix of noise.",
        ),
        Mistake(
            lambda factor, values, inputs, q: (
                (factor @ q).abs() < values[factor.shape[1]] * (q / values[: factor.shape[1]]).norm()
            ),
            "The first value after the cliff is the noise of the whole matrix in one direction, some √m + √n times "
            "that of one entry. Divide the sum of squares by the number of entries.",
        ),
        Mistake(
            lambda factor, values, inputs, q: (
                (factor @ q).abs() < _noise(factor, values, inputs) * (q / values[: factor.shape[1]]).norm()
            ),
            "One standard deviation leaves out a third of the zeros. Take three or four.",
        ),
        Mistake(
            lambda factor, values, inputs, q: (factor @ q).abs() < 3.5 * _noise(factor, values, inputs),
            "That is the noise of an entry of G. L = G V S⁻¹: small singular values amplify it, so q / values comes "
            "in.",
        ),
    ),
    hints=(
        "Two questions: how large is the noise of one entry of $G$, and what does it become in $L q$?",
        "After the cliff, the squares of `values` add up to the squares of the noise on $(m-b)(n-b)$ entries. And "
        "$L = G V S^{-1}$, so that $L q$ is off by $\\delta G\\, V S^{-1} q$.",
        "`noise = (values[b:].square().sum() / ((m - b) * (inputs - b))).sqrt()`; one entry of $L q$ scatters by "
        "`noise * (q / values[:b]).norm()`. Allow three or four times that.",
    ),
)


WHOM_FIRST = OpenQuestion(
    name="03/whom_first",
    minutes=10,
    text="A server has time for one of three clients, each with a layer of 200 units: (a) 12 rows of random "
    "numbers, (b) 8 frames of one video, (c) 16 different photographs. Order them by the draws that you expect, and "
    "say what could turn your order round.",
    model_answer="Without resemblance: (b) 128 × 2.7, (a) 2,048 × 3.1, (c) 32,768 × 3.4 draws. Frames of one video "
    "share nearly all their zeros, and a set of rows that is zero for two samples is lost: with 90 of 100 zeros "
    "shared, half of the hits at $b = 8$ are; with 100 of 100, all of them. So (b) may be the most expensive, or not "
    "solvable at all, although its batch is the smallest. What decides is how many units tell the two most similar "
    "frames apart.",
)
