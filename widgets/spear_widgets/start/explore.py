"""What notebook 00 shows and calls, under one name."""

from pathlib import Path

from spear_widgets.kit import base
from spear_widgets.kit.scene import scene
from spear_widgets.kit.stage import Stage
from spear_widgets.start import full_run
from spear_widgets.start.full_run import FullRun


def client_stage() -> Stage:
    """What a client holds and sends; what can be computed from it is left open."""
    stage = Stage(Path(full_run.__file__).with_suffix(".js"), "client")
    stage.put(**full_run.shown(scene("photos", 8), None) | {"prompt": "how much of the batch?"}, chosen=0)
    return stage


def title_picture() -> base.Picture:
    """The stored picture of `client_stage`."""
    return base.Picture(
        client_stage().still,
        "Eight private photographs, below them a strip of coloured noise, the gradient that the client sends, and "
        "below that eight empty places: how much of the photographs can be computed from the gradient?",
    )
