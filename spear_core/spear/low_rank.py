"""Step 1: the gradient of a linear layer has rank b; split it, ∂L/∂W = L R (SPEAR, low rank).

G = (∂L/∂Z) Xᵀ is a sum of b outer products, one per sample, so its rank tells the batch size, and its row
space is the span of the inputs. What the split leaves open is a single b×b matrix Q: ∂L/∂Z = L Q and
Xᵀ = Q⁻¹ R.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from spear_core.tolerances import EVEN_ZERO_MARGIN, FLAT_TAIL, ZERO_MARGIN, noise_per_entry, numerical_rank

FIRST_RANK = 20  # what the first sketch is made for, doubled where the rank is higher
CHUNK_NUMBERS = 2**21  # entries of G converted to float64 at a time: 16 MiB


@dataclass(frozen=True)
class LowRank:
    """G = L R up to rounding.

    Attributes:
        factor: L, shape (m, b), float64, orthonormal columns (left singular vectors of G).
        rows: R, shape (b, n), float64 (singular values times right singular vectors).
        singular_values: descending, shape (k,) with k ≥ b; those after b are the rounding floor.
        floor: the largest singular value of what the split leaves out.
        complete: whether a floor was seen; if not, G has full rank as far as the sketch can tell.
        even: whether rounding is alike in every entry of G, as of a difference of weights, and not in proportion to
            the rows.
    """

    factor: Tensor
    rows: Tensor
    singular_values: Tensor
    floor: float
    complete: bool
    even: bool = False

    @property
    def batch_size(self) -> int:
        """b, the rank of the split."""
        return self.factor.shape[1]

    @cached_property
    def noise(self) -> float:
        """The rounding floor relative to the largest singular value."""
        return self.floor / float(self.singular_values[0])

    @property
    def zero_margin(self) -> float:
        """How many times its expected rounding error an entry of L q may be away from zero."""
        return EVEN_ZERO_MARGIN if self.even else ZERO_MARGIN

    @property
    def entry_noise(self) -> float:
        """ν, the expected rounding error of an entry of G, root mean square."""
        floor = max(self.floor, torch.finfo(torch.float64).eps * float(self.singular_values[0]))
        return noise_per_entry(floor, (len(self.factor), self.rows.shape[1]))

    @cached_property
    def row_noise(self) -> Tensor:
        """ν_j, the expected rounding error of an entry in each row of G, shape (m,)."""
        L, S = self.factor, self.singular_values[: self.batch_size]
        row_size = torch.ones_like(L[:, 0]) if self.even else (L * S).norm(dim=1)
        relative = (row_size / row_size.square().mean().sqrt()).clamp_min(1e-3)
        return self.entry_noise * relative


def split(
    weight_grad: Tensor,
    batch_size: int | None = None,
    *,
    generator: torch.Generator | None = None,
    expected: int = FIRST_RANK,
    even: bool = False,
) -> LowRank:
    """Split a gradient into a thin product, G = L R, with as few passes over G as possible.

    A randomised range finder (Halko, Martinsson, Tropp 2011): the columns of G Ω for a random Ω with a few
    more columns than the rank span the column space of G. Two thin products replace an SVD. The sketch
    doubles until it shows the rounding floor.

    Args:
        weight_grad: G, shape (m, n), float32 or float64.
        batch_size: b; default: the numerical rank.
        generator: source of the random sketch.
        expected: a rank that is likely, so that the first sketch may be wide enough.
        even: whether rounding is alike in every entry of G. One sketch would bring √n / √(spare columns) times as
            much of it into L as there must be, which gradients can afford, since small rows are rounded less; one
            more pass over G (a subspace iteration) leaves it out.

    Returns:
        The split, in float64 on the device of G. A large G is never copied as a whole.

    >>> G = torch.outer(torch.arange(40.0), torch.ones(50)) + torch.outer(torch.ones(40), torch.arange(50.0))
    >>> split(G).batch_size
    2
    """
    (m, n), dtype = weight_grad.shape, weight_grad.dtype
    if weight_grad.numel() <= CHUNK_NUMBERS:
        weight_grad = weight_grad.to(torch.float64)  # once for all passes
    width = (batch_size or expected) + 2 * FLAT_TAIL
    while True:
        complete_basis = width >= min(m, n) / 2
        basis = _range(weight_grad, None if complete_basis else width, generator)
        if even and not complete_basis:
            basis = _improved(basis, weight_grad)
        turn, rows, values = _rotate_to_singular(_project(basis, weight_grad), dtype)
        rank = batch_size or numerical_rank(values, dtype)
        if complete_basis or rank <= len(values) - FLAT_TAIL:
            break
        width += min(width, min(m, n) // 8)  # from half of min(m, n) on it would take a complete basis
    return LowRank(
        factor=(basis @ turn)[:, :rank],
        rows=rows[:rank],
        singular_values=values,
        floor=float(values[rank]) if rank < len(values) else 0.0,
        complete=rank < len(values),
        even=even,
    )


def _range(G: Tensor, width: int | None, generator: torch.Generator | None) -> Tensor:
    """Orthonormal basis of the column space of G: of a random sketch, or of all of it (width None)."""
    m, n = G.shape
    if width is None and m <= n:
        return torch.eye(m, dtype=torch.float64, device=G.device)
    if width is None:
        # reflections leave rounding in rows of units that nobody activates
        live = (G != 0).any(dim=1, keepdim=True)
        return torch.linalg.qr(G.to(torch.float64))[0] * live
    sketch = torch.zeros(width, m, dtype=torch.float64, device=G.device)
    for columns in _column_chunks(G):
        # drawn on the CPU, so that one seed means one result on every device
        omega = torch.randn(columns.shape[1], width, dtype=torch.float64, generator=generator)
        # Ωᵀ Gᵀ rather than G Ω: for so few columns, the libraries take half the time
        sketch += omega.T.contiguous().to(G.device) @ columns.to(torch.float64).T
    return torch.linalg.qr(sketch.T)[0]


def _improved(basis: Tensor, G: Tensor) -> Tensor:
    """Orthonormal basis of G Gᵀ basis: one subspace iteration."""
    turned = torch.zeros_like(basis)
    for columns in _column_chunks(G):
        part = columns.to(torch.float64)
        turned += part @ (part.T @ basis)
    return torch.linalg.qr(turned)[0]


def _project(basis: Tensor, G: Tensor) -> Tensor:
    """Basisᵀ G in float64, without a float64 copy of G."""
    return torch.cat([basis.T @ columns.to(torch.float64) for columns in _column_chunks(G)], dim=1)


def _rotate_to_singular(rows: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Turn the rows of B so that they become orthogonal and sorted: (U, Uᵀ B, its row norms).

    The eigenvectors of B Bᵀ are exact enough where B itself carries float32 rounding; from float64 it takes
    a QR, since the Gram matrix squares the condition. The norms of the turned rows resolve singular values
    far below the square root of the eigenvalues.
    """
    if dtype == torch.float64:
        turn = torch.linalg.svd(torch.linalg.qr(rows.T, mode="r")[1].T)[0]
    else:
        turn = torch.linalg.eigh(rows @ rows.T)[1]
    rows = turn.T @ rows
    values, order = rows.norm(dim=1).sort(descending=True)
    return turn[:, order], rows[order], values


def _column_chunks(G: Tensor) -> Iterator[Tensor]:
    return iter(G.split(max(1, CHUNK_NUMBERS // G.shape[0]), dim=1))
