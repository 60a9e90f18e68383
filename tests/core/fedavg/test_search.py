"""Updates of several local steps: inverted exactly, proven by the simulated client, and never wrongly certified."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import spear_core
from spear_core import client
from spear_core.client import data
from spear_core.client.networks import fully_connected
from spear_core.errors import InputError
from spear_core.fedavg import search
from spear_core.fedavg.candidates import sparse
from spear_core.fedavg.error import ROOM, update_error
from spear_core.fedavg.kinks import replayed_residuals
from spear_core.fedavg.order import find_schedule
from spear_core.fedavg.robust import robust_solution
from spear_core.fedavg.training import Client, LocalTraining
from spear_core.halfspace.confirm import fit
from spear_core.model.layers import read_problem
from spear_core.search import Budget
from spear_core.spear.low_rank import LowRank, split
from spear_core.spear.reconstruction import reconstruct
from spear_core.spear.zeros import zeros_of
from spear_core.study import metrics
from tests.core.attacked import target_of
from tests.core.zoo import seeded

F64 = torch.float64


def private(b=4, width=150, depth=3, *, seed=0, dtype=F64):
    batch = data.load("photos", b, size=16, generator=seeded(seed), dtype=dtype)
    model = fully_connected(batch.inputs.shape[1], width, depth, generator=seeded(100 + seed), dtype=dtype)
    return model, batch.inputs, batch.labels


@pytest.mark.parametrize("minibatch", [None, 2, 3])
def test_an_update_is_what_sgd_does(minibatch):
    model, inputs, labels = private(b=4, width=20)
    trained = fully_connected(inputs.shape[1], 20, 3, dtype=F64)
    trained.load_state_dict(model.state_dict())
    optimiser = torch.optim.SGD(trained.parameters(), lr=0.1)
    size = minibatch or 4
    starts = list(range(0, 4, size)) * 5
    for start in starts[:5]:
        optimiser.zero_grad()
        F.cross_entropy(trained(inputs[start : start + size]), labels[start : start + size]).backward()
        optimiser.step()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    sent = client.update(model, inputs, labels, steps=5, lr=0.1, batch_size=minibatch)
    for name, parameter in trained.named_parameters():
        torch.testing.assert_close(sent[name], before[name] - parameter.detach())
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_an_update_leaves_buffers_alone_and_takes_any_loss():
    model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 1))
    inputs, targets = torch.randn(6, 3, generator=seeded()), torch.randn(6, 1, generator=seeded())
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    sent = client.update(model, inputs, targets, F.mse_loss, steps=3, lr=0.1)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    one = client.update(model, inputs, targets, F.mse_loss, steps=1, lr=0.1)
    model.eval(), model.train()
    gradients = client.gradients(model, inputs, targets, F.mse_loss)
    torch.testing.assert_close(one["3.weight"], 0.1 * gradients["3.weight"], rtol=1e-4, atol=1e-7)
    assert not torch.equal(sent["3.weight"], one["3.weight"])


def test_a_seed_is_no_generator():
    model, inputs, labels = private(b=2, width=20)
    for call in (
        lambda: client.update(model, inputs, labels, steps=2, lr=0.1, batch_size=1, generator=3),
        lambda: client.noised(dict(model.named_parameters()), 0.1, generator=3),
        lambda: data.load("photos", 2, generator=3),
        lambda: fully_connected(3, 4, generator=3),
    ):
        with pytest.raises(InputError, match=r"generator must be a torch.Generator or None, got int"):
            call()


def test_shuffled_epochs_hold_every_sample_once():
    batches = client.minibatches(5, 2, seeded())
    for _ in range(3):
        epoch = [next(batches) for _ in range(3)]
        assert [len(rows) for rows in epoch] == [2, 2, 1]
        assert torch.cat(epoch).sort().values.tolist() == [0, 1, 2, 3, 4]


def test_the_simulated_client_is_the_client():
    model, inputs, labels = private()
    sent = client.update(model, inputs, labels, steps=4, lr=0.1, batch_size=2)
    problem = read_problem(model, sent)
    target = target_of(problem, split(sent["0.weight"]))
    training = LocalTraining(4, 0.1, 2)
    simulated = Client.of(target, training)
    coefficients = torch.linalg.lstsq(target.low_rank.rows.T, inputs.T).solution.T * simulated.scale
    history = simulated.train(coefficients, labels, training.schedule(torch.arange(4)))
    assert max(simulated.residuals(history)) < 1e-11
    other = simulated.train(coefficients, labels, training.schedule(torch.tensor([0, 2, 1, 3])))
    assert max(simulated.residuals(other)) > 1e-4


@pytest.mark.parametrize(
    ("lr", "steps", "minibatch"), [(0.01, 5, None), (0.1, 5, None), (0.1, 1, None), (0.05, 6, 2)]
)
def test_an_update_is_inverted_exactly(lr, steps, minibatch):
    model, inputs, labels = private(seed=3)
    sent = client.update(model, inputs, labels, steps=steps, lr=lr, batch_size=minibatch)
    found = spear_core.invert(model, sent, local_steps=steps, lr=lr, local_batch_size=minibatch)
    score = metrics.compare(found.inputs, inputs)
    assert score.exact.all()
    assert found.certified
    assert found.labels is not None
    assert torch.equal(found.labels[score.order], labels)


@pytest.mark.parametrize("minibatch", [None, 2])
def test_after_minus_before_comes_back_with_its_labels_and_a_word(minibatch):
    model, inputs, labels = private(seed=3)
    options = {"local_steps": np.int64(5), "lr": np.float64(0.05), "local_batch_size": minibatch}
    sent = client.update(model, inputs, labels, steps=5, lr=0.05, batch_size=minibatch)
    found = spear_core.invert(model, {name: -change for name, change in sent.items()}, **options)
    score = metrics.compare(found.inputs, inputs)
    assert found.certified and score.exact.all() and torch.equal(found.labels[score.order], labels)
    assert found.notes == (search.TURNED,)
    assert spear_core.invert(model, sent, **options).notes == ()


def test_after_the_deadline_no_further_look_is_taken(monkeypatch):
    """Of the searches for minibatches and for outliers, which take minutes where nothing explains the update."""
    model, inputs, labels = private(b=6)
    sent = client.update(model, inputs, labels, steps=9, lr=0.05, batch_size=2, generator=seeded())
    target = target_of(read_problem(model, sent), split(sent["0.weight"], 6, even=True))
    training = LocalTraining(9, 0.05, 2)
    simulated, trained = Client.of(target, training), []
    monkeypatch.setattr(Client, "train", lambda *_: trained.append(1))
    late = Budget(deadline=0.0)
    schedule = find_schedule(simulated, training, inputs, labels, torch.zeros(6, 150), late)
    assert schedule.shape == (9, 6) and not trained
    A, y = torch.randn(30, 3, generator=seeded()), torch.randn(30, 1, generator=seeded(1))
    torch.testing.assert_close(robust_solution(A, y, lambda: True), torch.linalg.lstsq(A, y).solution)


def test_equations_that_all_hold_exactly_weigh_alike():
    """As those of units that no sample ever activates, 0 · x = 0, which a batch of raw pixels has many of."""
    A = torch.zeros(2, 5, 2, dtype=torch.float64)
    A[1] = torch.eye(5, 2)
    y = A @ torch.tensor([[2.0], [3.0]], dtype=torch.float64)
    found = robust_solution(A, y)
    assert found.isfinite().all() and torch.equal(A @ found, y)


def test_a_time_limit_is_named():
    model, inputs, labels = private(seed=3)
    sent = client.update(model, inputs, labels, steps=5, lr=0.1)
    found = spear_core.invert(model, sent, local_steps=5, lr=0.1, time_limit=0)
    assert any("stopped at the time limit" in note for note in found.notes) and not found.certified


def test_float32_updates_come_back_beyond_what_a_pixel_can_show():
    model, inputs, labels = private(seed=3, dtype=torch.float32)
    sent = client.update(model, inputs, labels, steps=5, lr=0.1)
    found = spear_core.invert(model, sent, local_steps=5, lr=0.1)
    assert metrics.compare(found.inputs, inputs).exact.all()


@pytest.mark.parametrize("wrong", [{"local_steps": 4}, {"lr": 0.099}, {"local_batch_size": 2}])
def test_another_client_than_the_one_that_sent_it_is_never_certified(wrong):
    model, inputs, labels = private(seed=3)
    sent = client.update(model, inputs, labels, steps=5, lr=0.1)
    found = spear_core.invert(model, sent, **({"local_steps": 5, "lr": 0.1} | wrong))
    assert not found.certified_rows.any()


@pytest.mark.parametrize(
    ("seed", "steps", "minibatch", "lr"), [(3, 6, 2, 0.05), (5, 5, 3, 0.1), (1, 3, 2, 0.01)]
)
def test_a_client_that_shuffles_is_inverted_and_replayed(seed, steps, minibatch, lr):
    """Epochs of different order, some cut short or with a smaller last minibatch."""
    model, inputs, labels = private(seed=seed)
    training = {"steps": steps, "lr": lr, "batch_size": minibatch}
    sent = client.update(model, inputs, labels, **training, generator=seeded(seed))
    found = spear_core.invert(model, sent, local_steps=steps, lr=lr, local_batch_size=minibatch)
    score = metrics.compare(found.inputs, inputs)
    assert score.exact.all()
    assert found.certified
    assert torch.equal(found.labels[score.order], labels)


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_a_shuffling_client_is_read_off_its_update(seed):
    model, inputs, labels = private(b=6, seed=seed)
    training = LocalTraining(5, 0.05, 2)
    sent = client.update(model, inputs, labels, steps=5, lr=0.05, batch_size=2, generator=seeded(seed))
    problem = read_problem(model, sent)
    target = target_of(problem, split(sent["0.weight"], even=True))
    simulated = Client.of(target, training)
    coefficients = torch.linalg.lstsq(target.low_rank.rows.T, inputs.T).solution.T
    output_grads = torch.linalg.inv(coefficients).T @ target.low_rank.factor.T
    schedule = find_schedule(
        simulated, training, coefficients * simulated.scale, labels, output_grads, Budget()
    )
    true = torch.zeros(5, 6, dtype=F64)
    for row, chosen in zip(true, client.minibatches(6, 2, seeded(seed))):
        row[chosen] = 1 / len(chosen)
    assert torch.equal(schedule, true)


def test_several_clients_train_at_once_as_one_by_one():
    model, inputs, labels = private(width=30)
    sent = client.update(model, inputs, labels, steps=4, lr=0.1)
    problem = read_problem(model, sent)
    target = target_of(problem, split(sent["0.weight"], even=True))
    simulated = Client.of(target, LocalTraining(4, 0.1))
    coefficients = torch.randn(4, 4, generator=seeded(), dtype=F64)
    schedules = torch.rand(3, 4, 4, generator=seeded(1), dtype=F64)
    schedules[1:, :2] = schedules[0, :2]
    past = simulated.train(coefficients, labels, schedules[0, :2])
    together = simulated.train(coefficients, labels, schedules[:, 2:], past)
    for k, schedule in enumerate(schedules):
        for (D, Y), (Ds, Ys) in zip(simulated.train(coefficients, labels, schedule), together, strict=True):
            torch.testing.assert_close(Ds[k], D)
            torch.testing.assert_close(Ys[k], Y)


def test_a_unit_at_its_kink_is_tried_on_both_sides():
    """The client had it just active, the server's samples have it just inactive, and rounding is all between them."""
    model, inputs, labels = private(width=60)
    with torch.no_grad():
        model[0].bias[7] -= model[0](inputs)[2, 7] - 1e-10
    sent = client.update(model, inputs, labels, steps=3, lr=0.05)
    problem = read_problem(model, sent)
    target = target_of(problem, split(sent["0.weight"], 4, even=True))
    simulated = Client.of(target, LocalTraining(3, 0.05))
    coefficients = torch.linalg.lstsq(target.low_rank.rows.T, inputs.T).solution.T * simulated.scale
    moved = coefficients.clone()
    weight = simulated.weights[0][7]
    moved[2] -= 2e-10 * weight / weight.square().sum()
    schedule = LocalTraining(3, 0.05).schedule(torch.arange(4))
    options = {"limit": 1e-8, "reach": 1e-8}
    assert max(simulated.residuals(simulated.train(coefficients, labels, schedule))) < 1e-12
    assert max(simulated.residuals(simulated.train(moved, labels, schedule))) > 1e-4
    assert max(replayed_residuals(simulated, moved, labels, schedule, **options)) < 1e-8
    wrong = torch.cat([labels[1:], labels[:1]])
    assert max(replayed_residuals(simulated, moved, wrong, schedule, **options)) > 1e-4


