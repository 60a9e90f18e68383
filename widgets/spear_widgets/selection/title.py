"""The title picture of notebook 04: a batch in three states of an attack."""

from spear_core.search import State
from spear_core.spear.selection import greedy
from spear_widgets.kit import base, drawing
from spear_widgets.kit.machine.recorded import recorded
from spear_widgets.kit.samples import in_places
from spear_widgets.kit.twins import client_with
from spear_widgets.selection.state_picture import look

BATCH = ("photos", 12, 200, 3)


def film_positions(states: tuple[State, ...]) -> list[int]:
    """The first state, one with half of the directions or else the first selection, and the last one."""
    b = states[0].batch_size
    half = [k for k, s in enumerate(states) if s.reconstruction is None and b / 2 <= len(greedy(s.pool)) < b]
    selected = [k for k, state in enumerate(states) if state.step == "selection"]
    return list(dict.fromkeys([0, *(half or selected)[:1], len(states) - 1]))


def title_picture() -> base.Picture:
    """The batch in three states: mixtures, ghosts, photographs."""
    run = recorded(client_with(*BATCH))
    side = (drawing.WIDTH - 8) // len(run.stage.batch.inputs) - 8
    bands = []
    for k in film_positions(run.states):
        seen = look(run.stage, run.states[k])
        made = in_places(run.stage.batch, seen.inputs, seen.places)
        bands += [drawing.headline(seen.title, 14, drawing.WIDTH), drawing.picture_grid(made, side=side)]
    return base.Picture(
        drawing.below(bands, gap=2),
        "Twelve photographs in three states of the attack: as mixtures, as ghosts while directions are missing, sharp.",
    )
