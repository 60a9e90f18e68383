"""The swaps are those that `selection.select` yields, at every position, out of order, and when the search fails."""

import itertools

import pytest
import torch
from traitlets import TraitError

import spear_core
from spear_core.spear import selection
from spear_core.spear.reconstruction import reconstruct
from spear_widgets.kit.scene import scene
from spear_widgets.selection import swapping


@pytest.fixture(scope="module")
def shared_swaps() -> swapping.SwapExplorer:
    return swapping.SwapExplorer()


@pytest.fixture
def swapper(shared_swaps):
    shared_swaps.reset()
    return shared_swaps


@pytest.mark.parametrize("ranking", [0, 1, 2, 3])
def test_swaps_are_those_of_select(ranking: int):
    stage = scene("photos", 6, seed=swapping.SEED)
    found = swapping.swaps(stage, ranking)
    matches = [state.sparsity_match for state in found]
    assert matches == sorted(set(matches))
    for before, after in itertools.pairwise(found):
        assert len(set(before.chosen) & set(after.chosen)) == 5
    for state in found:
        wanted = reconstruct(stage.forward, state.pool.directions[:, list(state.chosen)])
        assert torch.equal(state.reconstruction.inputs, wanted.inputs)
    if ranking == 0:
        first = selection.greedy(swapping.full_pool(stage).pool)
        assert found[0].chosen == first


def test_every_swap_there_and_back(swapper):
    last = len(swapper.states) - 1
    assert last > 1
    for k in [*range(last + 1), *range(last, -1, -1)]:
        swapper.control["position"].value = k
        assert f"{k} of {last} swaps" in swapper.caption.value
        assert swapper.status.value == ""
    swapper.move("position", -1)
    assert swapper.values["position"] == 0
    for _ in range(last + 3):
        swapper.move("position", 1)
    assert swapper.values["position"] == last
    assert swapper.states[-1].sparsity_match == 1


@pytest.mark.parametrize("data", ["photos", "digits", "breast_cancer"])
def test_swaps_of_other_batches_begin_at_the_start(swapper, data: str):
    swapper.set(position=swapper.control["position"].max)
    swapper.set(data=data, batch_size=5, ranking=2)
    assert swapper.values["position"] == 0
    assert swapper.stage.batch_size == 5


def test_a_search_without_a_selection_is_an_error(monkeypatch):
    monkeypatch.setattr(spear_core, "states", lambda *arguments, **options: iter(()))
    swapping.full_pool.cache_clear()
    with pytest.raises(RuntimeError, match="must reach its selection"):
        swapping.full_pool(scene("photos", 5, seed=8))


def test_out_of_order(swapper):
    last = len(swapper.states) - 1
    seen = {}
    for k in (last, 0, 2, last, 1, 0, 2, 1):
        swapper.control["position"].value = k
        shown = swapper.picture["picture"].value
        assert seen.setdefault(k, shown) == shown
        assert f"λ = {swapper.states[k].sparsity_match:.4f}" in swapper.caption.value
    assert len(set(seen.values())) == len(seen)


@pytest.mark.parametrize("b", [5, 8])
@pytest.mark.parametrize("ranking", [value for _, value in swapping.RANKINGS])
def test_every_start_ends_at_the_private_batch(swapper, b: int, ranking: int):
    swapper.set(batch_size=b, ranking=ranking)
    last = swapper.states[-1].reconstruction
    distances = torch.cdist(last.inputs, swapper.stage.batch.inputs.double())
    assert distances.min(dim=0).values.max() < 1e-3
    assert swapper.control["position"].max == len(swapper.states) - 1


def test_bad_control_values(swapper):
    with pytest.raises(TraitError):
        swapper.set(ranking=9)
    with pytest.raises(KeyError):
        swapper.set(swaps=1)
    swapper.set(batch_size=99, position=99)  # sliders stop at their ends
    assert swapper.values["batch_size"] == 8
    assert swapper.values["position"] <= swapper.control["position"].max


def test_a_failure_is_told_in_words_and_reset_recovers(swapper, monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("no memory left")

    monkeypatch.setattr(swapping, "swaps", fail)
    swapper.control["batch_size"].value = 7
    assert swapper.status.value == "Error: no memory left"
    monkeypatch.undo()
    swapper.reset()
    assert swapper.status.value == ""
    assert swapper.values["batch_size"] == 8


def test_a_failure_midway_keeps_nothing_half_done(monkeypatch):
    select = swapping.select

    def fail_after_one(pool, forward):
        yield next(select(pool, forward))
        raise RuntimeError("stopped midway")

    stage = scene("photos", 6, seed=swapping.SEED)
    swapping.swaps.cache_clear()
    monkeypatch.setattr(swapping, "select", fail_after_one)
    with pytest.raises(RuntimeError, match="stopped midway"):
        swapping.swaps(stage, 1)
    monkeypatch.undo()
    assert swapping.swaps(stage, 1)[-1].sparsity_match == 1


def test_the_trace_counts_swaps(swapper):
    swapper.refresh()
    plot = swapper._plot
    assert (plot._trace.get_xlabel(), next(iter(plot._match.get_xdata()))) == ("swaps made", 0)


def test_the_static_picture_is_described(swapper):
    data, metadata = swapper._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG")
    assert metadata["image/png"]["alt"] == data["text/plain"] == swapping.SwapExplorer.description
