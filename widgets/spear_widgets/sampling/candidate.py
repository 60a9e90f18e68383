"""Candidates of a scene, drawn once."""

from functools import lru_cache

import torch

from spear_core.study.candidates import Candidates, draw_candidates
from spear_widgets.kit.scene import Scene

CANDIDATES = 4000  # for histograms


@lru_cache(maxsize=12)
def candidates(stage: Scene, count: int) -> Candidates:
    """Independent draws from a scene with b ≥ 2."""
    generator = torch.Generator().manual_seed(0)
    return draw_candidates(stage.low_rank, stage.true_q, count, generator=generator)
