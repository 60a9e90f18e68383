"""Question of notebook 00. It stands here so that the cell does not tell the answer."""

import spear_core
from spear_widgets.kit.predict import Prediction
from spear_widgets.kit.scene import scene

CAME_BACK = "Eight sharp photographs, in an order of their own."  # what the picture shows, which the cell must not tell


def what_comes_back() -> Prediction:
    """How much of a batch does its averaged gradient give away?"""
    nothing, blend, one, everything = choices = [
        "nothing that one could recognise",
        "a blurred average of the eight",
        "one of the eight",
        "all eight, exactly",
    ]

    def measured() -> str:
        stage = scene("photos", 8)
        proven = int(spear_core.invert(stage.model, stage.gradients).certified_rows.sum())
        return {0: nothing, 1: one, 8: everything}.get(proven, blend)

    return Prediction(
        "The client averages the gradients of eight photographs and sends only the average. "
        "How much of the photographs can the server compute from it?",
        choices,
        measured,
        "Averaging mixes the photographs, but the mixture can be undone. How, is what notebooks 01 to 04 are about.",
    )
