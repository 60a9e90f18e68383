"""Inputs that are affinely but not linearly independent: the bias counts as one more input, the same for every sample.

[G | g] = ∂L/∂Z [X, 1]ᵀ. Where a sample is all zero, where rows have mean zero, or where b = n, the rank of G is below b
or as large as can be, and that of [G | g] is b all the same, with a floor below it. Then the attacked layer is
x̃ = (x, t) ↦ [W | β/t] x̃ with gradient [G | t g]: no search has to know, and the last column of what it finds is t.
"""

from dataclasses import replace

import torch

from spear_core.attack import causes
from spear_core.attack.counting import is_nearly_full, live_lines
from spear_core.search import Splits
from spear_core.spear.low_rank import LowRank, split
from spear_core.tolerances import CLEAR_DROP, EXPLAINED_FLOOR, numerical_rank, precision

DATA_ROUNDING = 16.0  # rounding errors up to which a singular value may be the rounding of the data
RELIABLE = 0.5  # share of its room up to which the next layer's rank counts samples
# rounding errors of G's largest entry below which a bias gradient may be what BatchNorm leaves
CANCELLED = 1024.0


def augmented(
    splits: Splits, low_rank: LowRank, batch_size: int | None, generator: torch.Generator | None
) -> tuple[Splits, LowRank]:
    """What is attacked and its split, with the bias as an input where only that tells all samples; else as given.

    Args:
        splits: of the layers as they are.
        low_rank: split of the attacked one's gradient.
        batch_size: b, if the caller gave it.
        generator: source of the sketch.
    """
    layer, values = splits.problem.attacked, low_rank.singular_values
    rounding = precision(layer.weight_grad.dtype)
    # rows that were centred in the data's own precision add up to its rounding, not to zero
    clear = int((values > DATA_ROUNDING * rounding * values[0]).sum())
    rank = min(numerical_rank(values, layer.weight_grad.dtype), low_rank.batch_size, clear)
    g, factor = layer.bias_grad.to(torch.float64), low_rank.factor[:, :rank]
    m, n = live_lines(low_rank)
    # as large as an input: so the added column carries as much rounding as the others; a power of two adds none
    t = 2.0 ** float(torch.round(torch.log2(values.norm() / (g.norm() * layer.weight.shape[1] ** 0.5))))
    floor = float(values[rank]) if rank < min(len(values), n) else rounding * float(values[0])
    outside = t * float((g - factor @ (factor.T @ g)).norm())
    larger = outside > CLEAR_DROP * max(floor, rounding * float(values[0]))
    if not rank < m or not (larger or rank >= n) or _doubtful(splits, low_rank, rank, floor):
        return splits, low_rank
    wider = replace(
        layer,
        weight_grad=torch.cat([layer.weight_grad, t * layer.bias_grad[:, None].to(layer.weight_grad)], dim=1),
        weight=torch.cat([layer.weight, layer.bias[:, None].to(layer.weight) / t], dim=1),
        bias=torch.zeros_like(layer.bias),
    )
    found = split(wider.weight_grad, batch_size, generator=generator, expected=rank + 1, even=low_rank.even)
    whole = numerical_rank(found.singular_values, layer.weight_grad.dtype)
    told = _told(splits, rank)
    crowded = told is not None and told > whole and is_nearly_full(found)
    if whole != rank + larger or whole > n or crowded:
        return splits, low_rank
    return Splits(replace(splits.problem, layers=(wider, *splits.problem.layers[1:]))), found


def _told(splits: Splits, rank: int) -> int | None:
    """b as the next layer's gradient tells it, where that has room for more."""
    told = causes.batch_by_next_layer(splits, rank)
    if told is None or told > RELIABLE * min(splits.problem.layers[1].weight_grad.shape):
        return None
    return told


def _doubtful(splits: Splits, low_rank: LowRank, rank: int, floor: float) -> bool:
    """Whether a bias gradient outside the columns of G is more likely damaged, or of another batch."""
    layer, told = splits.problem.attacked, _told(splits, rank)
    rounding = precision(layer.weight_grad.dtype)
    cancelled = layer.bias_grad.abs().max() <= CANCELLED * rounding * layer.weight_grad.abs().max()
    noisy = floor > EXPLAINED_FLOOR * rounding * float(low_rank.singular_values[0])
    return (told == rank and rank < live_lines(low_rank)[1]) or (told is None and (noisy or bool(cancelled)))