@pytest.mark.parametrize("lr", [0.01, 0.1])
def test_one_step_in_float32_is_a_gradient_with_the_rounding_of_weights(lr):
    """Zeros of it are told by a rounding that is alike in all rows; samples stand where it moves them."""
    for seed in (2, 7):
        model, inputs, labels = private(b=8, seed=seed, dtype=torch.float32)
        sent = client.update(model, inputs, labels, steps=1, lr=lr)
        found = spear_core.invert(model, sent, local_steps=1, lr=lr)
        assert metrics.compare(found.inputs, inputs).exact.all()


@pytest.mark.parametrize("seed", range(3))
def test_the_expected_error_is_what_rounding_does(seed):
    """Over many draws of the rounding, root mean square and all; ROOM times as much is reported."""
    model, inputs, labels = private(b=5, width=80, seed=seed)
    exact = client.gradients(model, inputs, labels)
    deviation = 1e-9 * float(exact["0.weight"].abs().max())
    squares, expected = [], []
    for draw in range(12):
        generator = seeded(100 * seed + draw)
        sent = {
            name: grad + deviation * torch.randn(grad.shape, generator=generator, dtype=F64)
            for name, grad in exact.items()
        }
        problem = read_problem(model, sent)
        low_rank = split(sent["0.weight"], 5, even=True, generator=seeded())
        coefficients = torch.linalg.lstsq(low_rank.rows.T, inputs.T).solution.T
        Q = fit(low_rank, torch.nn.functional.normalize(torch.linalg.inv(coefficients), dim=0))
        found = reconstruct(target_of(problem, low_rank).forward, Q)
        squares.append((found.inputs - inputs).square().mean(dim=1) / inputs.abs().max().square())
        expected.append(update_error(low_rank, found, zeros_of(low_rank, Q)) / ROOM)
    ratio = torch.stack(squares).mean(dim=0).sqrt() / torch.stack(expected).mean(dim=0)
    assert bool(((ratio > 0.6) & (ratio < 1.6)).all()), ratio


