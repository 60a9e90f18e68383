"""One factor between weight and bias gradients, as a larger learning rate for biases leaves it.

Inputs smaller by that factor reproduce the attacked layer, and no other where biases or a known loss tell the scale. So
inputs of other scales are played to the later layers, and the factor with which all agree is taken out and named.
"""

import time
from fractions import Fraction
from math import exp, inf, log

from torch import Tensor

from spear_core.certificate.backprop import forward
from spear_core.certificate.output_errors import SURE_ROUNDING, cross_entropy_misses, loss_misses
from spear_core.certificate.single import rescaled
from spear_core.problem import Problem
from spear_core.search import Budget, State, Target
from spear_core.tolerances import precision

LARGEST, TRIED = 64.0, 73  # factors up to that, and down to its inverse, in so many steps
NEARLY = 1e-3  # what the later layers may be missed by with the right factor
LEAST_TIME = (
    1.0  # seconds without which the search is not begun: the library for it is imported at its first use
)
PAYS = 0.1  # share of what they are missed by without one
SIMPLE = ((16, 1e-3), (1000, 1e-6))  # a factor so near to a fraction of such a denominator is that fraction


def other_scale(target: Target, state: State, budget: Budget) -> tuple[Problem, str] | None:
    """The problem without the factor that its bias gradients seem to carry, and the note that says so; None without.

    Asked of a whole batch that is not proven.
    """
    found, certificate, layers = state.reconstruction, state.certificate, target.problem.layers
    if found is None or certificate is None or state.solved or not certificate.complete:
        return None
    if budget.deadline - time.monotonic() < LEAST_TIME:
        return None
    if len(layers) < 2 or target.problem.branches or layers[-1].activation is not None:
        return None
    # a loss that fits already leaves no factor to be found: label smoothing and a scale may look alike
    missed = loss_misses(forward(layers, target.forward.preactivations(found.coefficients)))
    if missed <= SURE_ROUNDING * precision(layers[-1].weight_grad.dtype):
        return None
    factor = _factor(target, found.coefficients, budget)
    if factor is None or budget.late:
        return None
    note = f"bias gradients are {factor:.6g} times what fits the weight gradients, and were divided by it"
    return rescaled(target, 1 / factor).problem, note


def _factor(target: Target, c: Tensor, budget: Budget) -> float | None:
    """The factor of the bias gradients with which the later layers agree."""
    # scipy's optimisation takes half a second to import
    from scipy.optimize import minimize_scalar

    def by_loss(power: float) -> float:
        if budget.late:
            return inf
        t = exp(power)
        other = rescaled(target, 1 / t).problem.layers
        return cross_entropy_misses(forward(other, target.forward.preactivations(t * c)))

    def by_layers(power: float) -> float:
        if budget.late:
            return inf
        t = exp(power)
        assert target.later is not None
        played = target.later.replay(rescaled(target, 1 / t), target.forward.preactivations(t * c), None)
        return inf if played is None else played.residual

    step = 2 * log(LARGEST) / (TRIED - 1)
    grid = [step * (place - TRIED // 2) for place in range(TRIED)]
    for misses in (by_loss, by_layers):
        values = [misses(power) for power in grid]
        place = min(range(TRIED), key=values.__getitem__)
        around = (grid[place] - step, grid[place] + step)
        best = minimize_scalar(misses, bounds=around, method="bounded", options={"xatol": 1e-9})
        if best.fun < min(NEARLY, PAYS * misses(0.0)):
            factor = exp(best.x)
            fractions = ((float(Fraction(factor).limit_denominator(most)), near) for most, near in SIMPLE)
            return next((simple for simple, near in fractions if abs(simple / factor - 1) < near), factor)
    return None
