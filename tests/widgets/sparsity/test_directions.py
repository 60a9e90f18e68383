"""The explorers of step 3 against arrays: patterns, the dial, the sphere."""

import itertools

import numpy as np
import pytest
import torch
from traitlets import TraitError

from spear_core.spear.sampling import live_rows
from spear_core.spear.zeros import null_space
from spear_core.study.patterns import most_alike
from spear_widgets.kit.eye import view
from spear_widgets.kit.scene import scene
from spear_widgets.sparsity import directions, patterns
from spear_widgets.sparsity.dial import DialExplorer, angle_of, dial_ghost
from spear_widgets.sparsity.sphere import (
    CIRCLE_POINTS,
    SphereExplorer,
    facing,
    great_circles,
)


@pytest.fixture(scope="module")
def pattern() -> patterns.PatternExplorer:
    return patterns.PatternExplorer()


@pytest.fixture(scope="module")
def dial() -> DialExplorer:
    return DialExplorer()


@pytest.fixture(scope="module")
def sphere() -> SphereExplorer:
    return SphereExplorer()


@pytest.fixture(autouse=True)
def from_the_start(request: pytest.FixtureRequest):
    for name in ("pattern", "dial", "sphere"):
        if name in request.fixturenames:
            request.getfixturevalue(name).reset()


# ---------------------------------------------------------------- patterns
@pytest.mark.parametrize("data", ["photos", "digits", "breast_cancer"])
@pytest.mark.parametrize("b", [2, 24])
def test_the_gradient_is_zero_exactly_where_units_are_silent(pattern, data: str, b: int):
    pattern.set(data=data, batch_size=b, width=200)
    z = pattern.stage.model[0](pattern.stage.batch.inputs).detach()
    assert torch.equal(pattern.silent, z <= 0)
    assert torch.equal(pattern.zero, pattern.silent)
    assert "exactly where Z ≤ 0" in pattern.caption.value
    assert f"Silent for all samples: {int((z <= 0).all(dim=0).sum())} of 200 units" in pattern.caption.value


def test_about_half_of_each_line_is_zero(pattern):
    for seed in range(10):
        pattern.set(seed=seed, width=200)
        share = pattern.zero.double().mean(dim=1)
        assert bool(((share > 0.3) & (share < 0.7)).all())


def test_a_near_duplicate_has_nearly_the_same_pattern(pattern):
    apart = most_alike(pattern.silent)[2]
    pattern.set(duplicate=True)
    first, second, units = most_alike(pattern.silent)
    assert (first, second) == (0, 1)
    assert units < 10 < apart
    assert not torch.equal(pattern.stage.batch.inputs[0], pattern.stage.batch.inputs[1])
    pattern.control["duplicate"].value = False
    assert most_alike(pattern.silent)[2] == apart


def test_the_most_alike_pair_is_the_most_alike(pattern):
    pattern.set(batch_size=6)
    silent = pattern.silent
    counts = {(i, j): int((silent[i] ^ silent[j]).sum()) for i, j in itertools.combinations(range(6), 2)}
    i, j, units = most_alike(pattern.silent)
    assert units == counts[i, j] == min(counts.values())


def test_patterns_out_of_order_and_bad_values(pattern):
    for setting in ({"width": 40}, {"batch_size": 24}, {"duplicate": True}, {"data": "digits"}, {"seed": 9}):
        pattern.set(**setting)
        assert pattern.status.value == ""
    assert pattern.zero.shape == (24, 40)
    with pytest.raises(TraitError):
        pattern.set(data="faces")
    pattern.reset()
    assert pattern.values == {"data": "photos", "batch_size": 4, "width": 120, "seed": 3, "duplicate": False}


# ---------------------------------------------------------------- one direction
@pytest.mark.parametrize("b", [2, 3, 5])
def test_a_right_direction_has_the_zeros_of_its_sample(b: int):
    stage = scene("photos", b, 80)
    live = live_rows(stage.low_rank.factor)
    for i, q in enumerate(stage.true_directions.T):
        state = directions.look(stage, -7 * q)  # length and sign do not matter
        assert state.sample == i
        assert torch.equal(state.zero, (stage.output_grads[i] == 0)[live])
        assert torch.allclose(state.entries, -stage.low_rank.factor[live] @ q, atol=1e-12)


def test_a_random_direction_has_no_zeros_and_no_sample():
    stage = scene("photos", 4, 80)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        state = directions.look(stage, torch.randn(4, generator=generator, dtype=torch.float64))
        assert state.zeros == 0
        assert state.sample is None


@pytest.mark.parametrize(
    "direction", [torch.zeros(3), torch.ones(2), torch.tensor([1.0, float("nan"), 0.0]), torch.eye(3)]
)
def test_what_is_no_direction_is_refused(direction):
    with pytest.raises(ValueError, match="must be a vector of 3 numbers"):
        directions.look(scene("photos", 3, 80), direction.double())


# ---------------------------------------------------------------- the dial
def test_zeros_jump_at_exactly_two_angles(dial):
    spikes = [angle for angle, count in zip(dial.angles, dial.counts.tolist(), strict=True) if count > 2]
    exact = sorted(angle_of(q) for q in dial.stage.true_directions.T)
    assert spikes == exact
    assert dial.angles == sorted(dial.angles)
    assert len(dial.angles) == 182


def test_every_position_of_the_dial(dial):
    live = live_rows(dial.stage.low_rank.factor)
    for position in [0, *range(1, 182, 9), 181]:
        dial.control["position"].value = position
        assert dial.status.value == ""
        angle = np.deg2rad(dial.angles[position])
        entries = dial.stage.low_rank.factor[live].numpy() @ [np.cos(angle), np.sin(angle)]
        assert np.allclose(dial.state.entries.numpy(), entries)
        assert dial.state.zeros == int(dial.counts[position])


