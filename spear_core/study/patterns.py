"""Activation patterns of a batch, as its client knows them."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Patterns:
    """Which unit is silent for which sample.

    Attributes:
        silent: Z ≤ 0, shape (b, m).
        zero: ∂L/∂Z = 0, shape (b, m).
    """

    silent: Tensor
    zero: Tensor

    @property
    def zero_share(self) -> Tensor:
        """Share of zeros in each sample's ∂L/∂z, shape (b,)."""
        return self.zero.to(torch.float64).mean(dim=1)

    @property
    def silent_for_all(self) -> int:
        """Units that no sample activates."""
        return int(self.silent.all(dim=0).sum())

    @property
    def most_alike(self) -> tuple[int, int, int]:
        """The two samples whose patterns differ least, and in how many units."""
        differ = (self.silent[:, None] != self.silent).sum(dim=2)
        differ.fill_diagonal_(self.silent.shape[1] + 1)  # no sample is compared with itself
        i, j = divmod(int(differ.argmin()), len(differ))
        return i, j, int(differ[i, j])
