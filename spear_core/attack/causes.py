"""Why a gradient has full rank: the likeliest reason, read off its entries and its spectrum.

A gradient of b samples has rank b. What clients really send may have been through an optimiser, a compressor
or a privacy mechanism, and each leaves its own mark: equal magnitudes, few distinct values, scattered zeros.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from spear_core.errors import InputError, NotLowRank, RankSaturated
from spear_core.model.checks import is_underflow
from spear_core.problem import LinearLayer, Problem
from spear_core.search import Splits
from spear_core.spear.low_rank import FIRST_RANK, LowRank, split
from spear_core.tolerances import precision

SAMPLE = 2**16  # entries looked at: shares of a per cent are counted in hundreds
BLOCK = 256  # side of the block in which weight decay is sought
COLUMNS = 2**12  # of a wide gradient that are looked at when weight decay is taken out
LEVELS = 257  # distinct values up to which a gradient counts as quantised: 8 bits, and the sign of zero
SPARSE = 0.3  # share of zeros from which on entries have been dropped
SCATTERED = 0.25  # share of zeros outside of rows and columns that are all zero, for the same
CLIPPED = 0.005  # share of entries at the very maximum: of continuous values there are one or two
EVEN = 0.02  # relative spread of magnitudes that are meant to be equal
# times the median at most: steps of an adaptive optimiser; normal numbers reach six times as much
BOUNDED = 3.0
ROWS = 8  # rows with the largest entries, whose distinct values are counted one by one
SAME_LENGTH = 1e-5  # relative difference of norms that were clipped to one
SPREAD = 1.4  # times chance: how much the row norms of pure noise may spread; those of a gradient do more
CLEARER = 10.0  # times lower must the floor be without the weights, for them to be part of what was sent
LOW = 0.9  # share of min(m, n) below which the rank without the weights counts as low
WEIGHTS = 0.5  # factors this close to one are the weights themselves, not their decay
SIMILAR = 0.7  # cosine from which on a "gradient" is the weights
ROUNDINGS = 64  # rounding errors up to which a part of a gradient is none
STICKING_OUT = 2.0  # times the median singular value: what is larger counts as signal on the noise


def explain_rank(low_rank: LowRank, splits: Splits) -> InputError:
    """The error to raise for a gradient whose rank does not stay below min(m, n), from the attacked layer's split.

    `NotLowRank` with the likeliest reason and what to do, or `RankSaturated` where the gradient looks sound and the
    batch is simply too large for the layer.
    """
    problem, rank = splits.problem, low_rank.batch_size
    layer = problem.attacked
    m, n = layer.weight_grad.shape
    told = batch_by_next_layer(splits, rank)
    larger = told is not None and told >= rank  # and then it is no noise that fills the rank
    reason = next(marks(layer, low_rank), "") or ("" if larger else _noise(low_rank))
    if reason:
        return not_low_rank(problem, rank, reason)
    got = f"a gradient of rank {rank}, from at least so many samples or with noise on it,"
    if larger:
        got = f"b = {told} (the rank of the next layer's gradient)"
    where = f"layer {layer.name!r}" if layer.name else "the layer"
    return RankSaturated(
        f"rank saturated: b must be below m and at most n of {where}, got {got} with m = {m}, n = {n}"
    )


def not_low_rank(problem: Problem, rank: int, reason: str) -> NotLowRank:
    """The error for a gradient that was changed on its way."""
    layer = problem.attacked
    of_layer = f" of layer {layer.name!r}" if layer.name else ""
    return NotLowRank(
        f"the gradient{of_layer} must be low-rank, of rank b < min(m, n) = {min(layer.weight_grad.shape)}, "
        f"got rank {rank}: not low-rank, {reason}"
    )


def marks(layer: LinearLayer, low_rank: LowRank) -> Iterator[str]:
    """What a layer's gradient shows of what was done to it, the likeliest first."""
    yield from filter(None, [weights_inside(layer, low_rank)])
    yield from filter(None, (look(layer.weight_grad) for look in (processed, rounded)))


def processed(G: Tensor) -> str:
    """What was done to the entries of a gradient, one by one; empty if nothing shows."""
    entries = _sample(G).abs()
    present = entries[entries > 0]
    if not len(present):  # a few entries among so many zeros that none was looked at
        return ""
    low, high = present.quantile(0.1), present.quantile(0.9)  # a few odd ones do not count
    if high - low <= EVEN * high:
        return "all entries have the same magnitude: signs, or an optimiser's step (Adam)? Pass gradients"
    if is_underflow(G):
        return "its entries are at the smallest number there is: underflow; the loss must be multiplied by a factor"
    if levels := _levels(G, len(present)):
        return f"its entries take only {levels} values: a quantised update?"
    if len(present) < (1 - SPARSE) * len(entries) and _scattered(G):
        share = 1 - len(present) / len(entries)
        return f"{share:.0%} of the entries are zero, scattered: a top-k sparse update?"
    top = float((entries == entries.max()).to(torch.float32).mean())
    if top >= max(CLIPPED, 4 / len(entries)):
        return f"{top:.0%} of the entries are at the largest magnitude: clipped value by value?"
    if len(present) > SAMPLE // 16 and present.max() <= BOUNDED * present.median():
        return "no entry exceeds the median by much: several steps of an adaptive optimiser (Adam)? Pass gradients"
    return ""


def clipped_apart(layers: Sequence[LinearLayer]) -> str:
    """Whether the attacked layer's gradient is as long as another one, which no two layers have by nature."""
    norms = torch.stack([layer.weight_grad.norm().to(torch.float64) for layer in layers]).tolist()
    same = sum(abs(norm - norms[0]) <= SAME_LENGTH * norms[0] for norm in norms)
    if same < 2:
        return ""
    return (
        f"gradients must keep the factors between them, got {same} of {len(norms)} weight gradients of one norm, "
        f"{norms[0]:.4g}: clipped tensor by tensor, not all together, or orthogonalised (Muon)"
    )


