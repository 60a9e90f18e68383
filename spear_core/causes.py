"""Why a gradient has full rank: the likeliest reason, read off its entries and its spectrum.

A gradient of b samples has rank b. What clients really send may have been through an optimiser, a compressor
or a privacy mechanism, and each leaves its own mark: equal magnitudes, few distinct values, scattered zeros.
"""

import torch
from torch import Tensor

from spear_core.errors import InputError, NotLowRank, RankSaturated
from spear_core.low_rank import LowRank, split
from spear_core.problem import LinearLayer, Problem
from spear_core.tolerances import FLAT_TAIL

SAMPLE = 2**16  # entries looked at
BLOCK = 256  # side of the block in which weight decay is sought
COLUMNS = 2**12  # of a wide gradient that are looked at when weight decay is taken out
LEVELS = 257  # distinct values up to which a gradient counts as quantised: 8 bits, and the sign of zero
SPARSE = 0.5  # share of zeros, scattered, from which on entries have been dropped
CLIPPED = 0.005  # share of entries at the very maximum: of continuous values there are one or two
EVEN = 0.02  # relative spread of magnitudes that are meant to be equal
SPREAD = (
    2.0  # row and column norms of pure noise spread this little beyond chance, those of a gradient far more
)
WEIGHTS = 0.5  # factors this close to one are the weights themselves, not their decay
CLEAR = 50.0  # drop of the spectrum that needs no flat floor behind it to be believed
SIMILAR = 0.7  # cosine from which on a "gradient" is the weights


def explain_rank(low_rank: LowRank, problem: Problem) -> InputError:
    """The error to raise for a gradient whose rank does not stay below min(m, n).

    Args:
        low_rank: the split of the attacked layer's gradient.
        problem: what the server sees.

    Returns:
        `NotLowRank` with the likeliest reason and what to do, or `RankSaturated` where the gradient looks
        sound and the batch is simply too large for the layer.
    """
    layer, rank = problem.attacked, low_rank.batch_size
    m, n = layer.weight_grad.shape
    reason = _weights_inside(layer) or processed(layer.weight_grad) or _noise(low_rank)
    if reason:
        return not_low_rank(problem, rank, reason)
    told = batch_by_next_layer(problem)
    if told is not None and told >= rank:
        got = f"b = {told} (the rank of the next layer's gradient)"
    else:
        got = f"a gradient of rank {rank}, from at least so many samples or with noise on it,"
    where = f"layer {layer.name!r}" if layer.name else "the layer"
    return RankSaturated(
        f"rank saturated: b must be below min(m, n) of {where}, got {got} with m = {m}, n = {n}"
    )


def shows_rank(low_rank: LowRank, shape: tuple[int, ...]) -> bool:
    """Whether a split shows a rank below min(m, n), and a floor behind it.

    Args:
        low_rank: the split.
        shape: (m, n), or fewer where rows or columns are zero.
    """
    b, values = low_rank.batch_size, low_rank.singular_values
    if not low_rank.complete or b >= min(shape):
        return False
    # near its end a spectrum may fall fast, which looks like a floor
    return len(values) - b >= FLAT_TAIL or bool(values[b - 1] >= CLEAR * values[b])


def not_low_rank(problem: Problem, rank: int, reason: str) -> NotLowRank:
    """The error for a gradient that was changed on its way."""
    layer = problem.attacked
    of_layer = f" of layer {layer.name!r}" if layer.name else ""
    return NotLowRank(
        f"the gradient{of_layer} must be low-rank, of rank b < min(m, n) = {min(layer.weight_grad.shape)}, "
        f"got rank {rank}: not low-rank, {reason}"
    )


