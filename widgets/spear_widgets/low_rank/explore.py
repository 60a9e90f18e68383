"""What notebook 01 shows and calls, under one name."""

from spear_widgets.kit.base import Picture
from spear_widgets.kit.machine.machine import Machine
from spear_widgets.kit.riddle import riddle
from spear_widgets.kit.scene import scene
from spear_widgets.low_rank.ghosts import GhostExplorer
from spear_widgets.low_rank.peeling import PeelExplorer


def title_picture() -> Picture:
    """What the server gets."""
    gradient = scene("photos", 4).layer.weight_grad
    words = "A corner of a gradient. How many photographs is it made of? Look at its rows: some are alike."
    return riddle(gradient, words)