def rounded(G: Tensor) -> str:
    """Whether all entries are numbers of half precision; empty if they are not."""
    entries = _sample(G)
    for half in (torch.bfloat16, torch.float16):
        if torch.equal(entries.to(half).to(entries.dtype), entries):
            name = str(half).removeprefix("torch.")
            return f"its entries are {name} numbers: half precision at the client, approximate at best"
    return ""


def weights_inside(layer: LinearLayer, low_rank: LowRank) -> str:
    """Whether a layer's weights are part of what was sent, and how to take them out; empty if they are not."""
    decays = ("the weights", "weight decay", "weights (that is, add lr·wd·W back)")
    penalty = ("the weights' signs", "an L1 penalty in the loss", "weights.sign()")
    for part, (what, name, taken) in ((layer.weight, decays), (layer.weight.sign(), penalty)):
        if (inside := _part_of(layer.weight_grad, part, low_rank)) is None:
            continue
        factor, rank = inside
        if rank == 0 or abs(factor - 1) < WEIGHTS:
            return f"it is {factor:.3g} × {what} plus rank {rank}: pass the difference of two weights"
        sign = "−" if factor > 0 else "+"
        return (
            f"it is of rank {rank} without {factor:.4g} × {what}: {name}; pass gradient {sign} "
            f"{abs(factor):.12g} × {taken}"
        )
    G, W = (matrix.flatten().to(torch.float64) for matrix in (layer.weight_grad, layer.weight))
    if torch.cosine_similarity(G, W, dim=0, eps=torch.finfo(G.dtype).tiny).abs() > SIMILAR:
        return "it is close to the weights: weights instead of gradients? Pass the difference of two weights"
    return ""


def _part_of(G: Tensor, W: Tensor, low_rank: LowRank) -> tuple[float, int] | None:
    """The factor c and the rank of G − c W, where that is low.

    In any square block G = c W + (rank b), so all but b eigenvalues of W⁻¹ G are c: their median.
    """
    dtype, side = G.dtype, min(*G.shape, BLOCK)
    # the factor, from a block
    rows, columns = (torch.linspace(0, size - 1, side).long() for size in G.shape)
    block_G, block_W = (matrix[rows][:, columns].cpu().to(torch.float64) for matrix in (G, W))
    solved, failed = torch.linalg.solve_ex(block_W, block_G)
    if failed or not solved.isfinite().all():
        return None
    try:
        factor = float(torch.linalg.eigvals(solved).real.median())
    except RuntimeError:  # which may fail to converge
        return None
    # what is left without the weights, of as many columns as it takes to see its rank
    columns = torch.linspace(0, G.shape[1] - 1, min(G.shape[1], COLUMNS)).long().to(G.device)
    G, W = G[:, columns].to(torch.float64), W[:, columns].to(torch.float64)
    rounding = ROUNDINGS * precision(dtype)
    part, rest = abs(factor) * W.norm(), G - factor * W
    if part <= rounding * G.norm():
        return None
    if rest.norm() <= rounding * part:
        return factor, 0
    # in the dtype of G, since its rounding stays in the difference
    without = split(rest.to(dtype), generator=torch.Generator().manual_seed(0))
    floor = low_rank.floor if low_rank.complete else float(low_rank.singular_values[-1])
    low = without.complete and without.batch_size < LOW * min(rest.shape)
    better = low and CLEARER * without.floor < floor
    return (factor, without.batch_size) if better else None


def _noise(low_rank: LowRank) -> str:
    """Independent noise has rows of equal length, whatever signal carries it; a gradient has busy units."""
    values = low_rank.singular_values
    signal = int((values > STICKING_OUT * values.median()).sum())
    lengths = (low_rank.factor[:, signal:] @ low_rank.rows[signal:]).norm(dim=1)
    freedom = low_rank.rows.shape[1] - signal
    if lengths.std() > SPREAD * lengths.mean() / (2 * freedom) ** 0.5:
        return ""
    return "every entry carries noise of the same size: noise was added? Approximate at best: give batch_size"


def batch_by_next_layer(splits: Splits, expected: int = FIRST_RANK) -> int | None:
    """Batch size as the next layer's gradient tells it, unless its rank is saturated; `expected` as in `split`."""
    if len(splits.problem.layers) < 2:
        return None
    low_rank = splits.of(1, expected=expected)
    return low_rank.batch_size if low_rank.complete else None


def _levels(G: Tensor, present: int) -> int:
    """How few distinct values there are, in all or in each row on a scale of its own; 0 if there are many."""
    rows = G[G.abs().amax(dim=1).topk(min(ROWS, len(G))).indices]
    all_of_it = len(_sample(G).unique())
    each = 1 + int((rows.sort(dim=1).values.diff(dim=1) != 0).sum(dim=1).max())
    # of the entries that are there: a sparse row has few values, too
    for levels, entries in ((all_of_it, present), (each, int(rows.count_nonzero(dim=1).min()))):
        if levels <= min(LEVELS, entries // 4):
            return levels
    return 0


def _scattered(G: Tensor) -> bool:
    """Whether zeros lie about singly; silent units and constant inputs leave whole lines instead."""
    present = G != 0
    live = present[present.any(dim=1)][:, present.any(dim=0)]
    return bool(live.to(torch.float32).mean() < 1 - SCATTERED)


def _sample(G: Tensor) -> Tensor:
    flat = G.reshape(-1)
    return flat[:: max(1, len(flat) // SAMPLE)].to(torch.float64)[:SAMPLE]
