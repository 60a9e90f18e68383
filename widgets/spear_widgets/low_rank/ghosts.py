"""The Q that the split leaves open: every Q gives a batch, one Q gives the batch."""

from pathlib import Path

import torch

from spear_core.linalg import units
from spear_core.study.ghosts import STEPS, ghosts, way
from spear_widgets.kit import base, controls
from spear_widgets.kit.samples import developing
from spear_widgets.kit.scene import DATA, scene
from spear_widgets.kit.stage import Stage

WRONG = range(1, 10)  # the ways that lead to the right Q, see `spear_core.study.ghosts`


class GhostExplorer(base.Explorer):
    """Slide from a wrong Q to the right one and watch mixed-up pictures come apart.

    Attributes:
        stage: client and server of the present batch.
    """

    name = "ghosts"
    title = "One gradient, many splits: every Q gives a batch, one Q gives the batch"
    description = (
        "Mixed-up ghost pictures that a wrong Q makes of a batch, above the entries of each column of L Q as tiles; "
        "below, a track from the wrong Q to the right one, with the number of entries that are exactly zero."
    )

    def __init__(self) -> None:
        super().__init__(
            {
                "data": controls.dropdown("data", DATA[:2]),
                "batch_size": controls.slider("batch size b", 4, 2, 8),
            },
            live=Stage(Path(__file__).with_suffix(".js")),
        )
        self.refresh()

    def update(self) -> None:
        """Send the present batch to the page."""
        self.stage = stage = scene(self.values["data"], self.values["batch_size"])
        low_rank, b, g = stage.low_rank, stage.batch_size, stage.layer.bias_grad.to(torch.float64)
        live, values = stage.live_rows(), stage.low_rank.singular_values
        combined = low_rank.factor.T @ g
        assert self.live is not None
        self.live.put(
            **live,
            ways=torch.stack([way(b, wrong) for wrong in WRONG]),
            steps=STEPS,
            Q=stage.true_q,
            exact=units(stage.true_q),
            combined=combined,
            R=low_rank.rows.to(torch.float32),
            photo=developing(stage.batch),
            zeros={"right": self.zeros(1, STEPS), "wrong": [self.zeros(wrong, 0) for wrong in WRONG]},
            # what no Q reproduces, of ‖G‖ and of ‖g‖, and ‖G‖ and ‖g‖
            beyond=[float(values[b:].norm()), float((g - low_rank.factor @ combined).norm())],
            norms=[float(values.norm()), float(g.norm())],
        )

    def zeros(self, wrong: int, step: float) -> list[int]:
        """Exact zeros in each column of L Q, among the live rows."""
        state = ghosts(self.stage.forward, self.stage.true_q, wrong, step)
        return self.stage.zero(state.directions)[self.stage.live].sum(dim=0).tolist()
