"""The last few samples, which share their activation pattern, told apart by the client's own passes."""

import pytest
import torch
from torch import Tensor, nn

import spear_core
from spear_core import client
from spear_core.client import data
from spear_core.client.networks import fully_connected
from spear_core.consistency import twins
from spear_core.model.layers import read_problem
from spear_core.search import Budget, State
from spear_core.study import metrics
from tests.core.attacked import seeded, target_of
from tests.thorough import thorough


def with_twins(seed: int, distance: float, *, same_label: bool = False):
    """A model, its gradients, and a batch of 12 whose first two are nearly the same, of different labels."""
    generator = seeded(seed)
    batch = data.load("photos", 12, size=16, generator=generator)
    inputs, labels = batch.inputs.clone(), batch.labels.clone()
    noise = torch.randn(inputs.shape[1], generator=generator)
    inputs[1] = inputs[0] + distance * inputs[0].norm() * noise / noise.norm()
    labels[1] = labels[0] if same_label else (labels[0] + 1) % 10
    model = fully_connected(768, 200, 4, generator=generator)
    return model, client.gradients(model, inputs, labels), inputs


def share_a_pattern(model: nn.Sequential, inputs: Tensor) -> bool:
    z = model[0](inputs[:2])
    return bool(((z[0] > 0) == (z[1] > 0)).all())


@pytest.mark.parametrize("distance", [1e-2, *thorough(3e-3, 1e-3)])
def test_twins_with_two_labels_come_back_exactly(distance):
    shared = 0
    for seed in range(4):
        model, sent, inputs = with_twins(seed, distance)
        shared += share_a_pattern(model, inputs)
        found = spear_core.invert(model, sent, method="consistency")
        assert bool((metrics.compare(found.inputs, inputs).psnr >= metrics.EXACT_DB).all())
        sure = metrics.compare(found.inputs[found.certified_rows], inputs).psnr
        assert len(sure) - int((sure >= metrics.EXACT_DB).sum()) == len(inputs) - int(
            found.certified_rows.sum()
        )
        assert int(found.certified_rows.sum()) >= 10, "the twins do not spoil the proof of the others"
    assert shared, "none of the twins shares a pattern: the search alone would find them"


def test_from_any_two_missing_samples_the_passes_lead_to_these():
    batch = data.load("photos", 8, size=16, generator=seeded(0))
    model = fully_connected(768, 100, 3, generator=seeded(1))
    problem = read_problem(model, client.gradients(model, batch.inputs, batch.labels))
    target = target_of(problem)
    low_rank = target.low_rank
    C = torch.linalg.lstsq(low_rank.rows.T, batch.inputs.to(torch.float64).T).solution.T
    Q = torch.linalg.inv(C)
    for missing in (1, 2, 3):
        known, directions = C[missing:], (Q / Q.norm(dim=0))[:, missing:]
        assert twins.applies(problem, directions)
        rest = twins.told_apart(target, known, directions, Budget(seeded(2)))
        assert rest is not None
        found = metrics.compare((rest @ low_rank.rows).to(torch.float32), batch.inputs[:missing]).psnr
        assert bool((found >= metrics.EXACT_DB).all())


def test_nothing_is_told_apart_without_cross_entropy_or_with_too_many_missing():
    batch = data.load("photos", 8, size=16, generator=seeded(0))
    model = fully_connected(768, 100, 3, generator=seeded(1))
    target = torch.randn(8, 10, generator=seeded(3))
    loss = (model(batch.inputs) - target).abs().pow(3).mean()
    names = [name for name, _ in model.named_parameters()]
    sent = dict(zip(names, torch.autograd.grad(loss, list(model.parameters())), strict=True))
    problem = read_problem(model, sent)
    target = target_of(problem)
    low_rank = target.low_rank
    C = torch.linalg.lstsq(low_rank.rows.T, batch.inputs.to(torch.float64).T).solution.T
    Q = torch.linalg.inv(C)
    directions = Q / Q.norm(dim=0)
    assert twins.told_apart(target, C[2:], directions[:, 2:], Budget(seeded(2))) is None
    assert not twins.applies(problem, directions[:, 5:])
    assert not twins.applies(problem, directions)
    unknown = directions[:, 2:].clone()
    unknown[:, 0] = torch.nan
    assert not twins.applies(problem, unknown)


def test_the_search_does_not_wait_for_samples_that_it_cannot_tell_apart():
    model, sent, _ = with_twins(0, 1e-3, same_label=True)
    states = []
    spear_core.invert(model, sent, method="consistency", progress=states.append)
    assert states[-1].samples_drawn < 3000


@pytest.mark.slow
def test_an_interruption_hands_back_what_an_earlier_method_has_proven():
    model, sent, _ = with_twins(0, 1e-2, same_label=True)

    def stop(state: State) -> None:
        if state.step == "sampling":
            raise KeyboardInterrupt

    found = spear_core.invert(model, sent, progress=stop)
    alone = spear_core.invert(model, sent, method="consistency")
    assert int(found.certified_rows.sum()) >= int(alone.certified_rows.sum())
    assert any("interrupted" in note for note in found.notes) or found.certified
