"""Why an attack failed is said, and nothing is said that was not tested on the data."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from spear_core import client
from spear_core.attack.invert import invert, invert_layer
from spear_core.client import data
from spear_core.client.networks import fully_connected
from spear_core.errors import InputError, NotLowRank
from spear_core.study.metrics import compare
from tests.core.zoo import batch as rows
from tests.core.zoo import mlp, seeded
from tests.thorough import thorough

BATCH = data.load("photos", 6, size=12, generator=seeded(), dtype=torch.float32)
X, Y = BATCH.inputs, BATCH.labels
MODEL = fully_connected(X.shape[1], [120, 80], 3, generator=seeded(1))
SENT = client.gradients(MODEL, X, Y)


def each(change):
    return {name: change(grad, MODEL.get_parameter(name).detach()) for name, grad in SENT.items()}


def trained(kind, steps, **options):
    model = copy.deepcopy(MODEL)
    optimiser = kind(model.parameters(), **options)
    for _ in range(steps):
        optimiser.zero_grad()
        F.cross_entropy(model(X), Y).backward()
        optimiser.step()
    return each(lambda grad, weight: weight) | {
        name: before.detach() - after.detach()
        for (name, before), after in zip(MODEL.named_parameters(), model.parameters())
    }


def largest(grad, share):
    return grad.abs().flatten().quantile(1 - share)


REFUSED = {
    "AdamW": (lambda: trained(torch.optim.AdamW, 1, lr=1e-3, weight_decay=0.01), "Adam"),
    "five steps of Adam": (lambda: trained(torch.optim.Adam, 5, lr=1e-3), "several steps of .*Adam"),
    "half of the entries": (
        lambda: each(lambda g, w: g * (g.abs() >= largest(g, 0.5))),
        "scattered: a top-k",
    ),
    "L1": (lambda: each(lambda g, w: g + 1e-4 * w.sign()), "signs: an L1 penalty in the loss"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_gradient_is_refused_by_its_name(kind):
    make, cause = REFUSED[kind]
    with pytest.raises(NotLowRank, match=f"not low-rank, .*{cause}") as refusal:
        invert(MODEL, make())
    assert "BatchNorm" not in str(refusal.value) and "saturated" not in str(refusal.value)


def test_an_l1_penalty_is_taken_out_as_the_message_says():
    with pytest.raises(NotLowRank, match=r"pass gradient − \S+ × weights.sign\(\)"):
        invert(MODEL, each(lambda g, w: g + 1e-4 * w.sign()))
    double = {
        name: (g.double() + 1e-4 * MODEL.get_parameter(name).detach().double().sign())
        for name, g in SENT.items()
    }
    clean = {
        name: g - 1e-4 * MODEL.get_parameter(name).detach().double().sign() for name, g in double.items()
    }
    found = invert(MODEL, {name: g.float() for name, g in clean.items()})
    assert compare(found.inputs, X).exact.all()


def test_gradients_that_were_clipped_tensor_by_tensor_are_refused_before_the_search():
    with pytest.raises(
        InputError, match=r"3 of 3 weight gradients of one norm, 0.01: clipped tensor by tensor"
    ):
        invert(MODEL, each(lambda g, w: g * min(1.0, 0.01 / float(g.norm()))))
    with pytest.raises(InputError, match=r"of one norm.*orthogonalised \(Muon\)"):
        invert(MODEL, each(orthogonalised))
    together = 0.01 / torch.cat([g.flatten() for g in SENT.values()]).norm()
    assert compare(invert(MODEL, each(lambda g, w: together * g)).inputs, X).exact.all()


def orthogonalised(grad, weight):
    if grad.ndim < 2:
        return grad
    U, S, V = torch.linalg.svd(grad, full_matrices=False)
    rank = int((1e-5 * S[0] < S).sum())
    return U[:, :rank] @ V[:rank]


NOTED = {
    "bfloat16": (lambda: each(lambda g, w: g.to(torch.bfloat16)), "bfloat16 numbers"),
    "float16": (lambda: each(lambda g, w: g.half().float()), "float16 numbers"),
    "8 bits": (
        lambda: each(lambda g, w: (g / g.abs().max() * 127).round() * g.abs().max()),
        "values: a quantised",
    ),
}


@pytest.mark.parametrize("kind", NOTED)
def test_a_search_that_fails_ends_with_the_cause_that_the_data_show(kind):
    make, cause = NOTED[kind]
    found = invert(MODEL, make())
    notes = [note for note in found.notes if note.startswith("suspected cause: ")]
    assert not found.certified and len(notes) == 1 and cause in notes[0]
    assert not any("near-duplicates" in note for note in found.notes)


def test_noise_is_no_near_duplicate_and_no_dropout():
    found = invert(MODEL, client.noised(SENT, 1e-3, generator=seeded()))
    assert not found.certified and not any("suspected" in note or "duplicate" in note for note in found.notes)


@pytest.mark.parametrize("train", [True, *thorough(False)])
def test_dropout_is_named_whether_the_server_has_it_on_or_off(train):
    model = nn.Sequential(nn.Linear(X.shape[1], 120), nn.ReLU(), nn.Dropout(0.3), nn.Linear(120, 10)).train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sent = client.gradients(model, X, Y)
    found = invert(model.train(train), sent)
    assert compare(found.inputs, X).exact.all() and not found.certified
    assert any(
        "of the active units have no gradient, and no inactive one has any" in note for note in found.notes
    )


def test_a_certified_batch_has_no_suspects():
    found = invert(MODEL, SENT)
    assert found.certified and found.notes == ()


def test_one_layer_alone_says_what_it_assumes():
    model = fully_connected(X.shape[1], 120, 3, activation=nn.GELU, generator=seeded(1))
    sent = client.gradients(model, X, Y)
    found = invert_layer(sent["0.weight"], sent["0.bias"], model[0].weight, model[0].bias, max_samples=500)
    assert any("takes it that ReLU follows" in note for note in found.notes)


def test_inputs_of_any_size_come_back():
    sent = client.gradients(MODEL, 1e6 * X, Y)
    found = invert(MODEL, sent)
    assert compare(found.inputs, 1e6 * X).exact.all()


def test_a_model_that_is_all_zero_is_no_batch_norm():
    model = nn.Sequential(nn.Linear(12, 2)).double()
    nn.init.zeros_(model[0].weight), nn.init.zeros_(model[0].bias)
    with pytest.raises(InputError, match="errors of all samples cancel") as refusal:
        invert(model, client.gradients(model, rows()[0], torch.tensor([0, 1, 0, 1])))
    assert "BatchNorm" not in str(refusal.value)


def test_a_large_batch_of_one_hot_rows_is_no_top_k():
    """Zeros lie about in layer 1 by nature, and in no other."""
    model = mlp()
    found = invert(model, client.gradients(model, torch.eye(12, dtype=torch.float64)[:9], rows(b=9)[1]))
    assert found.batch_size == 9
