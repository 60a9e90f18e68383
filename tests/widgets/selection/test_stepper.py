"""The stepper shows what `spear_core` yields: every state, in order, out of order, stopped, failing."""

import asyncio

import pytest
import torch
from traitlets import TraitError

import spear_core
from spear_core.search import State
from spear_core.spear import selection
from spear_core.spear.reconstruction import reconstruct
from spear_core.study.metrics import compare
from spear_widgets.kit.scene import scene
from spear_widgets.selection import runs, state_picture
from spear_widgets.selection.stepper import MOST_RUNS, STAGES, Stepper, title_picture

SMALL = {"batch_size": 6, "width": 100, "seed": 4}


@pytest.fixture
def stepper() -> Stepper:
    made = Stepper(**SMALL)
    made.play_seconds = 0
    return made


def drained(stage) -> list[State]:
    problem = stage.problem
    return list(spear_core.states(problem, method="sampling", max_samples=runs.MOST_SAMPLES))


def same(a: State, b: State) -> bool:
    """Equal in all that an attack computes, to the rounding of another number of threads; times differ.

    That rounding may turn a direction around: q and −q are one.
    """
    return (
        a.step == b.step
        and a.samples_drawn == b.samples_drawn
        and a.chosen == b.chosen
        and a.pool.directions.shape == b.pool.directions.shape
        and torch.allclose((a.pool.directions * b.pool.directions).sum(dim=0).abs(), torch.ones(1).double())
        and abs(a.sparsity_match - b.sparsity_match) < 1e-9
        and (a.certificate is None) == (b.certificate is None)
        and (a.certificate is None or b.certificate is None or a.certificate.parts == b.certificate.parts)
    )


# ---------------------------------------------------------------- the client
def test_near_twins_differ_by_a_little_noise():
    stage = runs.client_with("photos", 4, 100, 3, "near")
    X, labels = stage.batch.inputs, stage.batch.labels
    assert 0 < float((X[1] - X[0]).std()) < 2 * runs.NEAR
    assert labels[0] != labels[1]
    assert torch.equal(X[2:], scene("photos", 4, 100, 3).batch.inputs[2:])


@pytest.mark.parametrize("name", ["photos", "digits"])
def test_same_twins_have_one_pattern_and_are_two(name: str):
    stage = runs.client_with(name, 4, 100, 3, "same")
    pattern = stage.preactivations > 0
    assert torch.equal(pattern[0], pattern[1])
    assert not torch.equal(stage.batch.inputs[0], stage.batch.inputs[1])


def test_other_twins_are_refused():
    with pytest.raises(ValueError, match='twins must be "none", "near" or "same"'):
        runs.client_with("photos", 4, 100, 3, "triplets")


# ---------------------------------------------------------------- stepping
def test_steps_are_those_of_the_generator(stepper):
    wanted = drained(stepper.run.stage)
    assert stepper.position == 0
    assert same(stepper.state, wanted[0])
    for k in range(1, len(wanted)):
        stepper.step()
        assert stepper.status.value == ""
        assert stepper.position == k
        assert same(stepper.state, wanted[k])
    stepper.step()  # at the end, stay
    assert stepper.position == len(wanted) - 1
    assert stepper.run.done
    assert stepper.state.certified
    assert "Certified: all 6 samples are exact" in stepper.caption.value


def test_nothing_is_computed_before_it_is_asked_for(stepper):
    assert len(stepper.run.states) == 1
    stepper.step()
    assert len(stepper.run.states) == 2


def test_back_keeps_the_states_seen(stepper):
    stepper.finish()
    seen = list(stepper.run.states)
    for k in range(len(seen) - 2, -1, -1):
        stepper.back()
        assert stepper.position == k
        assert stepper.state is seen[k]
    stepper.back()
    assert stepper.position == 0
    stepper.finish()
    assert stepper.run.states == seen
    stepper.first()
    assert stepper.position == 0
    assert stepper.control["position"].max == len(seen) - 1


