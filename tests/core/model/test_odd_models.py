"""Models as people write them: the result is exact, or the refusal is typed and true; the model is left as it was."""

import copy
import random
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensor
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.overrides import TorchFunctionMode

from spear_core import client, diagnose, invert
from spear_core.certificate.record import Claim
from spear_core.errors import InputError
from tests.core.zoo import seeded

N, WIDTH, HIDDEN, CLASSES, B = 12, 48, 24, 5, 3
S, L, R = nn.Sequential, nn.Linear, nn.ReLU


def tail() -> nn.Sequential:
    return S(R(), L(WIDTH, HIDDEN), R(), L(HIDDEN, CLASSES))


class Own(nn.Module):
    """A model of `parts`, and a forward pass of its own."""

    def __init__(self, forward, **parts) -> None:
        super().__init__()
        self._forward = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self._forward(self, x)

    def remember(self, z):
        self.log.append(z)
        return z


class Late(Own):
    """What a traced forward cannot do: ask for the length of its input."""

    def forward(self, x):
        return self._forward(self, x.view(len(x), -1))


class Sine(nn.Module):
    def forward(self, x):
        return torch.sin(30 * x)


class Scaled(nn.Linear):
    def forward(self, x):
        return F.linear(x, self.weight * 0.1, self.bias * 2)


class Masked(nn.Linear):
    def forward(self, x):
        return F.linear(x, self.weight * (torch.arange(self.in_features) % 3 > 0), self.bias)


class LoRA(nn.Linear):
    def __init__(self, n, m) -> None:
        super().__init__(n, m)
        self.A, self.B = nn.Parameter(torch.randn(2, n)), nn.Parameter(torch.zeros(m, 2))

    def forward(self, x):
        return F.linear(x, self.weight + self.B @ self.A, self.bias)


class Clipped(nn.Linear):
    def forward(self, x):
        self.weight.data.clamp_(-0.2, 0.2)
        return super().forward(x)


def par(*shape):
    return nn.Parameter(torch.randn(shape) / 4)


def tied_autoencoder(s, x):
    return F.linear(F.relu(s.encoder(x)), s.encoder.weight.t(), s.bias)[:, :CLASSES]


def keeps(s, x):
    z = s.first(x)
    s.history.append(z)
    s.seen["last"] = z
    s.count += 1
    s.total.add_(z.mean().detach())
    return s.rest(z)


def draws(s, x):
    drawn = torch.rand(1) + random.random() + torch.rand(1, generator=s.source)
    return s.rest(s.first(x)) + 0 * (drawn.item() + np.random.rand())  # noqa: NPY002


def shared_bias(s, x):
    return s.head(F.relu(F.linear(F.relu(F.linear(x, s.a, s.beta)), s.c, s.beta)))


def loops(s, x):
    for layer in s.layers:
        x = torch.relu(layer(x))
    return s.head(x)


def gated(s, x):
    return s.head(F.relu(s.value(x)) * torch.sigmoid(s.gate(x)))


def attention(s, x):
    h = s.embed(x).view(-1, 6, 8)
    return s.head(F.relu(s.mix(h, h, h)[0].flatten(1)))


def dict_of(s, x):
    return s.rest(s.first(x) * s.p["scale"] + s.p["shift"] if "scale" in s.p else s.first(x))


def bound(s, x):
    return s.rest(s.method(s.first(x)))


def spectral(layer):
    return nn.utils.parametrizations.spectral_norm(layer)


def frozen():
    model = S(L(N, WIDTH), *tail())
    model[0].requires_grad_(False)
    return model


def checkpointed():
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    return S(checkpoint_wrapper(L(N, WIDTH)), tail())


def old_norm():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return S(nn.utils.weight_norm(L(N, WIDTH)), *tail())


def same_weight():
    first, second = L(N, WIDTH), L(N, WIDTH)
    second.weight = first.weight
    return Own(lambda s, x: s.rest(s.a(x) + s.b(x.flip(1))), a=first, b=second, rest=tail())


