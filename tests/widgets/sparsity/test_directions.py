"""The explorers of step 3 against arrays: patterns, and what is sent to the pages of the dial and the sphere."""

import io
import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from traitlets import TraitError

from spear_core.spear.sampling import live_rows
from spear_core.spear.zeros import zero_tolerance
from spear_core.study.patterns import most_alike
from spear_widgets.kit.drawing import SCALE, WIDTH
from spear_widgets.kit.scene import scene
from spear_widgets.sparsity import directions, patterns
from spear_widgets.sparsity.dial import DialExplorer, angle_of, at_angle, dial_angles, zero_counts
from spear_widgets.sparsity.sphere import SphereExplorer


@pytest.fixture(scope="module")
def shared_pattern() -> patterns.PatternExplorer:
    return patterns.PatternExplorer()


@pytest.fixture
def pattern(shared_pattern: patterns.PatternExplorer) -> patterns.PatternExplorer:
    shared_pattern.reset()
    return shared_pattern


@pytest.fixture(scope="module")
def dial() -> DialExplorer:
    return DialExplorer()


@pytest.fixture(scope="module")
def sphere() -> SphereExplorer:
    return SphereExplorer()


def array(sent: object) -> torch.Tensor:
    """An array as the page gets it."""
    assert isinstance(sent, dict)
    return torch.from_numpy(np.frombuffer(sent["bytes"], sent["dtype"]).reshape(sent["shape"]).copy())


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


@pytest.mark.parametrize("b", [2, 4, 24])
@pytest.mark.parametrize("width", [40, 200])
def test_the_patterns_are_as_tall_for_every_batch(pattern, b: int, width: int):
    pattern.set(batch_size=b, width=width)
    picture = Image.open(io.BytesIO(pattern.picture["picture"].value))
    assert picture.size == (SCALE * WIDTH, SCALE * (patterns.SHEET + 26))


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


# ---------------------------------------------------------------- what the pages get
@pytest.mark.parametrize("b", [2, 3, 5])
@pytest.mark.parametrize("name", ["photos", "digits"])
def test_what_is_sent_decides_zeros_as_spear_core_does(name: str, b: int):
    stage = scene(name, b, 80)
    sent = directions.sent(stage)
    assert torch.equal(sent["exact"], stage.true_directions.T)
    generator = torch.Generator().manual_seed(b)
    for q in [*sent["exact"], *torch.randn(5, b, generator=generator, dtype=torch.float64)]:
        q = q / q.norm()
        amplified = (q / sent["singular"]).norm()  # as entries.js does
        bound = sent["noise"] * amplified + 16 * torch.finfo(torch.float64).eps
        live = live_rows(stage.low_rank.factor)
        assert torch.allclose(bound, zero_tolerance(stage.low_rank, q[:, None])[live, 0], rtol=1e-12)
        wanted = directions.look(stage, q)
        assert torch.equal((sent["rows"] @ q).abs() <= bound, wanted.zero)
        assert float((sent["rows"] @ q).abs().max()) <= sent["limit"]


@pytest.mark.parametrize("data", ["photos", "digits"])
def test_the_dial_gets_zeros_by_angle(dial, data: str):
    dial.set(data=data)
    sent = dial.live.data
    positions, counts = array(sent["positions"]), array(sent["counts"])
    assert torch.equal(counts.long(), zero_counts(dial.stage, positions.tolist()))
    for place in (0, 50, 181):
        assert int(counts[place]) == directions.look(dial.stage, at_angle(float(positions[place]))).zeros
    spikes = [float(angle) for angle, count in zip(positions, counts, strict=True) if count > 2]
    assert spikes == sorted(sent["angles"])
    assert sent["peaks"] == [directions.look(dial.stage, q).zeros for q in dial.stage.true_directions.T]


def test_angles_of_the_dial_ascend_and_hold_the_exact_ones():
    stage = scene("photos", 2, 60)
    angles = dial_angles(stage)
    assert angles == sorted(angles) and len(angles) == 182
    for q in stage.true_directions.T:
        assert angle_of(q) in angles
        assert abs(float(at_angle(angle_of(q)) @ q)) == pytest.approx(1, abs=1e-15)


def test_a_reset_begins_the_dial_anew(dial):
    before, told = dial.live.data, []
    dial.live.value = {"angle": 77.0}
    dial.live.observe(told.append, "data")
    dial.reset()
    assert dial.values == {"data": "photos"}
    assert dial.live.value == {}
    dial.reset()
    assert len(told) == 2, "the page hears of it, though all numbers are the same"
    assert before.keys() == dial.live.data.keys()


def test_circles_pass_through_the_samples_that_their_units_ignore(sphere):
    sent, live = sphere.live.data, live_rows(sphere.stage.low_rank.factor)
    assert torch.equal(array(sent["through"]).bool(), (sphere.stage.output_grads == 0).T[live])
    assert sent["units"] == (live + 1).tolist()
    assert array(sent["photos"]).shape == (3, 32, 32, 3)
    assert sent["marked"] is False


def test_samples_have_far_more_zeros_than_any_other_crossing(sphere):
    rows = sphere.stage.low_rank.factor[live_rows(sphere.stage.low_rank.factor)]
    at_samples, elsewhere = [], []
    for first, second in itertools.combinations(rows[::2], 2):
        crossing = torch.linalg.cross(first, second)
        if crossing.norm() > 1e-9 * first.norm() * second.norm():
            state = directions.look(sphere.stage, crossing)
            (elsewhere if state.sample is None else at_samples).append(state.zeros)
    assert min(at_samples) > 20 > 12 > max(elsewhere)


@pytest.mark.parametrize("explorer", ["dial", "sphere"])
def test_without_a_kernel_there_is_a_picture(request: pytest.FixtureRequest, explorer: str):
    shown = request.getfixturevalue(explorer)
    data, metadata = shown._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG")
    assert metadata["image/png"]["alt"] == shown.description


def test_a_failing_dial_is_told_in_words(dial, monkeypatch):
    def fail(*arguments):
        raise FloatingPointError("no direction")

    monkeypatch.setattr("spear_widgets.sparsity.dial.sent", fail)
    dial.control["data"].value = "digits"
    assert dial.status.value == "Error: no direction"
    monkeypatch.undo()
    dial.reset()
    assert dial.status.value == ""
