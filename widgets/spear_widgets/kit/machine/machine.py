"""The machine as an explorer: a batch of the reader's choice, attacked by SPEAR, played on a stage."""

import html
from pathlib import Path
from typing import Any

from spear_widgets.kit import base, controls
from spear_widgets.kit.machine.recorded import Recorded, recorded, sent
from spear_widgets.kit.scene import DATA
from spear_widgets.kit.stage import Stage
from spear_widgets.kit.twins import TWINS, client_with

WIDTHS = (60, 100, 200)
FILMED = {"data": "photos", "batch_size": 12, "width": 200, "seed": 3, "twins": "none"}
SCENES = ("split", "draw", "filter", "wipe", "reconstruct")


class Machine(base.Explorer):
    """SPEAR's run on a batch of the reader's choice, from the gradient to the certificate.

    Attributes:
        run: what was recorded.
    """

    name = "machine"
    title = "SPEAR, step by step"
    description = (
        "A gradient comes apart into few mixtures; drawn rows give candidate directions; those with many zeros "
        "wipe one photograph each from the mixtures; at the end all photographs are back, with their certificate."
    )

    def __init__(self, *scenes: str, film: bool = False, **first: Any) -> None:
        """Record a run and show its first scene.

        Args:
            scenes: which scenes there are; all by default.
            film: whether it is all of it in 15 seconds, without controls for another batch.
            first: values of controls to begin with.

        Raises:
            ValueError: no such scene.
        """
        for scene in scenes:
            if scene not in SCENES:
                raise ValueError(f"scenes must be among {', '.join(SCENES)}, got {scene!r}")
        self._scenes, self._film = scenes or SCENES, film
        still = "film" if film else "-".join(("machine", *scenes))
        options = {
            "data": controls.dropdown("data", DATA),
            "batch_size": controls.slider("batch size b", 12, 3, 12),
            "width": controls.dropdown("width m", WIDTHS, 200),
            "seed": controls.slider("seed", 3, 0, 9, track=7),
            "twins": controls.dropdown("samples", TWINS),
        }
        super().__init__({} if film else options, live=Stage(Path(__file__).with_name("machine.js"), still))
        with self.quietly():
            for control, value in first.items():
                self.control[control].value = value
        self._first = self.values
        self.refresh()

    def update(self) -> None:
        """Record the run of this setting and send it to the page."""
        self.run: Recorded = recorded(client_with(*(self.values or FILMED).values()))
        assert self.live is not None
        self.live.put(scenes=list(self._scenes), film=self._film, **sent(self.run))
        refusal = self.run.refusal
        self.say(f"<b>Refused</b>, before any search: {html.escape(refusal)}" if refusal else "")