def hooked():
    model = S(S(L(N, WIDTH), R()), S(L(WIDTH, CLASSES)))
    model.kept = []
    model[0].register_forward_hook(lambda m, i, o: model.kept.append(o))
    return model


MODELS = {
    "own activation": lambda: S(L(N, WIDTH), Sine(), L(WIDTH, HIDDEN), R(), L(HIDDEN, CLASSES)),
    "own activation, one hidden layer": lambda: S(L(N, WIDTH), Sine(), L(WIDTH, CLASSES)),
    "own activation, recorded": lambda: Late(
        lambda s, x: s.net(x), net=S(L(N, WIDTH), Sine(), L(WIDTH, HIDDEN), R(), L(HIDDEN, CLASSES))
    ),
    "residual": lambda: Own(
        lambda s, x: s.head(s.a(x) + F.relu(s.b(F.relu(s.a(x))))),
        a=L(N, WIDTH),
        b=L(WIDTH, WIDTH),
        head=L(WIDTH, CLASSES),
    ),
    "residual input": lambda: Own(
        lambda s, x: s.head(x + s.b(F.relu(s.a(x)))), a=L(N, WIDTH), b=L(WIDTH, N), head=L(N, CLASSES)
    ),
    "weight norm": lambda: S(parametrizations.weight_norm(L(N, WIDTH)), *tail()),
    "weight norm, old": old_norm,
    "spectral norm": lambda: S(L(N, WIDTH), R(), spectral(L(WIDTH, HIDDEN)), R(), L(HIDDEN, CLASSES)),
    "spectral norm first": lambda: S(spectral(L(N, WIDTH)), *tail()),
    "orthogonal": lambda: S(parametrizations.orthogonal(L(N, WIDTH)), *tail()),
    "everything parametrised": lambda: S(
        parametrizations.weight_norm(L(N, WIDTH)), R(), parametrizations.weight_norm(L(WIDTH, CLASSES))
    ),
    "tied autoencoder": lambda: Own(tied_autoencoder, encoder=L(N, WIDTH), bias=par(N)),
    "tied behind an own layer": lambda: Own(
        lambda s, x: s.head(tied_autoencoder(s, F.relu(s.first(x)))),
        first=L(N, N),
        encoder=L(N, WIDTH),
        bias=par(N),
        head=L(CLASSES, CLASSES),
    ),
    "tied weights": same_weight,
    "shared bias": lambda: Own(
        shared_bias, a=par(WIDTH, N), c=par(WIDTH, WIDTH), beta=par(WIDTH), head=L(WIDTH, CLASSES)
    ),
    "list of layers": lambda: Own(
        loops, layers=nn.ModuleList([L(N, WIDTH), L(WIDTH, HIDDEN)]), head=L(HIDDEN, CLASSES)
    ),
    "one layer in a loop": lambda: Own(
        lambda s, x: s.head(F.relu(s.first(F.relu(s.first(x))))), first=L(N, N), head=L(N, CLASSES)
    ),
    "functional": lambda: Own(
        lambda s, x: F.linear(F.relu(F.linear(x, s.w, s.b)), s.v, s.c),
        w=par(WIDTH, N),
        b=par(WIDTH),
        v=par(CLASSES, WIDTH),
        c=par(CLASSES),
    ),
    "einsum": lambda: Own(
        lambda s, x: s.rest(torch.einsum("bn,mn->bm", x, s.w) + s.b),
        w=par(WIDTH, N),
        b=par(WIDTH),
        rest=tail(),
    ),
    "matrix product": lambda: Own(
        lambda s, x: s.rest(x @ s.w + s.b), w=par(N, WIDTH), b=par(WIDTH), rest=tail()
    ),
    "addmm only": lambda: Own(lambda s, x: torch.addmm(s.b, x, s.w), w=par(N, CLASSES), b=par(CLASSES)),
    "random features": lambda: Own(
        lambda s, x: s.rest(s.first(F.linear(x, s.features))),
        first=L(N, WIDTH),
        rest=tail(),
        features=nn.Buffer(torch.randn(N, N)),
    ),
    "weight scaled": lambda: S(Scaled(N, WIDTH), R(), Scaled(WIDTH, HIDDEN), R(), L(HIDDEN, CLASSES)),
    "weight masked": lambda: S(Masked(N, WIDTH), *tail()),
    "weight masked second": lambda: S(L(N, WIDTH), R(), Masked(WIDTH, HIDDEN), R(), L(HIDDEN, CLASSES)),
    "low-rank adapter": lambda: S(LoRA(N, WIDTH), *tail()),
    "weight clipped in forward": lambda: S(Clipped(N, WIDTH), *tail()),
    "weight clipped, recorded": lambda: Late(lambda s, x: s.net(x), net=S(Clipped(N, WIDTH), *tail())),
    "regulariser inside": lambda: Own(
        lambda s, x: s.rest(s.first(x)) + s.first.weight.square().sum(), first=L(N, WIDTH), rest=tail()
    ),
    "bilinear first": lambda: Own(
        lambda s, x: s.rest(s.first(x, x)), first=nn.Bilinear(N, N, WIDTH), rest=tail()
    ),
    "attention": lambda: Own(
        attention, embed=L(N, 48), mix=nn.MultiheadAttention(8, 2, batch_first=True), head=L(48, CLASSES)
    ),
    "LSTM first": lambda: Own(
        lambda s, x: s.rest(s.first(x.view(-1, 3, 4))[0][:, -1]),
        first=nn.LSTM(4, WIDTH, batch_first=True),
        rest=tail(),
    ),
    "convolution first": lambda: S(
        nn.Unflatten(1, (1, 3, 4)), nn.Conv2d(1, 4, 3, padding=1), R(), nn.Flatten(), L(48, WIDTH), *tail()
    ),
    "dropout in train mode": lambda: S(L(N, WIDTH), R(), nn.Dropout(0.3), L(WIDTH, CLASSES)).train(),
    "BatchNorm in train mode": lambda: S(L(N, WIDTH), nn.BatchNorm1d(WIDTH), *tail()).train(),
    "BatchNorm in eval mode": lambda: S(L(N, WIDTH), nn.BatchNorm1d(WIDTH), *tail()).eval(),
    "BatchNorm without parameters": lambda: S(
        L(N, WIDTH), nn.BatchNorm1d(WIDTH, affine=False), *tail()
    ).eval(),
    "BatchNorm without statistics": lambda: S(
        L(N, WIDTH), nn.BatchNorm1d(WIDTH, track_running_stats=False), *tail()
    ).eval(),
    "BatchNorm first": lambda: S(nn.BatchNorm1d(N), L(N, WIDTH), *tail()).eval(),
    "BatchNorm without bias": lambda: S(L(N, WIDTH, bias=False), nn.BatchNorm1d(WIDTH), *tail()).eval(),
    "GroupNorm": lambda: S(L(N, WIDTH), nn.GroupNorm(4, WIDTH), *tail()),
    "LayerNorm": lambda: S(L(N, WIDTH), nn.LayerNorm(WIDTH), *tail()),
    "GLU": lambda: S(L(N, 2 * WIDTH), nn.GLU(), L(WIDTH, HIDDEN), R(), L(HIDDEN, CLASSES)),
    "PReLU": lambda: S(L(N, WIDTH), nn.PReLU(), L(WIDTH, HIDDEN), R(), L(HIDDEN, CLASSES)),
    "RReLU": lambda: S(L(N, WIDTH), nn.RReLU(), *tail()[1:]).train(),
    "maxout": lambda: Own(
        lambda s, x: s.rest(s.first(x).view(len(x), -1, 2).amax(-1)),
        first=L(N, 2 * WIDTH),
        rest=S(*tail()[1:]),
    ),
    "softmax head": lambda: S(L(N, WIDTH), *tail(), nn.LogSoftmax(1)),
    "softmax inside": lambda: S(L(N, WIDTH), nn.Softmax(1), *tail()[1:]),
    "wide and deep": lambda: Own(
        lambda s, x: s.wide(x) + s.deep(x), wide=L(N, CLASSES), deep=S(L(N, WIDTH), *tail())
    ),
    "gate": lambda: Own(gated, value=L(N, WIDTH), gate=L(N, WIDTH), head=L(WIDTH, CLASSES)),
    "compiled": lambda: torch.compile(S(L(N, WIDTH), *tail()), backend="eager"),
    "compiled inside": lambda: Own(
        lambda s, x: s.rest(s.first(x)), first=torch.compile(L(N, WIDTH), backend="eager"), rest=tail()
    ),
    "compiled in place": lambda: _compiled_in_place(),
    "checkpointed": checkpointed,
    "DataParallel": lambda: nn.DataParallel(S(L(N, WIDTH), *tail())),
    "DataParallel inside": lambda: Own(
        lambda s, x: s.rest(s.first(x)), first=nn.DataParallel(L(N, WIDTH)), rest=tail()
    ),
    "scripted": lambda: torch.jit.script(S(L(N, WIDTH), *tail())),
    "scripted inside": lambda: S(L(N, WIDTH), torch.jit.script(tail())),
    "scripted first": lambda: S(torch.jit.script(S(L(N, WIDTH), R())), *tail()[1:]),
    "frozen": frozen,
    "parameters in a dict": lambda: Own(
        dict_of,
        first=L(N, WIDTH),
        rest=tail(),
        p=nn.ParameterDict({"scale": torch.ones(WIDTH), "shift": torch.zeros(WIDTH)}),
    ),
    "parameters in a list": lambda: Own(
        lambda s, x: F.linear(F.relu(F.linear(x, s.p[0], s.p[1])), s.p[2], s.p[3]),
        p=nn.ParameterList([par(WIDTH, N), par(WIDTH), par(CLASSES, WIDTH), par(CLASSES)]),
    ),
    "keeps what it sees": lambda: Own(
        keeps, first=L(N, WIDTH), rest=tail(), history=[], seen={}, count=0, total=nn.Buffer(torch.zeros(()))
    ),
    "keeps what it sees, recorded": lambda: Late(
        keeps, first=L(N, WIDTH), rest=tail(), history=[], seen={}, count=0, total=torch.zeros(())
    ),
    "draws random numbers": lambda: Own(draws, first=L(N, WIDTH), rest=tail(), source=torch.Generator()),
    "draws random numbers, recorded": lambda: Late(
        draws, first=L(N, WIDTH), rest=tail(), source=torch.Generator()
    ),
    "bound method": lambda: _bound(),
    "layers of no size": lambda: Own(
        lambda s, x: s.rest(s.first(x)) + s.none(x[:, :0]), first=L(N, WIDTH), rest=tail(), none=L(0, CLASSES)
    ),
    "no output": lambda: Own(
        lambda s, x: s.rest(s.first(x)) + s.none(x).sum(), first=L(N, WIDTH), rest=tail(), none=L(N, 0)
    ),
    "one unit": lambda: S(L(N, 1), R(), L(1, CLASSES)),
    "one layer": lambda: L(N, CLASSES),
    "identity between": lambda: S(L(N, WIDTH), nn.Identity(), *tail()),
    "two linear in a row": lambda: S(L(N, WIDTH), L(WIDTH, WIDTH), *tail()),
    "no bias": lambda: S(L(N, WIDTH, bias=False), *tail()),
    "hooks": hooked,
    "changes its mode": lambda: Own(
        lambda s, x: s.train().rest(s.eval().first(x)), first=L(N, WIDTH), rest=tail()
    ),
    "print": lambda: Own(
        lambda s, x: s.rest(s.first(x)) if float(x.sum()) else None, first=L(N, WIDTH), rest=tail()
    ),
}


