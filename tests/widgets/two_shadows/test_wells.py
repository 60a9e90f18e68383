"""The explorers of forward consistency against arrays of spear_core: all states, in and out of order."""

import asyncio
import io

import numpy as np
import pytest
import torch
import traitlets
from PIL import Image

from spear_core.attack.invert import states
from spear_core.model.layers import read_problem
from spear_core.study import metrics
from spear_core.study.landscape import paths
from spear_widgets.kit import drawing
from spear_widgets.kit.exercise import Exercise
from spear_widgets.kit.predict import Prediction
from spear_widgets.kit.scene import ACTIVATIONS, scene
from spear_widgets.two_shadows import exercises, grounds, questions
from spear_widgets.two_shadows.circle import CIRCLE_COUNTS, CircleExplorer, angles_of, on_circle
from spear_widgets.two_shadows.grounds import Ground, ground
from spear_widgets.two_shadows.search import SearchExplorer, result_picture
from spear_widgets.two_shadows.wells import (
    COUNTS,
    MOST_WALKERS,
    RINGS,
    SECTORS,
    STARTS,
    WALKERS,
    WellsExplorer,
    descents,
    even_starts,
    first_ringed,
    page_axes,
    random_starts,
)
from tests.thorough import thorough

EXERCISES = {name: x for name, x in vars(exercises).items() if isinstance(x, Exercise)}


