"""A trace says of every draw what the search did with it, changes nothing, and stays small."""

import pytest
import torch

import spear_core
from spear_core.spear.sampling import live_rows
from spear_core.study.trace import Draws, Fate, Trace
from spear_core.tolerances import SAME_DIRECTION
from tests.core.attacked import photos


def traced(b: int = 8, m: int = 200, seed: int = 1, **options) -> tuple[Trace, Draws, list]:
    problem = photos(b, m, seed=seed).problem
    trace = Trace(**options)
    states = list(spear_core.states(problem, method="sampling", max_samples=100_000, listen=trace.hear))
    return trace, trace.draws(), states


def test_every_draw_is_heard_and_nothing_changes():
    problem = photos(8, 200, seed=1).problem
    plain = list(spear_core.states(problem, method="sampling", max_samples=100_000))
    trace, draws, states = traced()
    assert [s.samples_drawn for s in states] == [s.samples_drawn for s in plain]
    assert torch.equal(states[-1].reconstruction.inputs, plain[-1].reconstruction.inputs)
    assert draws.count == trace.count == states[-1].samples_drawn
    assert torch.equal(draws.numbers, torch.arange(draws.count))


def test_a_candidate_vanishes_on_its_rows():
    _, draws, states = traced()
    low_rank = states[-1].low_rank
    L = low_rank.factor[live_rows(low_rank.factor)]
    L = L / L.norm(dim=1, keepdim=True)
    for k in range(0, draws.count, 37):
        if draws.directions[k].isfinite().all():
            entries = (L[draws.sets[k]] @ draws.directions[k].double()).abs()
            own = torch.arange(len(entries)) != draws.left_out[k]
            assert float(entries[own].max()) < 1e-2 < 1
            assert float(entries[own].max()) < 0.1 * float((L @ draws.directions[k].double()).abs().mean())


@pytest.mark.parametrize("seed", range(5))
def test_the_pool_is_what_draws_brought(seed: int):
    trace, draws, states = traced(6, 200, seed)
    new = draws.fates == Fate.NEW
    assert set(draws.members[new].tolist()) <= set(range(trace.found.shape[1]))
    known = draws.fates == Fate.KNOWN
    told = known & (draws.members >= 0)
    directions = trace.found[:, draws.members[told]]
    alike = (draws.directions[told].double() * directions.T).sum(dim=1).abs()
    assert bool((alike > 1 - SAME_DIRECTION).all())
    sampled = next(state.pool for state in states if state.step == "sampling")
    for q in sampled.directions.T:
        assert float((q @ trace.found).abs().max()) > 1 - SAME_DIRECTION


def test_memory_is_bounded():
    _, whole, _ = traced(10, 200, 3)
    trace, draws, _ = traced(10, 200, 3, most=500)
    assert draws.count == whole.count > 900  # how many, rounding decides
    late = draws.numbers >= 500
    assert int((~late).sum()) == 500
    assert bool((draws.fates[late] > Fate.FIRST_STAGE).all())
    kept = (whole.numbers < 500) | (whole.fates > Fate.FIRST_STAGE)
    assert torch.equal(draws.numbers, whole.numbers[kept])
    assert trace.count == whole.count


def test_nothing_heard_is_said():
    with pytest.raises(ValueError, match="trace must have heard a draw"):
        Trace().draws()