def _compiled_in_place():
    model = S(L(N, WIDTH), *tail())
    model.compile(backend="eager")
    return model


def _bound():
    model = Own(bound, first=L(N, WIDTH), rest=tail(), log=[])
    model.method = model.remember
    return model


UNPROVEN = (  # one layer alone, too few units, or a mask that nobody knows
    "spectral norm",
    "tied behind an own layer",
    "weight masked second",
    "LSTM first",
    "dropout in train mode",
    "one layer in a loop",
    "one unit",  # one direction for all samples: their weighted mean
)
BRANCHED = ("residual input", "gate")  # one sample or a mean of several: only b tells
REFUSED = (
    "residual",
    "everything parametrised",
    "tied autoencoder",
    "tied weights",
    "shared bias",
    "addmm only",
    "attention",
    "BatchNorm in train mode",
    "BatchNorm without statistics",
    "GroupNorm",
    "LayerNorm",
    "GLU",
    "RReLU",
    "maxout",
    "softmax inside",
    "wide and deep",
    "scripted",
    "scripted inside",
    "one layer",
    "two linear in a row",
    "no bias",
)


class Inputs(TorchFunctionMode):
    """Everything that a forward pass multiplies by a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[int, list[Tensor]] = {}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        # while it compiles, torch 2.5 passes tensors without numbers
        if func is F.linear and not isinstance(args[0], FakeTensor):
            self.rows.setdefault(args[0].shape[-1], []).append(args[0].detach().flatten(0, -2))
        return func(*args, **(kwargs or {}))


def snapshot(model):
    """All of a model that anybody can see, and the random states."""
    state = {}
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            if isinstance(module, torch.jit.ScriptModule):
                continue
            if key in ("_parameters", "_buffers"):
                value = {k: None if v is None else v.detach().clone() for k, v in value.items()}
            elif isinstance(value, torch.Generator):
                value = value.get_state()
            state[name, key] = copy.copy(value) if isinstance(value, list | dict) else value
        state[name, "training"] = module.training
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        state[name] = value.detach().clone()
    return state, torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002


def same(a, b) -> bool:
    if isinstance(a, Tensor | np.ndarray):
        return (
            type(a) is type(b)
            and a.shape == b.shape
            and bool((torch.as_tensor(a) == torch.as_tensor(b)).all())
        )
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(v, b[k]) for k, v in a.items())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a is b or bool(a == b)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_exact_or_refused(name):
    torch.manual_seed(0)
    model = MODELS[name]().double()
    x, y = torch.randn(B, N, generator=seeded(1), dtype=torch.float64), torch.arange(B) % CLASSES
    with Inputs() as inputs:
        gradients = client.gradients(model, x, y)
    before = snapshot(model)
    said = []
    told = {"batch_size": B} if name in BRANCHED else {}
    for call in (
        lambda: invert(model, gradients, time_limit=1.0 if name in UNPROVEN else 60.0, **told),
        lambda: diagnose(model, gradients),
    ):
        try:
            said.append(call())
        except InputError as refusal:
            said.append(refusal)
        assert same(before, snapshot(model))
    found = said[0]
    assert name in REFUSED if isinstance(found, InputError) else found.certified or name in UNPROVEN
    if not isinstance(found, InputError):
        rows = torch.cat(inputs.rows.get(found.inputs.shape[1], [torch.zeros(0, found.inputs.shape[1])]))
        for row in found.inputs[found.certified_rows]:
            assert (rows - row).norm(dim=1).min() < 1e-6 * row.norm()


@pytest.mark.parametrize("name", BRANCHED)
def test_a_mean_is_all_that_is_claimed_where_a_branch_hides_the_loss(name):
    torch.manual_seed(0)
    model = MODELS[name]().double()
    x = torch.randn(B, N, generator=seeded(1), dtype=torch.float64)
    found = invert(model, client.gradients(model, x, torch.arange(B) % CLASSES))
    assert set(found.claims) == {Claim.MEAN}
