"""Pictures of notebook 06 that do not move: the two shadows, and the misfit for three activations."""

import numpy as np

from spear_core.spear import low_rank
from spear_widgets.kit import base, drawing
from spear_widgets.kit.charts import Chart, Style
from spear_widgets.kit.ribbon import NOT_IN_PAPER
from spear_widgets.kit.samples import sample_pictures
from spear_widgets.kit.scene import ACTIVATIONS
from spear_widgets.two_shadows.circle import profile
from spear_widgets.two_shadows.grounds import ground

BATCH = 4
LOOKS = (("-", drawing.BLUE), ("--", drawing.ORANGE), (":", drawing.GREEN))


def title_picture() -> base.Picture:
    """What the server has: rows of the first layer's split, and of the second layer's."""
    stage = ground(BATCH)
    rows = stage.low_rank.rows
    second = low_rank.split(stage.gradients["2.weight"]).rows
    size = float(stage.batch.inputs.square().mean().sqrt())
    first = sample_pictures(stage.batch, rows / rows.square().mean(dim=1, keepdim=True).sqrt() * size)
    side = round(second.shape[1] ** 0.5)
    strips = drawing.signed_colours(second.reshape(BATCH, side, side).numpy().astype(np.float32))
    named = [
        ("first layer", drawing.picture_grid(first, side=112)),
        ("second layer", drawing.picture_grid(strips, side=112)),
    ]
    return base.Picture(
        drawing.named(named, 170),
        "Two rows of four squares. Above, the rows of R of the first layer's gradient, blends of photographs; below, "
        "those of the second layer's gradient, a hundred numbers each, as coloured squares without any visible order.",
    )


def profiles() -> base.Picture:
    """The misfit around the circle of two photographs, for every activation."""
    chart = Chart(
        [Style(name, colour, line) for name, (line, colour) in zip(ACTIVATIONS, LOOKS)],
        yscale="log",
        xlim=(0, 360),
        ylim=(1e-8, 2),
        xlabel="direction, in degrees",
        ylabel=f"misfit {NOT_IN_PAPER}",
    )
    for name in ACTIVATIONS:
        angles, misfit = profile(ground(2, name))
        chart.put(name, angles.tolist(), misfit.clamp_min(1e-8).tolist())
    return base.Picture(
        chart.on_paper(),
        "The misfit on a logarithmic scale over all directions of two photographs, a curve each for ReLU, GELU and "
        "tanh. "
        "All three fall at two directions, sharply, by five powers of ten and more.",
    )