@pytest.mark.parametrize("size", [1e-4, 1e-6, 1e-8, 1e-10])
def test_entries_that_are_small_but_not_zero_do_not_spoil_a_fit(size):
    """In float64 a dozen orders lie between the two: the looks must be close enough to let go of any."""
    q = torch.nn.functional.normalize(torch.randn(6, 1, generator=seeded(), dtype=F64), dim=0)
    rows = torch.randn(200, 6, generator=seeded(1), dtype=F64)
    rows[:110] -= (rows[:110] @ q) @ q.T
    rows[100:110] += size * q.T
    U, S, V = torch.linalg.svd(rows, full_matrices=False)
    low_rank = LowRank(U, torch.eye(6, 12, dtype=F64), torch.ones(6, dtype=F64), 0.0, True, even=True)
    true = torch.nn.functional.normalize(S[:, None] * (V @ q), dim=0)
    near = torch.nn.functional.normalize(
        true + 1e-3 * torch.randn(6, 1, generator=seeded(2), dtype=F64), dim=0
    )
    found = fit(low_rank, near)
    assert float((found - true * (found * true).sum().sign()).norm()) < 1e-13


def test_strays_do_not_pull_a_sparse_direction():
    q = torch.nn.functional.normalize(torch.randn(6, 1, generator=seeded(), dtype=F64), dim=0)
    rows = torch.randn(60, 6, generator=seeded(1), dtype=F64)
    zero = torch.arange(60) < 45
    rows[zero] -= (rows[zero] @ q) @ q.T
    found = sparse(
        rows,
        torch.nn.functional.normalize(q + 0.3 * torch.randn(6, 1, generator=seeded(2), dtype=F64), dim=0),
    )
    assert float((found * q).sum().abs()) > 1 - 1e-12


