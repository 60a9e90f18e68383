"""The title picture of notebook 04: what the server can compute before it has chosen."""

from spear_widgets.kit import base, drawing
from spear_widgets.kit.machine.recorded import recorded
from spear_widgets.kit.samples import in_places, on_any_ground
from spear_widgets.kit.twins import client_with
from spear_widgets.selection.state_picture import look

BATCH = ("photos", 12, 200, 3)


def title_picture() -> base.Picture:
    """The rows of R: the batch as the split alone gives it."""
    run = recorded(client_with(*BATCH))
    seen = look(run.stage, run.states[0])
    side = 2 * (drawing.WIDTH - 8) // len(seen.inputs) - 8
    mixtures = in_places(run.stage.batch, seen.inputs, seen.places)
    return base.Picture(
        on_any_ground(mixtures, columns=6, side=side),
        "Twelve mixtures of twelve photographs: what the server has before it has chosen its directions.",
    )
