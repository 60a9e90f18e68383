"""Is a proven row one sample, or may it be a mean of several?

Samples that activate the same units in every layer, and whose output errors δ_i are collinear, send what their mean
Σ δ_i x_i / Σ δ_i sends: in every layer, in any precision. So the proof of a row is not yet that of a sample. It is

- where b is given and a gradient has that rank: of b terms d_i x_iᵀ none is a sum of two;
- or where the loss is cross-entropy (three classes at least). δ has more entries than cross-entropy has unknowns then,
  so collinear errors of unlike samples would be a coincidence; and alike samples, where rounding hides how far apart
  they are, give a row the weight of several.

Rounding hides how far alike samples lie apart: distances enter G squared where one row stands for all of them, and to
the fourth power where two do. What is closer than that is not called one sample without b.
"""

from dataclasses import replace

import torch
from torch import Tensor

from spear_core.certificate.backprop import forward
from spear_core.certificate.output_errors import cross_entropy_misses, errors_by_gradient, loss_misses
from spear_core.certificate.record import OutputErrors, Replay
from spear_core.linalg import misfit
from spear_core.search import Target
from spear_core.spear.records import Reconstruction
from spear_core.tolerances import ALLOWED_ERROR, precision

FEWEST_CLASSES = FEWEST_UNITS = 3
# of the largest entry of δ, in rounding errors: with only two entries above, all errors of their kind are collinear
SATURATED = 2.0**10
# rows of a batch that is not whole by which the weight of one sample is known: two may both stand for as many
FEWEST_ALIKE = 3
CLOSE = 8.0  # times the fourth root of the rounding: rows that may stand for more of their kind
OTHER_SCALE = 1.01  # to which somebody must object
OBJECTS = 4.0  # times that cross-entropy misses the gradients by at this scale, at least, it must do at the other one
# times the limit of a gradient's residual: similar samples blur the columns that g lies in
BIAS_OUTSIDE = 16.0


def single_rows(
    target: Target, found: Reconstruction, loss: OutputErrors | None, fewest: Tensor | None
) -> Tensor:
    """Which rows are one sample each, if they are proven at all, where b is not told; for `search.Later`, shape (k,).

    The errors of the output, and `fewest` active units in any layer, are those of a whole batch played again; where
    there is none, they are asked of ∂L/∂z, as far as it is known.
    """
    k, layers = len(found.coefficients), target.problem.layers
    nobody = torch.zeros(k, dtype=torch.bool, device=found.coefficients.device)
    if not k or target.problem.branches or layers[-1].activation is not None:
        return nobody
    if loss is None and found.separated:
        passed = forward(layers, found.preactivations)
        loss, fewest = errors_by_gradient(passed, found.output_grads), passed.fewest
    if loss is None or fewest is None or loss.values.shape[1] < FEWEST_CLASSES + (k == 1):
        return nobody
    noise = max(target.low_rank.noise, precision(layers[0].weight_grad.dtype) / 16)
    sizes = loss.values.abs().topk(3, dim=1).values
    clear = sizes[:, 2] > SATURATED * noise * sizes[:, 0]
    # samples of one label that rounding does not tell apart would show by their weight
    alike = k >= target.batch_size or int(loss.single.sum()) >= FEWEST_ALIKE
    told = loss.single & alike & (k > 1) if noise**0.5 > ALLOWED_ERROR else loss.explained
    # through fewer units back-propagation sends collinear ∂L/∂z, whatever the errors of the output
    clear &= fewest >= FEWEST_UNITS
    return told & clear & ~_crowd(target, found, CLOSE * noise**0.25)


def scale_confirmed(
    target: Target,
    found: Reconstruction,
    played: Replay | None,
    limit: float,
    generator: torch.Generator | None,
) -> bool:
    """Whether a later layer or the loss objects to another scale; for `search.Later`.

    Inputs larger by a factor t, and errors smaller by it, give the same weight gradients where biases are zero, and
    bias gradients smaller by t: a server that does not know for sure how the two were weighed cannot tell. `limit` is
    the relative residual up to which a gradient counts as reproduced.
    """
    k, c = len(found.coefficients), found.coefficients
    if target.later is None or not k:
        return True
    # a bias gradient with a part of its own, as inputs that are multiples of each other leave it, tells no scale
    telling = target.splits.of(1, target.batch_size) if target.crowded else target.low_rank
    g = target.problem.layers[int(target.crowded)].bias_grad.to(c.dtype)
    if not misfit(telling.factor, g[:, None]) <= BIAS_OUTSIDE * limit:
        return False
    fewest = FEWEST_CLASSES - (k > 1)  # outputs of which a known loss has an equation left for the scale
    other = rescaled(target, 1 / OTHER_SCALE)
    if played is not None and played.loss.values.shape[1] >= fewest and bool(played.loss.named.all()):
        passes = [
            forward(at.problem.layers, target.forward.preactivations(t * c))
            for at, t in ((target, 1.0), (other, OTHER_SCALE))
        ]
        rounding = precision(target.problem.layers[-1].weight_grad.dtype)
        for misses in (cross_entropy_misses, loss_misses):  # the second knows more of them, and takes longer
            missed, missed_there = map(misses, passes)
            if missed_there > OBJECTS * max(missed, rounding):
                return True
    if played is None:
        here = target.later.witness(target, c, generator)[0]
        return bool((here & ~target.later.witness(other, OTHER_SCALE * c, generator)[0]).any())
    replayed = target.later.replay(other, target.forward.preactivations(OTHER_SCALE * c), None)
    return replayed is None or not replayed.residual <= limit


def rescaled(target: Target, factor: float) -> Target:
    """The same gradients, but for all bias gradients, which are larger by a factor."""
    layers = (replace(layer, bias_grad=factor * layer.bias_grad) for layer in target.problem.layers)
    problem = replace(target.problem, layers=tuple(layers))
    splits = target.splits.behind(problem)
    other = replace(target, problem=problem, splits=splits)
    other.once("forward", lambda: target.forward)  # of the same weights
    return other


def _crowd(target: Target, found: Reconstruction, close: float) -> Tensor:
    """Which rows have another one so close, of the same pattern in every layer, shape (k,)."""
    places = found.coefficients * found.low_rank.singular_values[: found.coefficients.shape[1]]
    lengths = places.norm(dim=1)
    near = (torch.cdist(places, places) < close * lengths).fill_diagonal_(False)
    if near.any():
        for slopes in forward(target.problem.layers, found.preactivations).slopes:
            near &= (slopes[:, None] != 0).eq(slopes != 0).all(dim=2)
    return near.any(dim=1)
