"""Clients whose BatchNorm was in training mode: exact from the statistics they send, and never more than that."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from spear_core import invert
from spear_core.attack.batch_norm import Statistics, frozen
from spear_core.certificate.record import Claim
from spear_core.client import data
from spear_core.errors import InputError, InputTypeError, MissingGradient, NotLowRank
from spear_core.model.reading import read
from spear_core.study.metrics import compare
from tests.core.zoo import seeded
from tests.thorough import thorough


class Client:
    """A network in training mode, before and after a step on a batch, and the gradients of that step."""

    def __init__(self, *layers, b=8, kind="digits", size=None, seed=0, dtype=torch.float32, warm=0):
        torch.manual_seed(seed)
        batch = data.load(kind, b, generator=seeded(seed), **({"size": size} if size else {}))
        self.inputs, self.labels = batch.inputs.to(dtype), batch.labels % 10
        self.model = nn.Sequential(*layers).to(dtype).train()
        for module in self.model:
            if isinstance(module, nn.BatchNorm1d) and module.affine:
                module.weight.data.uniform_(0.5, 1.5)
                module.bias.data.normal_(0, 0.3)
        for _ in range(warm):  # earlier batches, which the running statistics remember
            self.model(torch.rand(16, self.inputs.shape[1], dtype=dtype))
        after = copy.deepcopy(self.model)
        loss = F.cross_entropy(after(self.inputs), self.labels)
        self.gradients = dict(
            zip((n for n, _ in after.named_parameters()), torch.autograd.grad(loss, list(after.parameters())))
        )
        self.buffers = after.state_dict()

    def invert(self, **options):
        return invert(self.model, self.gradients, buffers=self.buffers, generator=seeded(1), **options)


def mlp(n, m, *, norms=1, sigma=nn.ReLU, bias=True, **options):
    torch.manual_seed(m)
    second = [nn.BatchNorm1d(m, **options)] if norms > 1 else []
    first = [nn.Linear(n, m, bias=bias), nn.BatchNorm1d(m, **options), sigma()]
    return [*first, nn.Linear(m, m), *second, sigma(), nn.Linear(m, 10)]


def exact(client, inversion, least=90.0):
    found = compare(inversion.inputs, client.inputs)
    return bool(found.exact.all()) and float(found.psnr.min()) > least


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("seed", [0, *thorough(1, 2, 3, 4)])
def test_one_batch_norm_hides_nothing(seed, bias, dtype):
    client = Client(*mlp(64, 100, bias=bias), seed=seed, dtype=dtype)
    inversion = client.invert()
    assert inversion.certified and exact(client, inversion, 120 if dtype == torch.float32 else 250)
    assert sorted(inversion.labels.tolist()) == sorted(client.labels.tolist())


@pytest.mark.parametrize(
    ("b", "size", "m"), [(8, 8, 200), *thorough((24, 8, 400), (16, 8, 200), (3, 8, 200))]
)
def test_photographs_of_several_batch_sizes(b, size, m):
    client = Client(*mlp(3 * size**2, m), b=b, kind="photos", size=size, seed=1)
    inversion = client.invert()
    assert inversion.certified and exact(client, inversion, 110)


@pytest.mark.parametrize("sigma", [nn.GELU, *thorough(nn.Tanh, nn.SiLU, nn.LeakyReLU)])
def test_no_relu_is_needed(sigma):
    client = Client(*mlp(64, 100, sigma=sigma))
    inversion = client.invert()
    assert inversion.certified and exact(client, inversion)


@pytest.mark.parametrize("seed", [0, *thorough(1, 2)])
def test_errors_that_passed_a_second_batch_norm(seed):
    """Nothing tells samples from means of several then but b; what comes back is exact all the same."""
    client = Client(*mlp(64, 100, norms=2), seed=seed)
    inversion = client.invert()
    assert exact(client, inversion) and set(inversion.claims) == {Claim.MEAN}
    told = client.invert(batch_size=8)
    assert told.certified and exact(client, told)


def test_statistics_of_many_batches_before():
    client = Client(*mlp(64, 100), warm=30)
    assert client.invert().certified
    cumulative = Client(*mlp(64, 100, momentum=None), warm=5)
    assert cumulative.invert().certified and exact(cumulative, cumulative.invert())


def test_what_the_layer_does_not_see_of_the_mean_stays_hidden_and_is_named():
    client = Client(*mlp(192, 100), kind="photos", size=8)
    inversion = client.invert()
    assert not inversion.certified_rows.any() and set(inversion.claims) == {Claim.SHIFTED}
    assert "does not see 92 of 192 directions" in inversion.notes[-1]
    found, truth = (rows.double() - rows.double().mean(dim=0) for rows in (inversion.inputs, client.inputs))
    assert float(torch.cdist(found, truth).min(dim=1).values.max()) < 1e-4
    W = client.model[0].weight.detach().double()
    seen = torch.cdist(inversion.inputs.double() @ W.T, client.inputs.double() @ W.T).min(dim=1).values
    assert float(seen.max()) < 1e-3
    assert "8 exact but for a vector that they share" in repr(inversion)


@pytest.mark.parametrize("told", [None, 8])
def test_rounding_along_the_mean_is_no_sample_where_the_layer_sees_a_part_of_it_only(told):
    """Errors that cancel leave their rounding times the mean in a float32 gradient, as one more direction."""
    torch.manual_seed(1)
    layers = nn.Linear(1024, 200), nn.BatchNorm1d(200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU()
    model, x, y = nn.Sequential(*layers, nn.Linear(200, 10)).train(), torch.rand(8, 1024), torch.arange(8)
    after = copy.deepcopy(model)
    sent = torch.autograd.grad(F.cross_entropy(after(x), y), list(after.parameters()))
    found = invert(model, sent, buffers=after.state_dict(), batch_size=told, time_limit=20)
    assert found.batch_size == 8 and found.claims == (Claim.SHIFTED,) * 8
    rows, truth = (each.double() - each.double().mean(dim=0) for each in (found.inputs, x))
    assert compare(rows, truth).psnr.min() > 90


def test_too_few_units_prove_nothing():
    client = Client(*mlp(64, 70), b=13)  # 78 numbers of 70 units
    inversion = client.invert(time_limit=20)
    assert (
        not inversion.certified_rows.any()
        and "70 units do not determine the 78 numbers" in inversion.notes[-1]
    )


def test_buffers_of_another_batch_certify_nothing():
    client, other = Client(*mlp(64, 100)), Client(*mlp(64, 100), seed=5)
    inversion = invert(client.model, client.gradients, buffers=other.buffers, time_limit=5)
    assert not inversion.certified_rows.any()


def test_the_reduction_is_the_gradient_with_statistics_held_fixed():
    client = Client(*mlp(64, 100), dtype=torch.float64)
    found = frozen(read(client.model, client.gradients), client.buffers)
    still = copy.deepcopy(client.model)
    norm = still[1].eval()
    z = still[0](client.inputs).detach()
    norm.running_mean, norm.running_var = z.mean(dim=0), z.var(dim=0, unbiased=False)
    wanted = torch.autograd.grad(
        F.cross_entropy(still(client.inputs), client.labels), list(still.parameters())
    )
    for name, grad in zip(client.gradients, wanted):
        assert torch.allclose(found.reading.gradients[name], grad, rtol=1e-9, atol=1e-12), name
    assert found.hidden == 0 and found.determined and not found.mixed


def test_the_model_is_left_as_it_is():
    client = Client(*mlp(64, 100))
    before, modes = copy.deepcopy(client.model.state_dict()), [m.training for m in client.model.modules()]
    client.invert()
    assert modes == [m.training for m in client.model.modules()]
    assert all(torch.equal(value, before[name]) for name, value in client.model.state_dict().items())


def test_a_time_limit_hands_back_the_best_so_far():
    client = Client(*mlp(64, 100))
    assert not client.invert(time_limit=0).certified


def test_an_interruption_begins_no_second_search():
    steps = []

    def press(state):
        steps.append(state.step)
        raise KeyboardInterrupt

    found = Client(*mlp(64, 100)).invert(progress=press)
    assert len(steps) == 1 and "interrupted" in found.notes and not found.certified


REFUSED = {
    "no mapping": (lambda c: [1], {}, InputTypeError, "buffers must be a mapping"),
    "unknown name": (
        lambda c: {"9.running_mean": torch.zeros(3)},
        {},
        InputError,
        "names of buffers must be",
    ),
    "nothing of use": (lambda c: {}, {}, InputError, "must hold running_mean and running_var"),
    "wrong shape": (lambda c: {"1.running_mean": torch.zeros(3)}, {}, InputError, "running_mean"),
    "from before": (lambda c: c.model.state_dict(), {}, InputError, "after the client's step"),
    "several steps": (
        lambda c: c.buffers,
        {"local_steps": 3, "lr": 0.1},
        InputError,
        "local_steps must be None",
    ),
    "pictures": (lambda c: c.buffers, {"input_shape": (64,)}, InputError, "input_shape must be None"),
    "b = 1": (lambda c: c.buffers, {"batch_size": 1}, InputError, "batch_size must be 2 at least"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name):
    made, options, kind, message = REFUSED[name]
    client = Client(*mlp(64, 100))
    with pytest.raises(kind, match=message):
        invert(client.model, client.gradients, buffers=made(client), **options)


def test_a_batch_norm_that_cannot_be_undone_is_named():
    plain = Client(*mlp(64, 100, affine=False))
    with pytest.raises(InputError, match=r"'1' must have a weight and a bias, got affine=False"):
        plain.invert()
    client = Client(*mlp(64, 100))
    del client.gradients["1.weight"]
    with pytest.raises(MissingGradient, match=r"must include '1.weight', which undoes BatchNorm '1'"):
        client.invert()
    full = Client(*mlp(64, 40), b=80)
    with pytest.raises(NotLowRank, match="rank below 40, which is b − 1"):
        full.invert()


def test_without_buffers_the_refusal_names_them():
    client = Client(*mlp(64, 100))
    with pytest.raises(InputError, match="buffers="):
        invert(client.model, client.gradients)


def test_statistics_are_read_off_both_ways():
    norm = nn.BatchNorm1d(3, dtype=torch.float64).train()
    before = copy.deepcopy(norm)
    z = torch.randn(7, 3, generator=seeded(0), dtype=torch.float64)
    norm(z)
    told = Statistics.of(before, "n", {f"n.{name}": value for name, value in norm.named_buffers()})
    assert torch.allclose(told.mean, z.mean(dim=0)) and torch.allclose(told.var, z.var(dim=0))
