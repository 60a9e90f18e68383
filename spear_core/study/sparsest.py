"""SPEAR without the forward pass: the directions with the most zeros, where the server cannot foresee the zeros.

Dropout adds zeros at random, and local steps move them. The server's own weights then put some of them in the wrong
place, λ < 1 for the right batch, and whatever asks for λ = 1 turns away. But each column of ∂L/∂Z, or of what the steps
add up to, still has its zeros, and b − 1 rows that are all silent for sample i still have q_i as their null vector. So
draw (step 2), keep the sparsest independent directions (step 4 without λ), scale and invert (step 5).

Nothing here is ever certified: that would take the forward pass.
"""

import torch
from torch import Tensor

from spear_core.spear.low_rank import split
from spear_core.spear.reconstruction import scales
from spear_core.spear.records import Pool
from spear_core.spear.sampling import draw_directions, live_rows
from spear_core.spear.selection import greedy
from spear_core.spear.zeros import zeros_of

DRAWS = 8000  # for b = 8: each direction is met dozens of times if half of its column is zero
APART = 0.01  # least distance of a unit direction from the span of those that were taken


def sparsest_batch(
    weight_grad: Tensor,
    bias_grad: Tensor,
    batch_size: int,
    *,
    draws: int = DRAWS,
    generator: torch.Generator | None = None,
) -> Tensor:
    """A batch from the zeros of one linear layer's gradient alone: a guess, however good.

    Args:
        weight_grad: ∂L/∂W, shape (m, n), or an update of several steps.
        bias_grad: ∂L/∂β, shape (m,).
        batch_size: b, as the rank tells it.
        draws: candidates, at a cost of 2^(b−1) for the first hit.
        generator: CPU generator, source of all randomness; by default a new one with seed 0.

    Returns:
        At most b samples as rows, shape (k, n); fewer if the draws met fewer independent directions.

    Raises:
        ValueError: if b is not below m and n, or fewer than b units are active for any sample.

    >>> from spear_core import client
    >>> from spear_core.client import data, networks
    >>> batch = data.load("photos", 4, size=16, generator=torch.Generator().manual_seed(0))
    >>> model = networks.fully_connected(768, width=100, generator=torch.Generator().manual_seed(1))
    >>> grads = client.gradients(model, batch.inputs, batch.labels)
    >>> found = sparsest_batch(grads["0.weight"], grads["0.bias"], 4, generator=torch.Generator().manual_seed(2))
    >>> bool((torch.cdist(batch.inputs, found).amin(dim=1) < 1e-2).all())
    True
    """
    if not 0 < batch_size < min(weight_grad.shape):
        raise ValueError(
            f"batch_size must be above 0 and below m and n, got {batch_size} for {tuple(weight_grad.shape)}"
        )
    generator = generator or torch.Generator().manual_seed(0)
    low_rank = split(weight_grad, batch_size, generator=generator)
    L = low_rank.factor
    # step 2
    drawn = draw_directions(L[live_rows(L)], draws, generator=generator).directions
    drawn = drawn[drawn.isfinite().all(dim=1)]
    # steps 3 and 4, without the threshold and without λ
    q = (drawn / drawn.norm(dim=1, keepdim=True)).T
    is_zero = zeros_of(low_rank, q)
    zeros = is_zero.sum(dim=0)
    taken = greedy(Pool(q, zeros, torch.ones_like(zeros, dtype=torch.bool)), APART)
    # the unit vector that comes closest to zero on all its zeros: less rounding than from b − 1 of them
    silent = (L[is_zero[:, k]] for k in taken)
    q = torch.stack([torch.linalg.eigh(rows.T @ rows)[1][:, 0] for rows in silent], dim=1)
    # step 5
    Q = q * scales(low_rank, q, bias_grad)
    return (torch.linalg.pinv(Q) @ low_rank.rows).to(torch.promote_types(weight_grad.dtype, torch.float32))
