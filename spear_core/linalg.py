"""Small linear algebra that several rooms need; samples and directions are columns."""

from collections.abc import Callable

import torch
from torch import Tensor

# products of two columns up to which one product for all masks is cheaper than one each
PAIRS_PER_MASK, LARGEST_PAIRS = 64, 64**2


def units(columns: Tensor) -> Tensor:
    """Columns of length one."""
    return columns / columns.norm(dim=0)


def random_units(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Random unit columns of the dtype and on the device of `like`, drawn on the CPU."""
    return units(torch.randn(shape, dtype=like.dtype, generator=generator).to(like.device))


def orthonormal(columns: Tensor) -> Tensor:
    """Orthonormal basis of the span."""
    return torch.linalg.qr(columns)[0]


def orthogonal_complement(columns: Tensor) -> Tensor:
    """Orthonormal basis of the complement of the span of (r, k) columns, shape (r, r − k)."""
    return torch.linalg.qr(units(columns), mode="complete")[0][:, columns.shape[1] :]


def beside(space: Tensor, vectors: Tensor) -> Tensor:
    """What columns have beside the span of orthonormal columns Y: (I − Y Yᵀ) v."""
    return torch.addmm(vectors, space, space.T @ vectors, alpha=-1)


def independent(columns: Tensor, apart: float) -> list[int]:
    """Numbers of the unit columns (b, k) that are further `apart` than that from the span of those taken before."""
    b, k = columns.shape
    # mostly the first b are, which takes one look
    if bool((torch.linalg.qr(columns[:, :b], mode="r")[1].diagonal().abs() > apart).all()):
        return list(range(min(b, k)))
    basis, taken = columns[:, :0], list[int]()
    for number, q in enumerate(columns.split(1, dim=1)):
        q = beside(basis, beside(basis, q))  # twice is enough for orthogonality to rounding
        if len(taken) < b and float(q.norm()) > apart:
            basis = torch.cat([basis, units(q)], dim=1)
            taken.append(number)
    return taken


def least_squares(matrix: Tensor, values: Tensor) -> Tensor:
    """The shortest x of least ‖A x − y‖: (…, m, n) and (…, m, k) give (…, n, k).

    On the CPU by singular values: torch's default there reads memory that nobody has set (`JPVT`), in all releases
    before 2.14, so that the same call twice gives two answers, and may take a matrix for one of lower rank. Where
    anything is not finite, x is NaN.
    """
    if not values.shape[-1]:  # which that way has no room for
        return values.new_zeros(*matrix.shape[:-2], matrix.shape[-1], 0)
    finite = torch.cat([matrix, values], dim=-1).isfinite().all(dim=(-2, -1), keepdim=True)
    driver = "gels" if matrix.is_cuda else "gelsd"  # CUDA has no other
    found = torch.linalg.lstsq(torch.where(finite, matrix, 0), torch.where(finite, values, 0), driver=driver)
    return torch.where(finite, found.solution, torch.nan)


def masked_products(left: Tensor, right: Tensor, weights: Tensor) -> Tensor:
    """Aᵀ diag(w_k) B for every column w_k, weights or a mask: (m, p), (m, r) and (m, K) give (K, p, r).

    While p r is small, one product of the weights with all pairs of columns does it for all k at once; later writing
    down the pairs costs more than a product each.
    """
    p, r, count = left.shape[1], right.shape[1], weights.shape[1]
    most = PAIRS_PER_MASK * count if weights.dtype == torch.bool else LARGEST_PAIRS
    weights = weights.to(left.dtype)
    if p * r <= most:
        pairs = (left[:, :, None] * right[:, None, :]).reshape(len(left), p * r)
        return (weights.T @ pairs).reshape(count, p, r)
    products = left.new_empty(count, p, r)
    for product, w in zip(products, weights.T, strict=True):
        rows = w.nonzero().flatten()  # half of them, where w is an activation pattern
        chosen = right.index_select(0, rows)
        weighted = (chosen if left is right else left.index_select(0, rows)) * w[rows, None]
        torch.mm(weighted.T, chosen, out=product)
    return products


def misfit(space: Tensor, vectors: Tensor) -> Tensor:
    """Distance of columns from the span of orthonormal columns, relative to their length."""
    return beside(space, vectors).norm(dim=0) / vectors.norm(dim=0)


def best_apart(points: Tensor, misfit: Tensor, near: float, apart: float) -> Tensor:
    """Numbers of the columns with a misfit below `near`, best first, one of those that are closer than `apart`."""
    order = misfit.argsort()
    order = order[misfit[order] < near]
    points = points[:, order].T
    distance = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    return order[is_first(distance < apart)]


def is_first(alike: Tensor) -> Tensor:
    """Which entries of a list are like no earlier one, shape (k,).

    Args:
        alike: whether two entries are, shape (k, k).
    """
    return ~alike.tril(-1).any(dim=1)


def first_apart(alike: Tensor) -> list[int]:
    """Numbers of the entries of a list that are like no earlier one that was taken.

    Args:
        alike: as for `is_first`; there an entry may be left out for one that is left out itself.
    """
    taken: list[int] = []
    for entry, row in enumerate(alike.tolist()):
        if not any(row[other] for other in taken):
            taken.append(entry)
    return taken


def value_and_slope(sigma: Callable[[Tensor], Tensor], z: Tensor) -> tuple[Tensor, Tensor]:
    """σ(z) and σ'(z), entry by entry."""
    with torch.enable_grad():
        at = z.detach().requires_grad_(True)
        y = sigma(at.clone())  # a clone: the activation may work in place
        (slope,) = torch.autograd.grad(y.sum(), at)
    return y.detach(), slope
