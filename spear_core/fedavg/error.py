"""What the rounding of weights does to the samples of an update: the expected error of each, in closed form.

Rounding errors E of an update are independent and alike in all entries, of deviation ν. They reach the zero rows A_k
of L as E V S⁻¹, so that δq_k = −A_k⁺ E V S⁻¹ q_k; they reach the rows R directly, and the lengths s by c_i · Lᵀ δg. To
first order, with Xᵀ = Q⁻¹ R and Q 1 = Lᵀ g,

    δx_i = −Σ_k s_k (c_i · δq_k) (x_k − x_i) − (c_i · Lᵀ δg) x_i + c_i δR,

which is linear in E; its expected square is a sum over the rows of E, correlations between the δq_k included.
"""

import torch
from torch import Tensor

from spear_core.spear.low_rank import LowRank
from spear_core.spear.records import Reconstruction

ROOM = 2.0  # times the expected error: what one draw of the rounding may well be


def update_error(low_rank: LowRank, found: Reconstruction, zeros: Tensor) -> Tensor:
    """What rounding may have done to each row, root mean square relative to the inputs' largest entry, shape (k,).

    `zeros` says which entries of L Q̄ are zero, shape (m, k).
    """
    n, S = low_rank.rows.shape[1], low_rank.singular_values[: low_rank.batch_size]
    C, X = found.coefficients, found.inputs
    Q = found.directions * found.lengths
    gram = X @ X.T
    within = (Q / S[:, None]).T @ (Q / S[:, None])  # E V S⁻¹ q_k and E V S⁻¹ q_l go together as much
    moved = torch.stack([C @ _pseudo_inverse(low_rank.factor * zero[:, None]) for zero in zeros.T], dim=1)
    size = gram.diagonal()
    squares = []
    for i in range(len(C)):
        apart = gram - gram[i] - gram[:, i, None] + size[i]  # of x_k − x_i and x_l − x_i
        squares.append(((moved[i].T @ (within * apart)) * moved[i].T).sum())
    direct = C.square().sum(dim=1) * (n + size)
    rms = ((torch.stack(squares) + direct) / n).sqrt() * low_rank.entry_noise
    return ROOM * rms / X.abs().max()


def _pseudo_inverse(A: Tensor) -> Tensor:
    """A⁺ of rows with one null direction up to rounding, shape (b, m)."""
    values, vectors = torch.linalg.eigh(A.T @ A)
    return (vectors[:, 1:] / values[1:]) @ vectors[:, 1:].T @ A.T
