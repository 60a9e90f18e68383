"""What people hand in who never read a line of this package: exact, or a refusal that says what to do."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from spear_core import client, diagnose, invert, invert_layer
from spear_core.certificate.record import Claim
from spear_core.errors import InputError, MissingGradient, UnknownLayer
from tests.core.zoo import CLASSES, HIDDEN, WIDTH, N, batch, mlp, seeded

X, Y = batch(b=3)
MODEL = mlp()
SENT = client.gradients(MODEL, X, Y)
LAYER = SENT["0.weight"], SENT["0.bias"], MODEL[0].weight, MODEL[0].bias


def exact(found, truth=X) -> bool:
    return found.certified and bool(torch.cdist(found.inputs, truth).min(dim=1).values.max() < 1e-8)


def sent_by(model, *args, **kwargs):
    named = dict(model.named_parameters())
    loss = F.cross_entropy(model(*args, **kwargs), Y)
    return dict(zip(named, torch.autograd.grad(loss, list(named.values()))))


class Three(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = (
            nn.Linear(N, WIDTH),
            nn.Linear(WIDTH, HIDDEN),
            nn.Linear(HIDDEN, CLASSES),
        )

    def run(self, x):
        return self.last(F.relu(self.second(F.relu(self.first(x)))))


class Named(Three):
    def forward(self, *, x, flip):
        assert len(x) and float(flip.sum()) > 0  # no trace gets past this
        return self.run(x.flip(1))


class InADict(Three):
    def forward(self, batch):
        return self.run(batch["x"].flatten(1))


EXAMPLES = {
    "dict by name": (Named, {"x": torch.rand(2, N), "flip": torch.ones(1)}, X.flip(1)),
    "tuple of a dict": (InADict, ({"x": torch.rand(2, N)},), X),
    "one sample": (InADict, [{"x": torch.rand(1, N)}], X),
}


@pytest.mark.parametrize("kind", EXAMPLES)
def test_an_example_input_where_nothing_can_be_traced(kind):
    cls, example, truth = EXAMPLES[kind]
    torch.manual_seed(1)
    model = cls().double()
    given = {"x": X, "flip": torch.ones(1).double()}
    sent = sent_by(model, **given) if cls is Named else sent_by(model, given)
    example = torch.utils._pytree.tree_map(lambda value: value.double(), example)
    assert exact(invert(model, sent, example_input=example), truth)
    assert diagnose(model, sent, example_input=example).attacked == "first"
    if cls is Named:
        with pytest.raises(
            InputError, match=r"or on an example_input, got Named, .*'len' is not.*invert_layer"
        ):
            invert(model, sent)
    with pytest.raises(InputError, match=r"must run on example_input, a tensor, tuple or dict .*got"):
        invert(model, sent, example_input="photo")


def test_a_layer_that_cannot_be_attacked_points_at_one_that_can():
    class WideAndDeep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.deep = nn.Linear(N, CLASSES), mlp()

        def forward(self, x):
            return self.wide(x) + self.deep(x)

    model = WideAndDeep().double()
    sent = client.gradients(model, X, Y)
    way = r"try layer='deep.0' \(ReLU follows; sampling or halfspace or consistency\)"
    with pytest.raises(InputError, match=rf"'wide', .*\(add follows\); {way}"):
        invert(model, sent)
    assert way.replace("\\", "") in diagnose(model, sent).verdict
    assert exact(invert(model, sent, layer="deep.0", batch_size=3))
    # what a branch adds to the output is not known, so neither are the errors
    assert invert(model, sent, layer="deep.0").claims == (Claim.MEAN,) * 3


class Weighted(nn.Module):
    """A layer whose weight is what `use` makes of a parameter."""

    def __init__(self, n, m, use) -> None:
        super().__init__()
        self.weight, self.bias, self.use = (
            nn.Parameter(torch.randn(m, n)),
            nn.Parameter(torch.randn(m) / 20),
            use,
        )

    def forward(self, x):
        return F.linear(x, self.use(self.weight), self.bias * 2)


def test_a_multiple_of_a_parameter_is_a_weight_and_anything_else_is_named():
    def model(use):
        torch.manual_seed(0)
        return nn.Sequential(Weighted(N, WIDTH, use), nn.ReLU(), nn.Linear(WIDTH, CLASSES)).double()

    scaled = model(lambda w: w * 0.1)
    assert exact(invert(scaled, client.gradients(scaled, X, Y)))
    for use, what in ((lambda w: w / w.norm(), "truediv"), (lambda w: w * (w.abs() > 0.1), "mul")):
        other = model(use)
        with pytest.raises(
            UnknownLayer, match=f"'0' must have a weight of its own, got '{what}' of '0.weight'"
        ):
            invert(other, client.gradients(other, X, Y))


def test_a_weight_with_two_users_is_named():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.bias = nn.Linear(N, WIDTH), nn.Parameter(torch.zeros(N))

        def forward(self, x):
            return F.linear(F.relu(self.encoder(x)), self.encoder.weight.t(), self.bias)

    model = Tied().double()
    sent = client.gradients(model, X, X, F.mse_loss)
    match = "'encoder' must have 'encoder.weight' for itself, got 'encoder.weight.t' that takes it as well"
    with pytest.raises(UnknownLayer, match=match):
        invert(model, sent)
    assert match in diagnose(model, sent).verdict


def test_a_gradient_that_nobody_needs_may_be_spoilt():
    for spoilt, why in ((SENT["4.weight"] * 1j, "complex128"), (SENT["4.weight"] * torch.nan, "NaN")):
        found = invert(MODEL, SENT | {"4.weight": spoilt}, batch_size=3)
        assert exact(found) and any("left out: gradient of '4.weight'" in n and why in n for n in found.notes)
    with pytest.raises(InputError, match=r"'0.weight' must be finite.*; try layer='2' \(ReLU follows"):
        invert(MODEL, SENT | {"0.weight": SENT["0.weight"] * torch.nan})


def test_a_head_that_lets_nothing_through():
    model = mlp()
    nn.init.zeros_(model[4].weight)
    with pytest.raises(
        MissingGradient, match="got none or only zeros for '0', '2': does a layer that is all zero"
    ):
        invert(model, client.gradients(model, X, Y))


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_modes_and_kinds_of_models():
    with torch.inference_mode():
        assert exact(invert(MODEL, {name: grad.clone() for name, grad in SENT.items()}))
        assert diagnose(MODEL, SENT).attacked == "0"
        inside = invert_layer(*LAYER)
    assert torch.equal(inside.inputs, invert_layer(*LAYER).inputs)
    with pytest.raises(UnknownLayer, match=r"whose trace shows none: torch.jit hides"):
        invert(torch.jit.script(MODEL), SENT)
    with pytest.raises(
        InputError, match=r"must have a shape, got '0.weight' without: run the lazy model once"
    ):
        invert(nn.Sequential(nn.LazyLinear(WIDTH), nn.ReLU(), nn.Linear(WIDTH, 2)), SENT)
    with pytest.raises(InputError, match=r"weight of '0' must hold data.* meta"):
        invert(mlp().to("meta"), SENT)
    half = mlp().to(torch.bfloat16)
    assert not invert(
        half, client.gradients(half, X.bfloat16(), Y), generator=seeded(), time_limit=5
    ).certified


def test_one_sample_as_an_example_hides_nothing():
    class Centred(Three):
        def forward(self, x):
            assert len(x)
            y = F.relu(self.first(x))
            return self.last(F.relu(self.second(y - y.mean(0))))

    torch.manual_seed(1)
    model = Centred().double()
    found = diagnose(model, client.gradients(model, X, Y), example_input=torch.rand(1, N).double())
    assert found["first"].methods == ("sampling", "halfspace") and found["second"].follows == "ReLU"
