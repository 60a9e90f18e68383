"""Activation patterns of a batch, as its client knows them."""

from torch import Tensor


def most_alike(silent: Tensor) -> tuple[int, int, int]:
    """The two samples whose patterns differ least, and in how many units.

    The patterns of b ≥ 2 samples say where Z ≤ 0, shape (b, m).
    """
    differ = (silent[:, None] != silent).sum(dim=2)
    differ.fill_diagonal_(silent.shape[1] + 1)  # no sample is compared with itself
    i, j = divmod(int(differ.argmin()), len(differ))
    return i, j, int(differ[i, j])