def processed(G: Tensor) -> str:
    """What was done to the entries of a gradient, one by one; empty if nothing shows.

    Args:
        G: ∂L/∂W, shape (m, n).
    """
    entries = _sample(G).abs()
    present = entries[entries > 0]
    low, high = present.quantile(0.1), present.quantile(0.9)
    if high - low <= EVEN * high:
        return "all entries have the same magnitude: signs, or an optimiser's step (Adam)? Pass gradients"
    if len(present) < (1 - SPARSE) * len(entries) and _scattered(G):
        share = 1 - len(present) / len(entries)
        return f"{share:.0%} of the entries are zero, scattered: a top-k sparse update?"
    levels = len(_sample(G).unique())
    if levels <= min(LEVELS, len(present) // 4):
        return f"its entries take only {levels} values: a quantised update?"
    top = float((entries == entries.max()).to(torch.float32).mean())
    if top >= max(CLIPPED, 4 / len(entries)):
        return f"{top:.0%} of the entries are at the largest magnitude: clipped value by value?"
    return ""


def _weights_inside(layer: LinearLayer) -> str:
    decay = _weight_decay(layer)
    if decay is not None:
        factor, rank = decay
        if rank == 0 or abs(factor - 1) < WEIGHTS:
            return f"it is {factor:.3g} × the weights plus rank {rank}: pass the difference of two weights"
        sign = "−" if factor > 0 else "+"
        return (
            f"but of rank {rank} without {factor:.4g} × the weights: weight decay; pass "
            f"gradient {sign} {abs(factor):.12g} × weights (that is, add lr·wd·W back)"
        )
    if _cosine(layer.weight_grad, layer.weight) > SIMILAR:
        return "it is close to the weights: weights instead of gradients? Pass the difference of two weights"
    return ""


def _weight_decay(layer: LinearLayer) -> tuple[float, int] | None:
    """The factor c and the rank of G − c W, where that is low.

    In any square block G = c W + (rank b), so all but b eigenvalues of W⁻¹ G are c: their median.
    """
    G, W = layer.weight_grad, layer.weight
    side = min(*G.shape, BLOCK)
    rows, columns = (torch.linspace(0, size - 1, side).long() for size in G.shape)
    block_G, block_W = (matrix[rows][:, columns].cpu().to(torch.float64) for matrix in (G, W))
    solved, failed = torch.linalg.solve_ex(block_W, block_G)
    if failed or not solved.isfinite().all():
        return None
    factor = float(torch.linalg.eigvals(solved).real.median())
    columns = torch.linspace(0, G.shape[1] - 1, min(G.shape[1], COLUMNS)).long().to(G.device)
    G, W = G[:, columns].to(torch.float64), W[:, columns].to(torch.float64)
    rounding = 64 * torch.finfo(layer.weight_grad.dtype).eps
    part, rest = abs(factor) * W.norm(), G - factor * W
    if part <= rounding * G.norm():
        return None
    if rest.norm() <= rounding * part:
        return factor, 0
    # in the dtype of G, since its rounding stays in the difference
    low_rank = split(rest.to(layer.weight_grad.dtype), generator=torch.Generator().manual_seed(0))
    clear = low_rank.complete and low_rank.batch_size < min(rest.shape) / 2
    return (factor, low_rank.batch_size) if clear else None


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
    return "every entry carries noise of the same size: noise was added? Approximate at best: give batch_size"


def batch_by_next_layer(problem: Problem) -> int | None:
    """Batch size as the next layer's gradient tells it, where its rank is not saturated itself."""
    if len(problem.layers) < 2:
        return None
    G = problem.layers[1].weight_grad
    low_rank = split(G, generator=torch.Generator().manual_seed(0))
    return low_rank.batch_size if shows_rank(low_rank, G.shape) else None


def _scattered(G: Tensor) -> bool:
    """Whether zeros lie about singly; silent units and constant inputs leave whole lines instead."""
    present = G != 0
    live = present[present.any(dim=1)][:, present.any(dim=0)]
    return bool(live.to(torch.float32).mean() < 1 - SPARSE)


def _sample(G: Tensor) -> Tensor:
    flat = G.reshape(-1)
    return flat[:: max(1, len(flat) // SAMPLE)].to(torch.float64)[:SAMPLE]


def _cosine(a: Tensor, b: Tensor) -> float:
    a, b = a.reshape(-1).to(torch.float64), b.reshape(-1).to(torch.float64)
    return float((a @ b).abs() / (a.norm() * b.norm()).clamp_min(torch.finfo(torch.float64).tiny))