def test_the_slider_scrubs_out_of_order(stepper):
    stepper.finish()
    last = len(stepper.run.states) - 1
    for k in (0, last, 1, last - 1, last, 0):
        stepper.control["position"].value = k
        assert stepper.status.value == ""
        assert stepper.state is stepper.run.states[k]
        assert f"State {k + 1} of {last + 1}, {stepper.state.step}" in stepper.caption.value


@pytest.mark.parametrize("stage", STAGES[1:])
def test_jumps_go_to_the_next_state_of_a_stage(stepper, stage: str):
    stepper.jump(stage)
    assert stepper.state.step == stage
    assert all(state.step != stage for state in stepper.run.states[: stepper.position])


def test_jumping_on_from_the_last_state_stays(stepper):
    stepper.finish()
    last = stepper.position
    stepper.jump("sampling")
    assert stepper.position == last
    stepper.jump("low rank")
    assert stepper.position == 0


def test_an_unknown_stage_is_refused(stepper):
    with pytest.raises(ValueError, match="stage must be one of"):
        stepper.jump("step 9")


def test_playing_shows_every_state(stepper, monkeypatch):
    shown = []
    monkeypatch.setattr(stepper, "_show", lambda k, show=stepper._show: (shown.append(k), show(k)))
    stepper.play()
    assert shown == list(range(1, len(stepper.run.states)))
    assert not stepper.job.running


def test_pausing_midway_and_going_on(stepper, monkeypatch):
    show = stepper._show

    def pause_at_second(k):
        show(k)
        if k == 2:
            stepper.job.stop()

    monkeypatch.setattr(stepper, "_show", pause_at_second)
    stepper.play()
    assert stepper.position == 2
    assert not stepper.run.done
    stepper.play()
    assert stepper.run.done


def test_playing_in_a_running_loop_leaves_the_page_alive(stepper):
    async def page() -> list[int]:
        stepper.play_seconds = 0.05
        stepper.play()
        positions = []
        while stepper.job.running:
            positions.append(stepper.position)
            await asyncio.sleep(0.01)
        return positions

    positions = asyncio.run(page())
    assert positions == sorted(positions)
    assert len(set(positions)) > 1
    assert stepper.run.done


def test_another_batch_while_a_state_is_computed(stepper):
    async def page() -> None:
        stepper.finish()
        await asyncio.sleep(0)
        stepper.control["seed"].value = 5
        while stepper.job.running or any(run.busy for run in stepper._runs.values()):
            await asyncio.sleep(0.01)

    asyncio.run(page())
    assert stepper.position == 0
    assert len(stepper.run.states) == 1
    assert stepper.status.value == ""
    stepper.finish()
    assert all(same(a, b) for a, b in zip(stepper.run.states, drained(stepper.run.stage), strict=True))


# ---------------------------------------------------------------- other batches
def test_a_batch_that_was_seen_goes_on_where_it_was(stepper):
    stepper.finish()
    run = stepper.run
    stepper.set(seed=5)
    assert stepper.run is not run
    assert (stepper.position, len(stepper.run.states)) == (0, 1)
    stepper.set(seed=4)
    assert stepper.run is run
    assert stepper.position == 0
    assert stepper.control["position"].max == len(run.states) - 1


def test_only_the_latest_runs_are_kept(stepper):
    for seed in range(10):
        stepper.set(seed=seed)
    assert len(stepper._runs) == MOST_RUNS


def test_reset_begins_anew(stepper):
    stepper.finish()
    run = stepper.run
    stepper.set(twins="near", batch_size=3)
    stepper.reset()
    assert stepper.values == {"data": "photos", **SMALL, "twins": "none", "position": 0}
    assert stepper.run is not run
    assert len(stepper.run.states) == 1


@pytest.mark.parametrize("data", ["photos", "digits", "breast_cancer"])
@pytest.mark.parametrize("b", [2, 5])
def test_every_kind_of_data(stepper, data: str, b: int):
    stepper.set(data=data, batch_size=b, width=200)
    stepper.finish()
    assert stepper.status.value == ""
    assert stepper.state.step == "certificate"
    truth = stepper.run.stage.batch.inputs
    if stepper.state.certified:
        assert compare(stepper.state.reconstruction.inputs, truth).exact.all()
    wrong = state_picture.error_pictures(stepper.run.stage.batch, truth - truth)
    assert (wrong == 255).all()


