"""The tolerances that several rooms share: each scales with dtype, size and the data's own noise.

What only one room needs stands at the head of its file, with what it is derived from.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

JUMP = 4.0  # neighbours in the rounding floor of a spectrum differ by less than this factor
ZERO_MARGIN = 1024.0  # a zero of L q is allowed this many times its expected rounding error
EVEN_ZERO_MARGIN = 16.0  # the same where rounding is alike in every entry of G, and its size well known
FLAT_TAIL = 6  # singular values that must be seen below the rank before the floor is believed
CLEAR_DROP = 50.0  # drop of a spectrum that is believed without so many values behind it

WEIGHT_MATCH = 1e-3  # how far a sample's weight may be from a whole number and still count as one, relative
REPLAY_MARGIN = 4.0  # replayed weights are rounded as the client's were, in another order
LARGEST_ROUNDING = 1e-4  # relative; an update that rounding blurs more proves nothing
ALLOWED_ERROR = 1e-5  # expected relative error up to which a row may be called exact: 90 dB is 3e-5

EXPLAINED_FLOOR = 100.0  # rounding errors; a floor of the spectrum above that has a reason

SPARE_EQUATIONS = 8  # so many more equations than unknowns make a coincidence impossible
SAME_DIRECTION = 1e-6  # 1 − cosine up to which two directions are one, as exact as candidates in float32 are
EQUAL_DIRECTION = 1e-9  # the same for null vectors in float64
# least distance of a unit direction from the span of others; float64 inverts such a Q to 1e-11
INDEPENDENT = 1e-5
# two finds closer than this, relative to their length, are one sample, however exact they are
SAME_SAMPLE = 1e-4


def rounding_residual(noise: float) -> float:
    """Largest relative residual that still counts as rounding, from the noise of the gradient's spectrum.

    A gradient whose own rounding floor is higher than that of float32 arithmetic gets no further allowance:
    what it gives is approximate.
    """
    return min(256 * precision(torch.float32), max(1e-10, 4096 * noise))


def replay_residual(rounding: float) -> float:
    """Largest relative residual of a replayed update that still counts as rounding, from `Problem.weight_rounding`."""
    return min(LARGEST_ROUNDING, REPLAY_MARGIN * rounding)


def precision(dtype: torch.dtype) -> float:
    """Relative rounding error of one stored number, e.g. 1.2e-7 for float32."""
    return torch.finfo(dtype).eps


def noise_per_entry(floor: float, shape: Sequence[int]) -> float:
    """Size of each entry of a random (m, n) matrix whose largest singular value is `floor`."""
    m, n = shape
    return floor / (m**0.5 + n**0.5)


def numerical_rank(singular_values: Tensor, dtype: torch.dtype) -> int:
    """Rank read off a spectrum: everything above the last jump down to the rounding floor.

    The *largest* ratio of neighbours would fail where one direction dominates, a fixed threshold where the
    gradient is a float32 difference of weights. The floor is flat, so its edge is the last jump.

    Args:
        singular_values: descending, shape (k,), at least one.
        dtype: dtype of the matrix that the values come from.

    Returns:
        A number from 0 (all zero) to k; k if there is no jump, that is, no floor in sight.
    """
    largest = float(singular_values[0])
    if largest == 0:
        return 0
    # Below a hundredth of one rounding error the values are leftovers of the arithmetic, not a floor.
    values = singular_values.clamp_min(0.01 * precision(dtype) * largest)
    jumps = (values[:-1] > JUMP * values[1:]).nonzero().flatten() + 1
    above, below = values[jumps - 1], values[jumps]
    # Of a complete spectrum the last values fall freely: a drop there counts only if it is steep.
    floor = (len(values) - jumps >= FLAT_TAIL) | (above > CLEAR_DROP * below)
    # And nothing at rounding, of the data or of the arithmetic here, is a signal, so a drop from there leads
    # from the floor to zeros.
    seen = above > max(0.1 * precision(dtype), 8 * precision(torch.float64)) * largest
    signal = jumps[(below < 0.02 * largest) & floor & seen]
    return int(signal[-1]) if len(signal) else len(values)
