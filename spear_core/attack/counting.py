"""How many samples there are: the rank of one gradient, or of two that disagree.

The attacked layer's gradient has rank b where the samples' inputs are independent. Where the next layer's rank is
higher, there are two explanations. If layer 1 has no room for a higher rank, the batch is larger than the input
(b > n), and the next layer tells b. If it has room, the client took several local steps: the inputs are the same
in each, so layer 1 still says b, but the activations that layer 2 saw moved from step to step; or, rarely, the
inputs are combinations of each other.
"""

from dataclasses import dataclass

from spear_core.model.causes import batch_by_next_layer, not_low_rank, processed, weights_inside
from spear_core.model.checks import check_rank, is_crowded
from spear_core.problem import Problem
from spear_core.spear.low_rank import FIRST_RANK, LowRank

CONVINCING = 0.9  # λ of a whole batch from which on layer 1 is believed: wrong directions agree by half or so


@dataclass(frozen=True)
class Count:
    """What the ranks say about b.

    Attributes:
        batch_size: b, the likelier number.
        otherwise: b if the inputs are combinations of each other, where that is possible too; else None.
    """

    batch_size: int
    otherwise: int | None = None

    @property
    def note(self) -> str:
        """What a reader should know; empty if the ranks agree."""
        if self.otherwise is None:
            return ""
        return (
            f"the next layer's gradient is of rank {self.otherwise}, more than b = {self.batch_size}: the sum of "
            "several local steps? Inputs can be right, later layers and labels cannot be replayed"
        )


def expected_rank(problem: Problem, method: str, batch_size: int | None) -> int:
    """The likely rank of the attacked layer's gradient: that of the next layer's, which is smaller and as telling.

    Args:
        problem: what the server sees.
        method: only "auto" and "consistency" look at the next layer.
        batch_size: b, if the caller gave it.
    """
    if method not in ("auto", "consistency") or batch_size is not None:
        return FIRST_RANK
    told = batch_by_next_layer(problem)
    if (
        told is None or told > min(problem.layers[1].weight_grad.shape) / 2
    ):  # an output layer tells its classes
        return FIRST_RANK
    return told


def count_samples(
    low_rank: LowRank, problem: Problem, method: str = "auto", batch_size: int | None = None
) -> Count:
    """The batch size, from the ranks of the first two layers' gradients.

    Args:
        low_rank: the split of the attacked layer's gradient.
        problem: what the server sees.
        method: only "auto" and "consistency" look at the next layer.
        batch_size: b, if the caller gave it.

    Raises:
        InputError: a gradient whose rank does not tell a batch, with the reason; see `check_rank`.
    """
    rank = low_rank.batch_size
    told = batch_size or batch_by_next_layer(problem, rank) if method in ("auto", "consistency") else None
    if told is None or told <= rank:
        check_rank(low_rank, problem, batch_size)
        return Count(rank)
    first, second = problem.layers[0], problem.layers[1]
    # zeros of one layer may lie about by nature, as one-hot inputs leave them; what a client did, it did to all
    reason = processed(second.weight_grad) and processed(first.weight_grad)
    if reason := reason or weights_inside(first, low_rank):
        raise not_low_rank(problem, rank, reason)
    if is_crowded(low_rank) or batch_size is not None or method != "auto" or not first.has_relu:
        return Count(told)
    return Count(rank, told)
