"""The explorers of forward consistency against arrays of spear_core: all states, in and out of order."""

import asyncio
import io

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
from spear_widgets.kit.eye import view
from spear_widgets.kit.predict import Prediction
from spear_widgets.kit.scene import ACTIVATIONS, scene
from spear_widgets.two_shadows import exercises, grounds, questions, sphere
from spear_widgets.two_shadows.circle import CIRCLE_COUNTS, CircleExplorer, Descent, angles_of, on_circle
from spear_widgets.two_shadows.grounds import Ground, ground
from spear_widgets.two_shadows.search import SearchExplorer, result_picture
from spear_widgets.two_shadows.wells import (
    SPHERE_COUNTS,
    WALKERS,
    WellsExplorer,
    between,
    descents,
    followed,
    random_starts,
)

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


# ---------------------------------------------------------------- the circle
@pytest.mark.parametrize("start", [0, 359, 90, 174, 1])
@pytest.mark.parametrize("activation", ["ReLU", "GELU"])
def test_the_circle_runs_the_search(circle: CircleExplorer, activation: str, start: int):
    circle.set(activation=activation, start=start, seen=100)
    stage = ground(2, activation)
    wanted = paths(stage.landscape, on_circle(stage, float(start)), CIRCLE_COUNTS)
    assert torch.equal(circle.state.points, wanted[:, :, 0].T)
    torch.testing.assert_close(circle.state.misfit, stage.landscape.misfit(circle.state.points))
    assert circle.state.arrived and circle.state.misfit[-1] < 1e-5
    assert f"at sample {circle.state.sample + 1}" in circle.caption.value
    assert circle.status.value == ""
    assert pixels(circle.picture["picture"].value).size == (2 * 960, 2 * 500)


@pytest.mark.parametrize("seen", [0, 2])
def test_the_circle_without_the_next_layer(circle: CircleExplorer, seen: int):
    circle.set(seen=seen, start=40, activation="ReLU")
    assert "every direction fits" in circle.caption.value
    assert (circle.state.misfit == 0).all()
    start = on_circle(circle.stage, 40.0)
    torch.testing.assert_close(circle.state.points, start.expand(2, circle.state.points.shape[1]))


def test_the_circle_says_where_no_input_is(circle: CircleExplorer):
    circle.set(start=5, seen=100, activation="ReLU")
    assert "where no input lies" in circle.caption.value
    assert grounds.ghosts(circle.stage, circle.state.points[:, :1]).isnan().all()
    grey = grounds.ghost_pictures(circle.stage, circle.state.points[:, :1])
    assert len({float(value) for value in grey.reshape(-1)[:50]}) == 1
    circle.set(start=180)
    assert "where no input lies" not in circle.caption.value


def test_a_search_that_ends_at_no_sample_says_so(circle: CircleExplorer, monkeypatch):
    astray = Descent(on_circle(ground(2), torch.arange(8.0)), torch.ones(8), 0, 30.0)
    monkeypatch.setattr("spear_widgets.two_shadows.circle.descend", lambda stage, degrees: astray)
    circle.set(start=77, seen=100)
    assert "ends <b>at no sample</b>" in circle.caption.value


def test_the_profile_has_one_well_a_sample():
    for activation in ACTIVATIONS:
        assert questions.wells(2, activation) == 2


def test_the_circle_resets_and_takes_controls_out_of_order(circle: CircleExplorer):
    circle.reset()
    first, picture = circle.state.points.clone(), circle.picture["picture"].value
    circle.control["seen"].value = 3
    circle.control["start"].value = 300
    circle.control["activation"].value = "tanh"
    assert circle.stage is ground(2, "tanh", 3)
    circle.reset()
    assert torch.equal(circle.state.points, first)
    assert circle.picture["picture"].value == picture


def test_bad_control_values(circle: CircleExplorer):
    with pytest.raises(traitlets.TraitError):
        circle.set(activation="sine")
    with pytest.raises(traitlets.TraitError):
        circle.set(seen=17)
    with pytest.raises(KeyError):
        circle.set(no_such=1)
    circle.set(start=900)
    assert circle.control["start"].value == 359
    circle.reset()


def test_a_failing_computation_is_shown(circle: CircleExplorer, monkeypatch, caplog):
    def fails(stage: Ground, degrees: float):
        raise RuntimeError("no way down")

    monkeypatch.setattr("spear_widgets.two_shadows.circle.descend", fails)
    circle.control["start"].value = 12
    assert circle.status.value == "Error: no way down"
    with pytest.raises(RuntimeError, match="no way down"):
        circle.refresh()
    monkeypatch.undo()
    circle.reset()
    assert circle.status.value == ""