def test_an_interrupted_search_hands_back_its_best_attempt(monkeypatch):
    """Its replay fails, so that the search goes on, and is interrupted with fewer directions than it had."""
    model, inputs, labels = private(seed=3)
    sent = client.update(model, inputs, labels, steps=5, lr=0.1)
    rounds = search.rounds

    def interrupted(target, budget):
        for directions, unique, starts in rounds(target, budget):
            yield directions, unique, starts
            if directions.shape[1] == len(inputs):
                yield directions[:, :2], unique[:2], starts
                raise KeyboardInterrupt

    monkeypatch.setattr(search, "rounds", interrupted)
    found = spear_core.invert(model, sent, local_steps=5, lr=0.099)
    assert "interrupted" in found.notes and not found.certified_rows.any()
    assert metrics.compare(found.inputs, inputs).exact.all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"local_steps": 0, "lr": 0.1}, "local_steps must be a whole number"),
        ({"local_steps": 2}, "lr must be a positive number"),
        ({"local_steps": 2, "lr": -1.0}, "lr must be a positive number"),
        ({"lr": 0.1}, "local_steps must be given"),
        ({"local_steps": 2, "lr": 0.1, "local_batch_size": 0}, "local_batch_size must be a whole number"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    model, inputs, labels = private(b=2, width=20)
    with pytest.raises(InputError, match=message):
        spear_core.invert(model, client.gradients(model, inputs, labels), **options)


def test_an_update_without_zeros_is_refused():
    model = nn.Sequential(nn.Linear(8, 20), nn.Tanh(), nn.Linear(20, 3))
    inputs, labels = torch.randn(3, 8, generator=seeded()), torch.tensor([0, 1, 2])
    sent = client.update(model, inputs, labels, steps=2, lr=0.1)
    with pytest.raises(
        InputError, match=r"local_steps must be 1 or None on layer '0': .*zeros of ReLU, and tanh"
    ) as e:
        spear_core.invert(model, sent, local_steps=2, lr=0.1)
    assert "halfspace" not in str(e.value)


def test_clipping_is_per_example_and_noise_is_of_the_stated_size():
    model, inputs, labels = private(b=3, width=30)
    singles = [client.gradients(model, inputs[i : i + 1], labels[i : i + 1]) for i in range(3)]
    norms = [torch.cat([grad.flatten() for grad in single.values()]).norm() for single in singles]
    bound = float(sorted(norms)[1])
    sent = client.clipped(model, inputs, labels, norm=bound)
    for name in sent:
        wanted = sum(min(1.0, bound / float(norm)) * single[name] for norm, single in zip(norms, singles)) / 3
        torch.testing.assert_close(sent[name], wanted)
    noisy = client.clipped(model, inputs, labels, norm=bound, noise_multiplier=2.0, generator=seeded())
    noise = (noisy["0.weight"] - sent["0.weight"]) * 3 / bound
    assert abs(float(noise.std()) - 2.0) < 0.05
    relative = client.noised(sent, 0.1, generator=seeded())["0.weight"] - sent["0.weight"]
    assert abs(float(relative.std() / sent["0.weight"].square().mean().sqrt()) - 0.1) < 0.005
