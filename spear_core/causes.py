"""Why a gradient has full rank: the likeliest reason, read off its entries and its spectrum.

A gradient of b samples has rank b. What clients really send may have been through an optimiser, a compressor
or a privacy mechanism, and each leaves its own mark: equal magnitudes, few distinct values, scattered zeros.
"""

import torch
from torch import Tensor

from spear_core.errors import InputError, NotLowRank, RankSaturated
from spear_core.low_rank import LowRank, split
from spear_core.problem import LinearLayer, Problem

SAMPLE = 2**16  # entries looked at
BLOCK = 256  # side of the block in which weight decay is sought
LEVELS = 257  # distinct values up to which a gradient counts as quantised: 8 bits, and the sign of zero
SPARSE = 0.5  # share of zeros, scattered, from which on entries have been dropped
CLIPPED = 0.005  # share of entries at the very maximum: of continuous values there are one or two
EVEN = 0.02  # relative spread of magnitudes that are meant to be equal
SPREAD = (
    2.0  # row and column norms of pure noise spread this little beyond chance, those of a gradient far more
)
SIMILAR = 0.7  # cosine from which on a "gradient" is the weights


def explain_rank(low_rank: LowRank, problem: Problem) -> InputError:
    """The error to raise for a gradient whose rank does not stay below min(m, n).

    Args:
        low_rank: the split of the attacked layer's gradient, of full rank.
        problem: what the server sees.

    Returns:
        `NotLowRank` with the likeliest reason and what to do, or `RankSaturated` where the gradient looks like
        one and the batch is simply too large for the layer.
    """
    layer = problem.attacked
    m, n = layer.weight_grad.shape
    head = f"the gradient{_of(layer)} must be low-rank, of rank b < min(m, n) = {min(m, n)}, got full rank"
    reason = _reason(layer, low_rank)
    if reason:
        return NotLowRank(f"{head}: not low-rank, {reason}")
    told = _batch_by_next_layer(problem)
    if told is not None:
        return RankSaturated(
            f"rank saturated: the batch must fit{_of(layer, 'layer')}, b < min(m, n), got b = {told} (the rank of the next "
            f"layer's gradient) with m = {m} and n = {n}"
        )
    return RankSaturated(
        f"rank saturated: the batch must fit{_of(layer, 'layer')}, b < min(m, n), got a gradient of rank "
        f"{low_rank.batch_size} with m = {m} and n = {n}: a batch of at least that many samples, or noise on a smaller one"
    )


def _reason(layer: LinearLayer, low_rank: LowRank) -> str:
    G = layer.weight_grad
    decay = _weight_decay(layer)
    if decay is not None:
        coefficient, rank = decay
        if rank == 0:
            return f"it is {coefficient:.3g} × the weights: send gradients, or the difference of two weights"
        return (
            f"but it is of rank {rank} without {coefficient:.4g} × the weights: weight decay; "
            f"pass gradient − ({coefficient:.6g}) × weights (that is, add lr·wd·W back)"
        )
    if _cosine(G, layer.weight) > SIMILAR:
        return "it is close to the weights: weights instead of gradients? Pass the difference of two weights"
    entries = _sample(G).abs()
    present = entries[entries > 0]
    low, high = present.quantile(0.1), present.quantile(0.9)
    if high - low <= EVEN * high:
        return "all entries have the same magnitude: signs, or Adam's first step? Pass gradients, not updates"
    if len(present) < (1 - SPARSE) * len(entries) and _scattered(G):
        return (
            f"{1 - len(present) / len(entries):.0%} of the entries are zero, scattered: top-k sparse updates?"
        )
    levels = len(_sample(G).unique())
    if levels <= min(LEVELS, len(entries) // 4):
        return f"its entries take only {levels} values: quantised updates?"
    top = float((entries == entries.max()).to(torch.float32).mean())
    if top >= max(CLIPPED, 4 / len(entries)):
        return f"{top:.0%} of the entries are at the largest magnitude: clipped value by value?"
    return _noise(low_rank)


def _weight_decay(layer: LinearLayer) -> tuple[float, int] | None:
    """c and the rank of G − c W, where that is low.

    In any square block G = c W + (rank b), so all but b eigenvalues of W⁻¹ G are c: their median.
    """
    G, W = layer.weight_grad, layer.weight
    side = min(*G.shape, BLOCK)
    rows, columns = (torch.linspace(0, size - 1, side).long() for size in G.shape)
    block_G, block_W = (matrix[rows][:, columns].cpu().to(torch.float64) for matrix in (G, W))
    solved, failed = torch.linalg.solve_ex(block_W, block_G)
    if failed or not solved.isfinite().all():
        return None
    coefficient = float(torch.linalg.eigvals(solved).real.median())
    rest = G.to(torch.float64) - coefficient * W.to(torch.float64)
    smallest = 64 * torch.finfo(G.dtype).eps * max(float(G.norm()), abs(coefficient) * float(W.norm()))
    if float(rest.norm()) <= smallest:
        return coefficient, 0
    # float32 rounding of G stays in the difference
    low_rank = split(rest.to(G.dtype), generator=torch.Generator().manual_seed(0))
    found = low_rank.complete and low_rank.batch_size < min(G.shape)
    return (coefficient, low_rank.batch_size) if found else None


def _noise(low_rank: LowRank) -> str:
    """Independent noise has rows of equal length and columns of equal length, whatever carries it."""
    values = low_rank.singular_values
    signal = int((values > 2 * values.median()).sum())
    rest = low_rank.factor[:, signal:] @ low_rank.rows[signal:]
    m, n = rest.shape
    even = all(
        float(norms.std() / norms.mean()) < SPREAD / (2 * other) ** 0.5 + 1 / min(m, n)
        for norms, other in ((rest.norm(dim=1), n), (rest.norm(dim=0), m))
    )
    if not even:
        return ""
    return "every entry carries noise of the same size: noise was added? With batch_size given, the result is approximate"


def _batch_by_next_layer(problem: Problem) -> int | None:
    """b as the next layer's gradient tells it, where its rank is not saturated itself."""
    if len(problem.layers) < 2:
        return None
    G = problem.layers[1].weight_grad
    low_rank = split(G, generator=torch.Generator().manual_seed(0))
    return low_rank.batch_size if low_rank.complete and low_rank.batch_size < min(G.shape) else None


def _scattered(G: Tensor) -> bool:
    """Whether zeros lie about singly; silent units and constant inputs leave whole rows and columns instead."""
    zero = G == 0
    lines = zero.all(dim=1)[:, None] | zero.all(dim=0)[None, :]
    return bool((zero & ~lines).sum() > SPARSE * zero.sum())


def _sample(G: Tensor) -> Tensor:
    flat = G.reshape(-1)
    return flat[:: max(1, len(flat) // SAMPLE)].to(torch.float64)[:SAMPLE]


def _cosine(a: Tensor, b: Tensor) -> float:
    a, b = a.reshape(-1).to(torch.float64), b.reshape(-1).to(torch.float64)
    return float((a @ b).abs() / (a.norm() * b.norm()).clamp_min(torch.finfo(torch.float64).tiny))


def _of(layer: LinearLayer, what: str = "of layer") -> str:
    return f" {what} {layer.name!r}" if layer.name else ("" if what == "of layer" else " the layer")