def test_bad_control_values(stepper):
    with pytest.raises(TraitError):
        stepper.set(width=150)
    with pytest.raises(TraitError):
        stepper.set(twins="triplets")
    with pytest.raises(KeyError):
        stepper.set(depth=3)
    stepper.set(batch_size=99, position=50)  # sliders stop at their ends
    assert stepper.values["batch_size"] == 12
    assert stepper.position == 0


def test_twins_with_one_pattern_are_never_certified(monkeypatch):
    monkeypatch.setattr(runs, "MOST_SAMPLES", 4000)
    stepper = Stepper(batch_size=4, twins="same")
    stepper.finish()
    assert not stepper.state.certified
    assert "Refused" in stepper.caption.value
    assert ("✗ " + state_picture.Part.UNIQUE, "bad") in state_picture.lamps(stepper.state)


# ---------------------------------------------------------------- failing
def test_a_refusal_is_told_in_words(monkeypatch):
    def refuse(*arguments, **options):
        raise ValueError("the gradient must be of low rank, got <full>")
        yield

    monkeypatch.setattr(spear_core, "states", refuse)
    stepper = Stepper(**SMALL)
    assert stepper.state is None
    assert "<b>Refused</b>" in stepper.caption.value
    assert "&lt;full&gt;" in stepper.caption.value
    stepper.step()
    stepper.back()
    stepper.finish()
    assert stepper.status.value == ""


def test_a_failure_midway_is_told_in_words_and_keeps_the_states(monkeypatch):
    states = spear_core.states

    def fail_after_two(*arguments, **options):
        for k, state in enumerate(states(*arguments, **options)):
            if k == 2:
                raise RuntimeError("out of memory")
            yield state

    monkeypatch.setattr(spear_core, "states", fail_after_two)
    stepper = Stepper(**SMALL)
    stepper.guard(stepper.finish)
    assert stepper.status.value == "Error: out of memory"
    assert len(stepper.run.states) == 2
    assert not stepper.job.running
    stepper.back()
    assert stepper.position == 0
    assert stepper.status.value == ""
    with pytest.raises(RuntimeError, match="out of memory"):
        Stepper(**SMALL).finish_now()


# ---------------------------------------------------------------- what a state shows
def test_looks_follow_the_state(stepper):
    stage = stepper.run.stage
    first = state_picture.look(stage, stepper.state)
    rows = stepper.state.low_rank.rows
    assert torch.allclose(first.inputs, rows / rows.std(dim=1, keepdim=True))
    stepper.finish()
    last = state_picture.look(stage, stepper.state)
    assert torch.equal(last.inputs, stepper.state.reconstruction.inputs)
    assert sorted(last.places.tolist()) == list(range(6))
    error = (last.inputs[last.places] - stage.batch.inputs).abs().amax(dim=1)
    assert torch.allclose(last.errors, error)
    assert float(last.errors.max()) < 1e-5


def test_ghosts_are_what_the_directions_so_far_give():
    stage = runs.client_with("photos", 12, 200, 3)
    partial = [
        s for s in drained(stage) if 0 < len(selection.greedy(s.pool)) < 12 and s.reconstruction is None
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


def test_lamps_light_with_the_certificate(stepper):
    assert [tint for _, tint in state_picture.lamps(stepper.state)] == ["empty"] * 4
    stepper.finish()
    assert [tint for _, tint in state_picture.lamps(stepper.state)] == ["good"] * 4


def test_the_static_picture_is_a_film(stepper):
    data, metadata = stepper._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG")
    assert metadata["image/png"]["alt"] == data["text/plain"] == Stepper.description
    assert len(stepper.run.states) == 1  # the film is a run of its own


def test_the_title_picture_is_described():
    data, metadata = title_picture()._repr_mimebundle_()
    assert metadata["image/png"]["alt"] == data["text/plain"]
