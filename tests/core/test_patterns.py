"""Activation patterns by hand."""

import torch

from spear_core.study.patterns import most_alike


def test_patterns_by_hand():
    silent = torch.tensor([[1, 0, 0, 1], [0, 0, 1, 1], [1, 1, 0, 1]]).bool()
    assert most_alike(silent) == (0, 2, 1)
