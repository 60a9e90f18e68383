"""The half-space alternation itself, both halves of the pair (see `search`), all K candidates in step.

The factor is L, shape (m, b); scores z are columns, shape (m, K), directions q unit columns, shape (b, K). `surest` is
how many rows of lowest score are taken for zeros, `left` an orthonormal basis of what is orthogonal to the known
directions, shape (b, r), None to leave them in.
"""

import torch
from torch import Tensor

from spear_core.spear.records import Forward
from spear_core.spear.zeros import CHUNK_NUMBERS

SMOOTHING = 1e-6  # keeps Cholesky factors alive in float32; true zeros leave a second eigenvalue above 0.01
INVERSE_STEPS = 3  # of inverse iteration; the vector of the step before is a good start
STEPS = 10  # alternations before candidates are looked at


def scoring_space(forward: Forward) -> Tensor:
    """M = W Rᵀ + β ḡᵀ with ḡ = Lᵀ g, so that every sample is z_i = M c_i, shape (m, b), float64."""
    layer = forward.layer
    mean = forward.low_rank.factor.T @ layer.bias_grad.to(torch.float64)
    return forward.weights.T + torch.outer(layer.bias.to(torch.float64), mean)


def alternate(
    factor: Tensor,
    space: Tensor,
    scores: Tensor,
    surest: int,
    *,
    left: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Half-space alternation: surest zeros → q → labels → scores; the directions that it ends with.

    `space` is an orthonormal basis of the scores that are possible, shape (m, r).
    """
    q = torch.randn(factor.shape[1], scores.shape[1], generator=generator).to(factor)
    for step in range(STEPS):
        q = smallest_singular(factor, scores, surest, q, left)
        if step < STEPS - 1:
            scores = project(space, labels(factor @ q))
    return q


def labels(entries: Tensor) -> Tensor:
    """Near −1 where |L q| is far below its median, near 1 where far above: tanh log(|L q| / median)."""
    squares = entries.square()
    median = squares.median(dim=0).values if squares.shape[1] else squares[0]
    return (squares - median) / (squares + median)


def project(space: Tensor, vectors: Tensor) -> Tensor:
    """Orthogonal projection of columns on the span of orthonormal columns."""
    return space @ (space.T @ vectors)


def smallest_singular(
    factor: Tensor, scores: Tensor, surest: int, start: Tensor, left: Tensor | None = None
) -> Tensor:
    """The smallest right singular vector of L on the rows of lowest score, by inverse iteration.

    A known direction whose sample resembles the one that is sought is nearly a null vector of its rows, too. What
    enters the inverse can therefore be kept orthogonal to the known ones: c_i is, and c_i · q_i = 1, so q_i comes
    through.
    """
    m, b = factor.shape
    count = max(surest, min(m, b + b // 8))
    size = max(1, CHUNK_NUMBERS // (count * b))
    found = []
    for z, q in zip(scores.split(size, dim=1), start.split(size, dim=1), strict=True):
        # every candidate has rows of its own: their Gram matrices are factored as one batch
        rows = factor[z.T.topk(count, dim=1, largest=False, sorted=False).indices]
        gram = rows.mT @ rows
        gram.diagonal(dim1=1, dim2=2).add_(SMOOTHING)
        lower = torch.linalg.cholesky_ex(gram)[0]
        v = q.T[:, :, None]
        for _ in range(INVERSE_STEPS):
            if left is not None:
                v = project(left, v[:, :, 0].T).T[:, :, None]
            v = torch.cholesky_solve(v, lower)
            v = v / v.norm(dim=1, keepdim=True)
        found.append(v[:, :, 0].T)
    return torch.cat(found, dim=1)
