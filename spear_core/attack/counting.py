"""How many samples there are: the rank of one gradient, or of two that disagree.

The attacked layer's gradient has rank b where the samples' inputs are independent. Where the next layer's rank is
higher, there are two explanations. If layer 1 has no room for a higher rank, the batch is larger than the input
(b > n), and the next layer tells b. If it has room, the client took several local steps: the inputs are the same
in each, so layer 1 still says b, but the activations that layer 2 saw moved from step to step; or, rarely, the
inputs are combinations of each other.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from spear_core.attack import causes
from spear_core.errors import InputError
from spear_core.problem import Problem
from spear_core.search import Splits
from spear_core.spear.low_rank import FIRST_RANK, LowRank
from spear_core.tolerances import EXPLAINED_FLOOR, numerical_rank, precision

NEARLY_FULL = 0.6  # share of min(m, n) from which on a rank may come from dead units and equal rows alone
ON_FLOOR = 1.5  # neighbouring singular values of the rounding floor differ by less than this
CONVINCING = 0.9  # λ of a whole batch from which on layer 1 is believed: wrong directions agree by half or so


@dataclass(frozen=True)
class Count:
    """What the ranks say about b."""

    batch_size: int  # the likelier number
    otherwise: int | None = None  # b if the inputs are combinations of each other, where that is possible too

    @property
    def note(self) -> str:
        """What a reader should know; empty if the ranks agree."""
        if self.otherwise is None:
            return ""
        return (
            f"the next layer's gradient is of rank {self.otherwise}, more than b = {self.batch_size}: the sum of "
            "several local steps? Inputs can be right, later layers and labels cannot be replayed"
        )


def expected_rank(splits: Splits, method: str, batch_size: int | None) -> int:
    """The likely rank of the attacked layer's gradient: that of the next layer's, which is smaller and as telling.

    Only the methods "auto" and "consistency" look there, and only if the caller did not give b.
    """
    if method not in ("auto", "consistency") or batch_size is not None:
        return FIRST_RANK
    told = causes.batch_by_next_layer(splits)
    # an output layer would tell its classes: past half of what a layer has room for its rank says little
    believed = told is not None and told <= min(splits.problem.layers[1].weight_grad.shape) / 2
    return told if told is not None and believed else FIRST_RANK


def count_samples(
    low_rank: LowRank, splits: Splits, method: str = "auto", batch_size: int | None = None
) -> Count:
    """The batch size, from the ranks of the first two layers' gradients.

    Only the methods "auto" and "consistency" look at the second; `batch_size` is b, if the caller gave it. A gradient
    whose rank does not tell a batch is refused as `check_rank` does.
    """
    problem, rank = splits.problem, low_rank.batch_size
    told = (
        batch_size or causes.batch_by_next_layer(splits, rank) if method in ("auto", "consistency") else None
    )
    room = min(problem.layers[1].weight_grad.shape) if problem.layers[1:] else 0
    if told is None or told <= rank or told > room:
        check_rank(low_rank, splits, batch_size)
        return Count(rank)
    first = problem.attacked
    if reason := processed_by_client(problem) or causes.weights_inside(first, low_rank):
        raise causes.not_low_rank(problem, rank, reason)
    if is_nearly_full(low_rank) or batch_size is not None or method != "auto" or not first.has_relu:
        return Count(told)
    return Count(rank, told)


def ranks(low_rank: LowRank, splits: Splits, expected: int) -> tuple[int | None, ...]:
    """What the gradients of the first two layers say b is, whatever the caller said."""
    first = numerical_rank(low_rank.singular_values, splits.problem.attacked.weight_grad.dtype)
    return first, None if first == expected else causes.batch_by_next_layer(splits, expected)


def check_rank(low_rank: LowRank, splits: Splits, batch_size: int | None = None) -> None:
    """Refuse a gradient whose rank does not tell a batch; `batch_size` is b, if the caller gave it.

    Raises:
        NotLowRank: full rank, with the likeliest reason.
        RankSaturated: the batch is too large for the layer.
        InputError: a given batch size that contradicts the rank; a bias gradient of something else.
    """
    problem, b, values = splits.problem, low_rank.batch_size, low_rank.singular_values
    layer = problem.attacked
    if len(layer.bias) == 1 and batch_size in (None, 1):
        return  # G is one row, g xᵀ: the closed form needs no more
    full = is_nearly_full(low_rank)
    reason = full and processed_by_client(problem)
    full = full and causes.batch_by_next_layer(splits, b) != b
    if not low_rank.complete or (full and not reason and b >= min(live_lines(low_rank))):
        raise causes.explain_rank(low_rank, splits)
    noisy = batch_size is None and low_rank.noise > EXPLAINED_FLOOR * precision(layer.weight_grad.dtype)
    reason = reason or (noisy and causes.weights_inside(layer, low_rank))
    reason = reason or (full and causes.processed(layer.weight_grad))
    if reason:
        raise causes.not_low_rank(problem, b, reason)
    if batch_size is not None:
        _check_batch_size(batch_size, values, layer.weight_grad.dtype)
        return
    g = layer.bias_grad.to(low_rank.factor.dtype)
    outside = g - low_rank.factor @ (low_rank.factor.T @ g)
    if outside.norm() > g.norm() / 2:
        raise InputError(
            "the bias gradient must lie in the column space of the weight gradient, got one mostly outside: "
            "BatchNorm in train mode right after the layer (only rounding is left: buffers=), or two batches"
        )


def processed_by_client(problem: Problem) -> str:
    """What was done to the entries of the first two layers' gradients; empty if nothing shows in one of them.

    Zeros of one layer may lie about by nature, as one-hot inputs leave them; what a client did, it did to all.
    """
    told = [causes.processed(layer.weight_grad) for layer in problem.layers[:2]]
    return told[0] if all(told) else ""


def is_nearly_full(low_rank: LowRank) -> bool:
    """Whether the rank is so close to what the layer has room for that it may not tell the batch size."""
    return low_rank.batch_size > NEARLY_FULL * min(live_lines(low_rank))


def live_lines(low_rank: LowRank) -> tuple[int, int]:
    """How many rows and columns of G are not zero.

    Units that no sample activates, and inputs that are zero in all samples, leave no room for a larger rank.
    """
    scaled = low_rank.factor * low_rank.singular_values[: low_rank.batch_size]
    lengths = scaled.norm(dim=1), low_rank.rows.norm(dim=0)
    m, n = torch.stack([(norms > precision(torch.float64) * norms.max()).sum() for norms in lengths]).tolist()
    return m, n


def _check_batch_size(batch_size: int, values: Tensor, dtype: torch.dtype) -> None:
    """Refuse a batch size that a spectrum without noise contradicts."""
    rank = numerical_rank(values, dtype)
    if batch_size > rank and values[batch_size - 1] <= ON_FLOOR * values[batch_size]:
        raise InputError(
            f"batch_size must be at most the rank of the gradient, {rank}, got {batch_size}: a sample "
            "that is twice in the batch, or leaves no gradient, does not count"
        )
    if batch_size < rank < len(values) and values[rank] <= EXPLAINED_FLOOR * precision(dtype) * values[0]:
        raise InputError(f"batch_size must be the rank of the gradient, {rank}, got {batch_size}")