# ---------------------------------------------------------------- the sphere
LAST = len(SPHERE_COUNTS)


@pytest.mark.parametrize("steps", [0, LAST, 7, 1])
@pytest.mark.parametrize("activation", ["ReLU", "GELU"])
def test_the_sphere_shows_the_paths(wells: WellsExplorer, activation: str, steps: int):
    wells.set(activation=activation, steps=steps, seen=100)
    stage = ground(3, activation)
    wanted = paths(stage.landscape, random_starts(3, 20), SPHERE_COUNTS)
    assert torch.equal(wells.points, wanted[steps])
    if steps == LAST:
        assert stage.landscape.misfit(wells.points).max() < 1e-5
        assert "<b>20 of 20</b>" in wells.caption.value
        near, away = grounds.nearest(stage, wells.points[:, wells.followed])
        assert near.tolist() == [0, 1, 2] and away.max() < grounds.NEAR_DEGREES


def test_the_heat_map_is_the_misfit():
    stage = ground(3)
    values = sphere.heat(stage)
    latitude, longitude = torch.tensor(30.0).deg2rad(), torch.tensor(-90.0).deg2rad()
    point = torch.stack(
        [latitude.cos() * longitude.cos(), latitude.cos() * longitude.sin(), latitude.sin()]
    ).double()[:, None]
    row, column = (30 + 90) * (sphere.LATITUDES - 1) // 180, 90 * sphere.LONGITUDES // 360
    assert abs(values[row, column] - float(stage.landscape.misfit(point))) < 1e-6


def test_the_middle_of_the_sphere_has_the_colour_of_its_misfit():
    stage = ground(3)
    for turn, tilt in ((0, 0), (90, 0), (-135, 40), (180, -90), (10, 90)):
        eye = view(turn, tilt) @ stage.home
        torch.testing.assert_close(eye @ eye.T, torch.eye(3, dtype=torch.float64))
        picture = sphere.sphere_picture(sphere.heat(stage), eye, pixels=101)
        shade = grounds.MAP(float(stage.landscape.misfit(eye[2][:, None])))
        assert all(abs(int(255 * a) - int(b)) <= 6 for a, b in zip(shade[:3], picture[50, 50], strict=True))
        assert (picture[0, 0] == 255).all()


@pytest.mark.parametrize("seen", [0, 3])
def test_the_wells_fade_without_the_next_layer(wells: WellsExplorer, seen: int):
    wells.set(activation="ReLU", seen=seen, steps=LAST)
    assert (sphere.heat(wells.stage) == 0).all()
    assert torch.equal(wells.points, random_starts(3, 20))
    assert "every direction fits" in wells.caption.value


def test_five_units_leave_fits_that_are_no_samples(wells: WellsExplorer):
    wells.set(activation="ReLU", seen=5, steps=LAST)
    assert int((wells.stage.landscape.misfit(wells.points) < 1e-5).sum()) > 10
    assert questions.arrivals("ReLU", 5) < 10
    wells.set(seen=25)
    assert "<b>20 of 20</b>" in wells.caption.value


def test_the_sphere_turns_without_changing_what_it_shows(wells: WellsExplorer):
    wells.reset()
    points, picture = wells.points, wells.picture["picture"].value
    for turn, tilt in ((180, 90), (-180, -90), (34, -20)):
        wells.set(turn=turn, tilt=tilt)
        assert wells.points is not None and torch.equal(wells.points, points)
        assert wells.picture["picture"].value != picture
    wells.reset()
    assert wells.picture["picture"].value == picture


def test_followed_walkers_start_far_and_end_at_their_samples():
    stage = ground(3)
    whole = descents(stage)
    chosen = followed(stage, whole)
    assert (stage.landscape.shares(whole[0][:, chosen]) > 0).all(), "each has a ghost from the start"
    _, away = grounds.nearest(stage, whole[0][:, chosen])
    assert away.max() > 10


def test_arcs_stay_on_the_sphere():
    arcs = between(descents(ground(3)))
    assert arcs.shape[0] == WALKERS
    torch.testing.assert_close(arcs.norm(dim=2), torch.ones(arcs.shape[:2], dtype=torch.float64))


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
@pytest.mark.parametrize("b", [50, 100])
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