def test_jumping_goes_round_the_two_spikes(dial):
    visited = []
    for _ in range(4):
        dial.jump()
        visited.append(dial.state.sample)
    assert visited[:2] == visited[2:]
    assert sorted(visited[:2]) == [0, 1]


@pytest.mark.parametrize("data", ["photos", "digits"])
def test_at_a_spike_the_other_sample_appears(dial, data: str):
    dial.set(data=data)
    for _ in range(2):
        dial.jump()
        other = 1 - dial.state.sample
        found = dial_ghost(dial.stage, dial.state.direction)
        error = (found[0] - dial.stage.batch.inputs[other]).abs().max()
        assert float(error) < 1e-4
        assert f"is sample {other + 1}" in dial.caption.value


def test_the_dial_follows_its_data_and_resets(dial):
    before = dial.angles
    dial.control["data"].value = "digits"
    assert dial.angles != before
    assert dial.status.value == ""
    dial.control["position"].value = 181
    dial.reset()
    assert dial.values == {"data": "photos", "position": 20}
    assert dial.angles == before


# ---------------------------------------------------------------- the sphere
def test_great_circles_lie_on_the_sphere_and_in_their_planes():
    rows = torch.randn(20, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rows[0] = torch.tensor([0.0, 0.0, 2.0])
    circles = great_circles(rows)
    assert torch.allclose(circles.norm(dim=2), torch.ones(20, CIRCLE_POINTS, dtype=torch.float64))
    assert float((circles @ rows[:, :, None]).abs().max()) < 1e-12
    assert torch.allclose(circles[:, 0], circles[:, -1]), "closed"


@pytest.mark.parametrize("turn", [-180, -37, 0, 90, 180])
@pytest.mark.parametrize("tilt", [-90, -20, 0, 55, 90])
def test_an_eye_is_a_rotation_and_facing_undoes_it(turn: float, tilt: float):
    eye = view(turn, tilt)
    assert torch.allclose(eye @ eye.T, torch.eye(3, dtype=torch.float64), atol=1e-12)
    assert float(torch.det(eye)) == pytest.approx(1)
    again = view(*facing(eye[2]))
    assert torch.allclose(again[2], eye[2], atol=1e-12)


def test_circles_pass_through_the_samples_that_their_units_ignore(sphere):
    live = live_rows(sphere.stage.low_rank.factor)
    through = sphere.stage.zero(sphere.stage.true_directions)[live]
    assert torch.equal(through, (sphere.stage.output_grads == 0).T[live])


@pytest.mark.parametrize("sample", [0, 1, 2])
def test_a_sample_in_the_middle(sphere, sample: int):
    sphere.buttons[sample].click()
    assert sphere.status.value == ""
    assert sphere.state.sample == sample
    silent = sphere.stage.output_grads[sample] == 0
    live = live_rows(sphere.stage.low_rank.factor)
    assert sphere.state.zeros == int(silent[live].sum()) > 20
    assert f"exactly sample {sample + 1}" in sphere.caption.value
    kernel = null_space(sphere.stage.low_rank, silent)
    assert abs(float(kernel[:, 0] @ sphere.state.direction)) == pytest.approx(1)


def test_turning_away_leaves_the_sample(sphere):
    sphere.face(1)
    sphere.control["turn"].value += 2
    assert sphere.state.sample is None
    assert sphere.state.zeros <= 1


def test_the_middle_is_q(sphere):
    for turn, tilt in [(-180, -90), (180, 90), (0, 0), (44, -30)]:
        sphere.set(turn=turn, tilt=tilt)
        q = [np.cos(np.deg2rad(tilt)) * np.cos(np.deg2rad(turn)),
             np.cos(np.deg2rad(tilt)) * np.sin(np.deg2rad(turn)), np.sin(np.deg2rad(tilt))]  # fmt: skip
        assert np.allclose(sphere.state.direction.numpy(), q)


def test_the_sphere_out_of_order_and_reset(sphere):
    first = sphere.picture["picture"].value
    for setting in ({"circles": 2}, {"marked": False}, {"turn": -180}, {"circles": 10_000}, {"tilt": 90}):
        sphere.set(**setting)
        assert sphere.status.value == ""
    assert sphere.values["circles"] == len(live_rows(sphere.stage.low_rank.factor))
    sphere.reset()
    assert sphere.picture["picture"].value == first


def test_samples_have_far_more_zeros_than_any_other_crossing(sphere):
    rows = sphere.stage.low_rank.factor[live_rows(sphere.stage.low_rank.factor)]
    at_samples, elsewhere = [], []
    for first, second in itertools.combinations(rows[::2], 2):
        crossing = torch.linalg.cross(first, second)
        if crossing.norm() > 1e-9 * first.norm() * second.norm():
            state = directions.look(sphere.stage, crossing)
            (elsewhere if state.sample is None else at_samples).append(state.zeros)
    assert min(at_samples) > 20 > 12 > max(elsewhere)


def test_a_failing_look_is_shown_and_raised(sphere, monkeypatch):
    def fail(*arguments):
        raise FloatingPointError("no direction")

    monkeypatch.setattr("spear_widgets.sparsity.sphere.look", fail)
    sphere.control["turn"].value += 4
    assert sphere.status.value == "Error: no direction"
    with pytest.raises(FloatingPointError):
        sphere.face(0)
    monkeypatch.undo()
    sphere.reset()
    assert sphere.status.value == ""
