"""Coupled relations with given activation patterns: one least-squares problem, in which units can be turned over.

a_j ∘ z_j − y_j = A v + r in the coordinates v of all spaces. The normal matrix is factorised once; a unit that is
turned over changes one row of A, which the Woodbury identity takes in at the cost of a product.
"""

from itertools import pairwise

import torch
from torch import Tensor

from spear_core.consistency.affine import Space

RIDGE = 1e-9  # relative: inactive units leave part of c open, which then stays where it is
REFINEMENTS = 3


class Equations:
    """A v + r = 0 for one candidate.

    Attributes:
        active: a, shape (k, m), bool.
        matrix: A, shape (k m, Σ d), float64.
        constant: r, shape (k m,).
    """

    def __init__(self, spaces: tuple[Space, ...], active: Tensor) -> None:
        """Write down and factorise.

        Args:
            spaces: of the k + 1 layers, float64.
            active: activation patterns, shape (k, m), bool.
        """
        self.active = active.clone()
        self.pairs = list(pairwise(spaces))
        k, m = active.shape
        ends = torch.tensor([s.basis.shape[1] for s in spaces]).cumsum(0).tolist()
        self.columns = [slice(a, b) for a, b in pairwise([0, *ends])]
        self.matrix = spaces[0].basis.new_zeros(k * m, ends[-1])
        self.constant = self.matrix.new_zeros(k * m)
        for j, (before, after) in enumerate(self.pairs):
            rows = slice(j * m, (j + 1) * m)
            self.matrix[rows, self.columns[j]] = active[j][:, None] * before.basis[-m:]
            self.matrix[rows, self.columns[j + 1]] = -after.basis[:m]
            self.constant[rows] = active[j] * before.offset[-m:] - after.offset[:m]
        gram = self.matrix.T @ self.matrix
        gram.diagonal().add_(RIDGE * gram.diagonal().mean() if len(gram) else 0.0)
        self.lower = torch.linalg.cholesky_ex(gram)[0]
        self.leverage: Tensor | None = None  # of the rows as they were at first
        self.changes = gram.new_zeros(len(gram), 0)  # old and new rows in turn, as columns
        self.solved = self.changes  # the same, solved with the factor

    def residual(self, point: Tensor) -> Tensor:
        """A v + r, shape (k m,)."""
        return self.matrix @ point + self.constant

    def nearest(self, point: Tensor) -> Tensor:
        """The least-squares solution next to v."""
        for _ in range(REFINEMENTS):
            point = point - self._solve(self.matrix.T @ self.residual(point))
        return point

    def turn_suspect(self, residual: Tensor) -> None:
        """Turn over the unit without which the others fit best: leaving it out saves r² / (1 − leverage).

        Args:
            residual: of the least-squares solution, shape (k m,).
        """
        if self.leverage is None:
            half = torch.linalg.solve_triangular(self.lower, self.matrix.T, upper=False)
            self.leverage = half.square().sum(dim=0)
        leverage = self.leverage
        if self.changes.shape[1]:
            crossed = self.matrix @ self.solved
            leverage = leverage - (crossed @ self._core() * crossed).sum(dim=1)
        suspect = int((residual.square() / (1 - leverage).clamp_min(RIDGE)).argmax())
        self._turn(*divmod(suspect, self.active.shape[1]))

    def _turn(self, j: int, unit: int) -> None:
        m = self.active.shape[1]
        before, after = self.pairs[j]
        row, now = j * m + unit, not bool(self.active[j, unit])
        old = self.matrix[row].clone()
        self.active[j, unit] = now
        self.matrix[row, self.columns[j]] = float(now) * before.basis[-m:][unit]
        self.constant[row] = float(now) * before.offset[-m:][unit] - after.offset[unit]
        new = torch.stack([old, self.matrix[row]], dim=1)
        solved = torch.cholesky_solve(new, self.lower)
        self.changes = torch.cat([self.changes, new], dim=1)
        self.solved = torch.cat([self.solved, solved], dim=1)
        assert self.leverage is not None  # a unit is only turned by `turn_suspect`
        self.leverage[row] = new[:, 1] @ solved[:, 1]

    def _core(self) -> Tensor:
        """(S + Uᵀ H⁻¹ U)⁻¹ for H + U S Uᵀ, with S = diag(−1, 1, −1, 1, …)."""
        signs = torch.ones_like(self.changes[0])
        signs[::2] = -1
        return torch.linalg.inv(torch.diag(signs) + self.changes.T @ self.solved)

    def _solve(self, right: Tensor) -> Tensor:
        solution = torch.cholesky_solve(right[:, None], self.lower)[:, 0]
        if self.changes.shape[1]:
            solution = solution - self.solved @ (self._core() @ (self.solved.T @ right))
        return solution
