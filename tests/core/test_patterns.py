"""Activation patterns by hand."""

import torch

from spear_core.study.patterns import Patterns


def test_patterns_by_hand():
    silent = torch.tensor([[1, 0, 0, 1], [0, 0, 1, 1], [1, 1, 0, 1]]).bool()
    found = Patterns(silent, silent)
    assert found.zero_share.tolist() == [0.5, 0.5, 0.75]
    assert found.silent_for_all == 1
    assert found.most_alike == (0, 2, 1)
