"""What a state makes of the batch, in the batch's own order."""

import torch

from spear_core.search import State
from spear_core.spear import selection
from spear_core.spear.reconstruction import reconstruct
from spear_widgets.kit.machine.recorded import recorded
from spear_widgets.kit.scene import scene
from spear_widgets.kit.twins import client_with
from spear_widgets.selection import state_picture, title


def states_of(*arguments) -> tuple[State, ...]:
    return recorded(client_with(*arguments)).states


def test_looks_follow_the_state():
    stage = client_with("photos", 6, 100, 4)
    first, *_, last = recorded(stage).states
    rows = first.low_rank.rows
    assert torch.allclose(state_picture.look(stage, first).inputs, rows / rows.std(dim=1, keepdim=True))
    seen = state_picture.look(stage, last)
    assert torch.equal(seen.inputs, last.reconstruction.inputs)
    assert sorted(seen.places.tolist()) == list(range(6))
    error = (seen.inputs[seen.places] - stage.batch.inputs).abs().amax(dim=1)
    assert torch.allclose(seen.errors, error)
    assert float(seen.errors.max()) < 1e-5


def test_ghosts_are_what_the_directions_so_far_give():
    stage = client_with("photos", 12, 200, 3)
    partial = [
        s
        for s in recorded(stage).states
        if 0 < len(selection.greedy(s.pool)) < 12 and s.reconstruction is None
    ]
    assert partial
    for state in partial:
        seen = state_picture.look(stage, state)
        chosen = list(selection.greedy(state.pool))
        wanted = reconstruct(stage.forward, state.pool.directions[:, chosen]).inputs
        assert torch.equal(seen.inputs, wanted)
        assert int((seen.places >= 0).sum()) == len(chosen)
        assert seen.errors.isinf().sum() == 12 - len(chosen)


def test_error_pictures_are_logarithmic():
    batch = scene("photos", 2).batch
    errors = torch.tensor([1e-9, 1e-7, 10**-3.5, 1.0, 30.0])[:, None].expand(5, 3072)
    shades = state_picture.error_pictures(batch, errors)[:, 0, 0, 0]
    assert shades.tolist() == [255, 255, 128, 0, 0]


def test_the_title_shows_mixtures_only():
    first = states_of(*title.BATCH)[0]
    assert first.reconstruction is None and not first.pool.directions.shape[1]
    data, metadata = title.title_picture()._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG")
    assert metadata["image/png"]["alt"] == data["text/plain"]
