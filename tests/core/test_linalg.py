"""Least squares against the pseudoinverse, whatever lay in memory before."""

import pytest
import torch

from spear_core.linalg import least_squares
from tests.core.attacked import seeded


@pytest.mark.parametrize("shape", [(7, 3), (3, 3), (3, 7), (4, 5, 2), (2, 4, 6, 6)], ids=str)
@pytest.mark.parametrize("rank", [0, 2, 9])
def test_the_shortest_solution(shape: tuple[int, ...], rank: int, dtype):
    *batch, m, n = shape
    inner = min(rank, m, n)
    left = torch.randn(*batch, m, inner, dtype=dtype, generator=seeded())
    matrix = left @ torch.randn(*batch, inner, n, dtype=dtype, generator=seeded(1))
    values = torch.randn(*batch, m, 2, dtype=dtype, generator=seeded(2))
    wanted = torch.linalg.pinv(matrix, rtol=max(m, n) * torch.finfo(dtype).eps) @ values
    close = 1e-3 if dtype == torch.float32 else 1e-10
    torch.testing.assert_close(least_squares(matrix, values), wanted, rtol=close, atol=close)


def test_what_lay_in_memory_before_does_not_matter(dtype):
    matrix = torch.randn(30, 6, dtype=dtype, generator=seeded())
    values = torch.randn(30, 1, dtype=dtype, generator=seeded(1))
    deficient = matrix.clone()
    deficient[:, 5] = deficient[:, :5].sum(dim=1)
    for A in (matrix, deficient):
        first = least_squares(A, values)
        for number in range(100):
            torch.full((6,), number % 5, dtype=torch.int32)  # freed at once, for whoever asks next
            assert torch.equal(least_squares(A, values), first)


def test_what_is_not_finite_gives_nan_for_its_own_system_only():
    matrix = torch.randn(3, 4, 2, generator=seeded())
    values = torch.randn(3, 4, 1, generator=seeded(1))
    whole = least_squares(matrix, values)
    matrix[0, 1, 1], values[2, 3, 0] = torch.inf, torch.nan
    found = least_squares(matrix, values)
    assert found[[0, 2]].isnan().all() and torch.equal(found[1], whole[1])


def test_nothing_asked_is_nothing_found():
    assert least_squares(torch.randn(2, 4, 3), torch.randn(2, 4, 0)).shape == (2, 3, 0)