def pixels(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


@pytest.fixture(scope="module")
def circle() -> CircleExplorer:
    return CircleExplorer()


@pytest.fixture(scope="module")
def wells() -> WellsExplorer:
    return WellsExplorer()


@pytest.fixture(scope="module")
def search() -> SearchExplorer:
    return SearchExplorer()


# ---------------------------------------------------------------- the ground
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("b", [2, 3])
def test_samples_are_wells(b: int, activation: str):
    stage = ground(b, activation)
    assert stage.landscape.misfit(stage.samples).max() < 1e-5
    torch.testing.assert_close(
        grounds.ghosts(stage, stage.samples), stage.batch.inputs.double(), atol=1e-3, rtol=1e-3
    )


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_page_shows_all_networks_alike(activation: str):
    two, three = ground(2, activation), ground(3, activation)
    first, second = angles_of(two, two.samples).tolist()
    assert 90 < first < 180 < second < 270 and abs(first + second - 360) < 1e-6
    depth, right, up = three.home @ three.samples
    assert (depth > 0).all(), "all samples are in front"
    assert right[0] < 0 < up[0], "the first one at the upper left"
    torch.testing.assert_close(three.home @ three.home.T, torch.eye(3, dtype=torch.float64))


def test_bad_grounds_are_refused():
    with pytest.raises(ValueError, match=r"activation must be one of .*, got 'sine'"):
        ground(2, "sine")
    with pytest.raises(ValueError, match="seen must be 0 to 100, got 101"):
        ground(2, "ReLU", 101)


def test_hidden_units_change_only_the_landscape():
    whole, part = ground(3), ground(3, "ReLU", 10)
    assert part.samples is whole.samples and part.batch is whole.batch
    assert part.landscape.equations == 7


def test_angles_go_round():
    stage = ground(2)
    angles = torch.tensor([0.0, 90.0, 180.0, 271.5])
    away = angles_of(stage, on_circle(stage, angles)) - angles
    away = (away + 180) % 360 - 180  # 360 degrees are 0, and rounding decides which of the two comes back
    torch.testing.assert_close(away, torch.zeros_like(away))


# ---------------------------------------------------------------- what the pages get
def sent(explorer: grounds.GroundExplorer, name: str) -> np.ndarray:
    """An array as the page gets it."""
    array = explorer.live.data[name]
    return np.frombuffer(array["bytes"], array["dtype"]).reshape(array["shape"]).copy()


@pytest.mark.parametrize("explorer", [CircleExplorer, WellsExplorer])
def test_ghosts_can_be_made_of_what_is_sent(explorer: type[grounds.GroundExplorer]):
    shown = explorer()
    points = shown.axes() @ shown.stage.samples
    c = sent(shown, "chart") @ points.numpy()
    inputs = (c / (sent(shown, "means") @ c)).T @ sent(shown, "R")
    assert np.abs(inputs - shown.stage.batch.inputs.numpy()).max() < 1e-3


@pytest.mark.parametrize("explorer", [CircleExplorer, WellsExplorer])
def test_a_reset_lets_the_page_begin_anew(explorer: type[grounds.GroundExplorer]):
    shown = explorer()
    assert shown.live.data["keep"] is False
    shown.control["seen"].value = 10
    assert shown.live.data["keep"] is True and shown.live.data["units"] == 10
    before = shown.live.data
    shown.reset()
    assert shown.live.data["keep"] is False and shown.live.data != before
    shown.control["activation"].value = "tanh"
    assert shown.live.data["keep"] is True
    assert shown.stage is ground(shown.batch_size, "tanh", 100)


# ---------------------------------------------------------------- the circle
@pytest.mark.parametrize("start", [0, 359, 90, 174, 1])
@pytest.mark.parametrize("activation", ["ReLU", "GELU"])
def test_the_circle_has_the_search_from_every_start(circle: CircleExplorer, activation: str, start: int):
    circle.set(activation=activation, seen=100)
    stage = ground(2, activation)
    wanted = paths(stage.landscape, on_circle(stage, float(start)), CIRCLE_COUNTS)[:, :, 0].T
    walk, heights = sent(circle, "walks")[start], sent(circle, "heights")[start]
    apart = (torch.from_numpy(walk) - angles_of(stage, wanted) + 180) % 360 - 180
    assert apart.abs().max() < 1e-4, "searches that run side by side hardly touch each other"
    points = on_circle(stage, torch.tensor(walk))
    torch.testing.assert_close(
        torch.from_numpy(heights), stage.landscape.misfit(points), atol=1e-6, rtol=1e-3
    )
    assert heights[-1] < 1e-5 and grounds.nearest(stage, points[:, -1:])[1] < grounds.NEAR_DEGREES


@pytest.mark.parametrize("seen", [0, 2])
def test_the_circle_without_the_next_layer(circle: CircleExplorer, seen: int):
    circle.set(seen=seen, activation="ReLU")
    assert circle.live.data["equations"] == 0
    assert (sent(circle, "misfit") == 0).all() and (sent(circle, "heights") == 0).all()
    walks = sent(circle, "walks")
    assert np.abs((walks - walks[:, :1] + 180) % 360 - 180).max() < 1e-9


def test_the_profile_has_one_well_a_sample():
    for activation in ACTIVATIONS:
        assert questions.wells(2, activation) == 2


def test_the_circle_resets_and_takes_controls_out_of_order(circle: CircleExplorer):
    circle.reset()
    first = sent(circle, "walks").copy()
    circle.control["seen"].value = 3
    circle.control["activation"].value = "tanh"
    assert circle.stage is ground(2, "tanh", 3)
    circle.reset()
    assert (sent(circle, "walks") == first).all()


def test_bad_control_values(circle: CircleExplorer):
    with pytest.raises(traitlets.TraitError):
        circle.set(activation="sine")
    with pytest.raises(traitlets.TraitError):
        circle.set(seen=17)
    with pytest.raises(KeyError):
        circle.set(no_such=1)
    circle.reset()


def test_a_failing_computation_is_shown(circle: CircleExplorer, monkeypatch, caplog):
    def fails(stage: Ground):
        raise RuntimeError("no way down")

    monkeypatch.setattr("spear_widgets.two_shadows.circle.all_descents", fails)
    circle.control["seen"].value = 25
    assert circle.status.value == "Error: no way down"
    with pytest.raises(RuntimeError, match="no way down"):
        circle.refresh()
    monkeypatch.undo()
    circle.reset()
    assert circle.status.value == ""


# ---------------------------------------------------------------- the sphere
@pytest.mark.parametrize("activation", ["ReLU", "GELU"])
def test_the_sphere_has_the_paths(wells: WellsExplorer, activation: str):
    wells.set(activation=activation, seen=100)
    stage = ground(3, activation)
    wanted = paths(stage.landscape, random_starts(3, WALKERS), COUNTS)
    assert torch.equal(descents(stage), wanted)
    walked, heights = torch.from_numpy(sent(wells, "paths")), torch.from_numpy(sent(wells, "heights"))
    assert walked.shape == (MOST_WALKERS + STARTS, len(COUNTS) + 1, 3)
    back = torch.einsum("ac,kta->ktc", page_axes(stage), walked.double())
    torch.testing.assert_close(back[:WALKERS], wanted.permute(2, 0, 1), atol=1e-6, rtol=0)
    some = back[::50].flatten(0, 1).T
    torch.testing.assert_close(
        heights[::50].flatten().double(), stage.landscape.misfit(some), atol=1e-5, rtol=1e-3
    )
    _, away = grounds.nearest(stage, back[:, -1].T)
    assert away.max() < 1e-3, "from every start the search ends at a sample"
    assert heights[:, -1].max() < 1e-5


def test_starts_lie_everywhere():
    starts = even_starts(STARTS)
    torch.testing.assert_close(starts.norm(dim=0), torch.ones(STARTS, dtype=torch.float64))
    anywhere = random_starts(3, 500)
    nearest = torch.rad2deg(torch.acos((anywhere.T @ starts).max(dim=1).values.clamp(-1, 1)))
    assert nearest.max() < 6


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_relief_is_the_misfit_and_its_wells_end_in_the_samples(wells: WellsExplorer, activation: str):
    wells.set(activation=activation, seen=100)
    stage, places = wells.stage, torch.from_numpy(sent(wells, "places")).double()
    misfit = torch.from_numpy(sent(wells, "misfit")).double()
    assert places.shape == ((RINGS + 1) * SECTORS, 3)
    points = page_axes(stage).T @ places.T
    torch.testing.assert_close(misfit, stage.landscape.misfit(points), atol=1e-5, rtol=1e-4)
    deepest = misfit.argsort()[:3]
    found = {int(sample) for sample in grounds.nearest(stage, points[:, deepest])[0]}
    assert found == {0, 1, 2} and misfit[deepest].max() < 1e-5
    middle, rim = places[:SECTORS], places[-SECTORS:]
    assert (middle[:, 2] == 1).all() and (rim[:, 2] < -1 + 1e-9).all()


@pytest.mark.parametrize("seen", [0, 3])
def test_the_wells_fade_without_the_next_layer(wells: WellsExplorer, seen: int):
    wells.set(activation="ReLU", seen=seen)
    assert (sent(wells, "misfit") == 0).all()
    walked = sent(wells, "paths")
    assert (walked == walked[:, :1]).all()
    assert wells.live.data["equations"] == 0


def test_five_units_leave_fits_that_are_no_samples(wells: WellsExplorer):
    wells.set(activation="ReLU", seen=5)
    assert int((sent(wells, "heights")[:WALKERS, -1] < 1e-5).sum()) > 3  # how many, rounding decides
    assert questions.arrivals("ReLU", 5) < 10
    assert questions.arrivals("ReLU", 25) == WALKERS


def test_the_ringed_walker_starts_far_and_has_a_ghost():
    for activation in ACTIVATIONS:
        stage = ground(3, activation)
        start = descents(stage)[0][:, first_ringed(stage)][:, None]
        assert float(stage.landscape.shares(start)) > 0
        assert float(grounds.nearest(stage, start)[1]) > 30


# ---------------------------------------------------------------- the whole search
def test_the_search_opens_with_a_proven_batch():
    search = SearchExplorer()
    assert search.inversion is not None and search.inversion.certified
    assert metrics.compare(search.inversion.inputs, search.batch.inputs).exact.all()
    assert "24 of 24 proven" in search.caption.value
    assert search.seconds > 0 and not search.job.running
    assert search.static_picture().width >= 900


def test_a_new_setting_forgets_the_old_result(search: SearchExplorer):
    search.set(activation="GELU")
    assert search.inversion is None and search.seconds == 0
    assert "Nothing found yet" in search.caption.value
    search.run()
    assert search.inversion.certified
    assert metrics.compare(search.inversion.inputs, search.batch.inputs).exact.all()
    search.reset()
    assert search.inversion is None


def test_what_is_not_certified_is_not_shown_as_proven(search: SearchExplorer, monkeypatch):
    search.reset()
    stage = scene("photos", 24, 400)
    noise = torch.Generator().manual_seed(0)
    noisy = {
        name: grad + 1e-3 * grad.square().mean().sqrt() * torch.randn(grad.shape, generator=noise)
        for name, grad in stage.gradients.items()
    }
    search.problem = read_problem(stage.model, noisy)
    monkeypatch.setattr("spear_widgets.two_shadows.search.SECONDS", 2)
    known = states
    monkeypatch.setattr(
        "spear_widgets.two_shadows.search.states", lambda *a, **k: known(*a, batch_size=24, **k)
    )
    search.run()
    assert search.inversion is not None and not search.inversion.certified
    proven = int(search.inversion.certified_rows.sum())
    assert f"{proven} of 24 proven" in search.caption.value
    assert proven < 24
    search.reset()


def test_frames_mark_the_proven_only():
    batch = scene("photos", 24, 400).batch
    green = tuple(int(drawing.GREEN[i : i + 2], 16) for i in (1, 3, 5))

    def frames(proven: list[bool] | None) -> int:
        mask = None if proven is None else torch.tensor(proven)
        picture = result_picture(batch, batch.inputs[:3], mask).convert("RGB")
        return sum(count for count, shade in picture.getcolors(1 << 24) if shade == green)

    none, one, three = frames(None), frames([True, False, False]), frames([True, True, True])
    assert none == frames([False] * 3) and none < one < three


def test_a_search_is_stopped_and_says_so(search: SearchExplorer, monkeypatch):
    search.reset()
    monkeypatch.setattr("spear_widgets.kit.job.SLICE_SECONDS", 0.0)

    async def go() -> None:
        search.run()
        await asyncio.sleep(0.005)
        search.job.stop()
        await asyncio.sleep(0.05)

    asyncio.run(go())
    assert not search.job.running
    assert search.caption.value.startswith("Stopped. ")
    assert "proven" not in search.caption.value or "<b>0 of 24 proven</b>" in search.caption.value


def test_a_setting_changed_during_a_search_ends_it(search: SearchExplorer, monkeypatch):
    search.reset()
    monkeypatch.setattr("spear_widgets.kit.job.SLICE_SECONDS", 0.0)

    async def go() -> None:
        search.run()
        await asyncio.sleep(0.005)
        search.set(activation="GELU")
        await asyncio.sleep(0.2)

    asyncio.run(go())
    assert search.inversion is None
    assert "Nothing found yet" in search.caption.value
    search.reset()


def test_a_failing_search_is_shown(search: SearchExplorer, monkeypatch, caplog):
    def fails(*arguments, **options):
        raise RuntimeError("no samples left")
        yield

    search.reset()
    monkeypatch.setattr("spear_widgets.two_shadows.search.states", fails)
    search.guard(search.run)
    assert search.status.value == "Error: no samples left"
    assert not search.job.running
    monkeypatch.undo()
    search.reset()
    assert search.status.value == ""


@pytest.mark.slow
@pytest.mark.parametrize("b", [50, *thorough(100)])
def test_large_batches_are_proven(search: SearchExplorer, b: int):
    search.set(batch_size=b, activation="ReLU")
    search.run()
    assert f"<b>{b} of {b} proven</b>" in search.caption.value
    assert metrics.compare(search.inversion.inputs, search.batch.inputs).exact.all()
    search.reset()


# ---------------------------------------------------------------- static views, questions, exercises
def test_static_views(circle: CircleExplorer, wells: WellsExplorer, search: SearchExplorer):
    for widget in (circle, wells, search):
        data, metadata = widget._repr_mimebundle_()
        assert data["image/png"].startswith(b"\x89PNG")
        assert metadata["image/png"]["alt"] == data["text/plain"] == widget.description
    data, _ = WellsExplorer.still()._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (questions.rows_of_the_next_gradient, "the four vectors y = relu(z) of the first layer"),
        (questions.wells_on_the_circle, "exactly two"),
        (questions.starts_that_arrive, "all"),
        (questions.wells_with_gelu, "they remain, down to rounding"),
    ],
)
def test_questions_of_the_notebook(question, answer: str):
    prediction: Prediction = question()
    assert prediction.reveal.value == ""
    for choice in prediction.choices:
        assert prediction.commit(choice) == (choice == answer)


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)
def test_exercises(exercise: Exercise):
    assert exercise.check(exercise.reference).passed
    hints = [mistake.hint for mistake in exercise.mistakes]
    assert len(set(hints)) == len(hints) >= 3
    for mistake in exercise.mistakes:
        verdict = exercise.check(mistake.function)
        assert not verdict.passed
        assert verdict.hint == mistake.hint
    for nothing in (None, "a text", float("nan"), torch.zeros(0)):
        assert not exercise.check(lambda *arguments, answer=nothing: answer).passed
    assert len({tuple(a.shape for a in arguments) for _, arguments in exercise.cases()}) >= 3
