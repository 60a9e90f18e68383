"""What notebook 00 shows and calls, under one name."""

from spear_widgets.kit.base import Picture
from spear_widgets.kit.machine.machine import Machine
from spear_widgets.kit.riddle import riddle
from spear_widgets.kit.scene import scene
from spear_widgets.start.full_run import FullRun


def title_picture() -> Picture:
    """What the client sends."""
    gradient = scene("photos", 8).layer.weight_grad
    words = "A corner of the gradient of eight photographs: coloured noise, blue below zero, orange above."
    return riddle(gradient, words)
