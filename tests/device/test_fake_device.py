"""Readiness for a GPU, without one: every method on a device that is as strict as CUDA and counts what waits for it."""

from dataclasses import fields
from functools import cache

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from spear_core.consistency import masked_least_squares as linear
from spear_core.spear.sampling import draw_directions, live_rows
from spear_core.spear.sparsity import Pool
from tests.core.zoo import seeded
from tests.device.cases import CASES
from tests.device.counting import WALKS, most, rounds, waits_of
from tests.device.fake import DEVICE, FakeDevice
from tests.thorough import thorough

LONG = ("consistency, GELU", "coupled", "noisy")
EVERY_CASE = [*(name for name in CASES if name not in LONG), *thorough(*LONG)]
attacked = cache(lambda name: rounds(CASES[name]()))


# ------------------------------------------------------------------------------------------ attacks
@pytest.mark.parametrize("name", EVERY_CASE)
def test_every_method_gives_on_the_device_what_it_gives_on_the_cpu(name):
    there, _ = attacked(name)
    here = CASES[name]().invert("cpu")
    assert here.certified or name == "noisy"
    for field in fields(here):
        value, found = getattr(here, field.name), getattr(there, field.name)
        if isinstance(value, Tensor):
            assert found.device == DEVICE
            assert torch.equal(found.held, value), field.name
        elif field.name != "seconds":
            assert repr(found) == repr(value), field.name


FAULTS = {
    "sampling": (Pool, "empty", lambda b, device, empty=Pool.empty: empty(b, torch.device("cpu"))),
    "consistency, alternating": (
        linear,
        "random_units",
        lambda shape, like, _: linear.units(torch.randn(shape)),
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_tensor_left_on_the_cpu_would_be_found(name, monkeypatch):
    monkeypatch.setattr(*FAULTS[name])
    with FakeDevice(), pytest.raises(RuntimeError, match="same device"):
        CASES[name]().invert(DEVICE)


# ------------------------------------------------------------------------------------------ what the host waits for
# As often as today: if one of these grows, the message says which lines wait.
WALK_WAITS = {
    "coupled: walk, 100 steps": 1,  # after every 50 steps it asks who has arrived, but for the last
    "half-spaces: with the output layer, reflections and 10 steps": 11,  # eigh reads its error code
    "sampling: a chunk of draws that all fail the first stage": 1,  # which candidates passed
}


@pytest.mark.parametrize("walk", WALKS)
def test_no_step_of_a_walk_waits(walk):
    waits = waits_of(WALKS[walk])
    assert waits.total() <= WALK_WAITS.get(walk, 0), waits.most_common()


# waits until the first round is over, in the longest round after that, and from then on, as counted on one processor;
# another one's rounding lets a few other candidates survive
ROUND_WAITS = {
    "sampling": (103, 111, 64),
    "halfspace": (91, 36, 65),
    "consistency, alternating": (83, 27, 41),
    "consistency, reflecting": (87, 33, 84),
    "consistency, GELU": (159, 35, 37),
    "coupled": (141, 37, 156),
    "b > n": (117, 25, 45),
    "FedAvg": (369, 42, 7),
    "noisy": (63, 0, 41),
    "one layer": (67, 0, 22),
}
OTHER_SURVIVORS = 1.25


@pytest.mark.parametrize("name", EVERY_CASE)
def test_rounds_wait_no_more_often_than_they_did(name):
    _, seen = attacked(name)
    for waits, counted in zip(most(seen), ROUND_WAITS[name], strict=True):
        assert waits.total() <= OTHER_SURVIVORS * counted, waits.most_common()


# ------------------------------------------------------------------------------------------ the device itself
GRID = torch.tensor([[4.0, 1.0, 0.0], [1.0, 3.0, 1.0], [0.0, 1.0, 2.0]], dtype=torch.float64)
ROWS = torch.arange(3)


def assigned(x, index, value):
    x = x.clone()
    x[index] = value
    return x


MIXTURES = {
    "sum": lambda x: x + GRID,
    "sum on the CPU": lambda x: GRID + x,
    "sum with a number of the device": lambda x: GRID + x[0, 0],
    "sum in place": lambda x: x.clone().add_(GRID),
    "product": lambda x: x @ GRID,
    "cat": lambda x: torch.cat([x, GRID]),
    "stack with a number": lambda x: torch.stack([x[0, 0], GRID[0, 0]]),
    "where": lambda x: torch.where(GRID > 1, x, x),
    "assigned values": lambda x: assigned(x, ROWS, GRID),
    "index of the device": lambda x: GRID[x.argmax(dim=0)],
    "solve": lambda x: torch.linalg.solve_triangular(x, GRID, upper=True),
    "generator": lambda x: torch.rand(3, device=x.device, generator=torch.Generator()),
}
WAITING = {
    "item": lambda x: x[0, 0].item(),
    "float": lambda x: float(x[0, 0]),
    "int": lambda x: int(x[0, 0]),
    "bool": lambda x: bool((x > 0).any()),
    "branch": lambda x: 1 if x[0, 0] > 0 else 0,
    "slice": lambda x: x[: x[0, 1].long()],
    "place": lambda x: x[x[0].argmax()],
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "to the CPU": lambda x: x.to("cpu"),
    "copied out": lambda x: torch.zeros_like(GRID).copy_(x),
    "nonzero": lambda x: x.nonzero(),
    "masked rows": lambda x: x[x[0] > 0],
    "masked values": lambda x: assigned(x, x > 2, x[0, 0]),
    "masked_select": lambda x: x.masked_select(x > 1),
    "unique": lambda x: x.unique(),
    "equal": lambda x: torch.equal(x, x),
    "allclose": lambda x: torch.allclose(x, x),
    "repeat_interleave": lambda x: x.repeat_interleave(x[0].long(), dim=0),
    "inv": torch.linalg.inv,
    "solve": lambda x: torch.linalg.solve(x, x),
    "cholesky": torch.linalg.cholesky,
    "cholesky_inverse": torch.cholesky_inverse,
    "eigh": torch.linalg.eigh,
    "svd": torch.linalg.svd,
    "lstsq": lambda x: torch.linalg.lstsq(x, x),
}
SILENT = {
    "arithmetic": lambda x: (2 * x + torch.tensor(1.0)).sqrt_().to(torch.float32),
    "products": lambda x: torch.addmm(x, x.T, x),
    "choices": lambda x: torch.where(x > 1, x, 0).clamp_min(1),
    "order": lambda x: x[:, x[0].argsort()[:2]].topk(2).values,
    "filled": lambda x: assigned(x, x > 2, 0.0),
    "filled rows": lambda x: assigned(x, x[0] > 2, 0.0),
    "filled places": lambda x: assigned(x, x[0].argsort()[:2], 1.0),
    "made there": lambda x: torch.arange(3, device=x.device) + torch.eye(3, device=x.device) + x.new_zeros(3),
    "qr": lambda x: torch.linalg.qr(x)[0] @ torch.linalg.solve_triangular(x, x, upper=True),
    "unchecked": lambda x: torch.cholesky_solve(torch.linalg.inv_ex(x)[0], torch.linalg.cholesky_ex(x)[0]),
    "solve_ex": lambda x: torch.linalg.solve_ex(x, x)[0],
    "rows": lambda x: sum(row.norm() for row in x),
    "gradient": lambda x: torch.autograd.grad(F.gelu(y := x.clone().requires_grad_()).sum(), y)[0],
}
UPLOADED = {
    "moved": lambda x: GRID.to(x.device),
    "moved like": lambda x: GRID.to(x),
    "made of a list": lambda x: torch.tensor([[1.0, 2.0]], device=x.device),
    "made like": lambda x: x.new_tensor([1, 2]),
    "copied in": lambda x: torch.zeros_like(x).copy_(GRID),
    "list of places": lambda x: x[:, [0, 2]],
    "places": lambda x: x[ROWS],
}


def assert_counted(action, waits, uploads):
    with FakeDevice() as device:
        x = GRID.to(DEVICE)
        device.uploads.clear()
        found = action(x)
        assert (device.waits.total(), device.uploads.total()) == (waits, uploads), (
            device.waits,
            device.uploads,
        )
    return found


@pytest.mark.parametrize("name", MIXTURES)
def test_two_devices_in_one_operation_are_refused(name):
    with FakeDevice(), pytest.raises(RuntimeError, match=r"same device|generator on"):
        MIXTURES[name](GRID.to(DEVICE))


@pytest.mark.parametrize("name", WAITING)
def test_what_the_host_must_wait_for_is_counted(name):
    assert_counted(WAITING[name], 1, 0)


@pytest.mark.parametrize("name", SILENT)
def test_nothing_else_is_and_the_numbers_are_those_of_the_cpu(name):
    found, expected = assert_counted(SILENT[name], 0, 0), SILENT[name](GRID)
    assert found.device == DEVICE and found.dtype == expected.dtype
    assert torch.equal(found.held, expected)


@pytest.mark.parametrize("name", UPLOADED)
def test_what_comes_from_the_host_is_counted_apart(name):
    found, expected = assert_counted(UPLOADED[name], 0, 1), UPLOADED[name](GRID)
    assert found.device == DEVICE and torch.equal(found.held, expected)


def test_a_wait_names_the_line_that_waits():
    with FakeDevice() as device:
        draw_directions(GRID.to(DEVICE), 4, generator=seeded())
        live_rows(GRID.to(DEVICE))
    (place,) = device.waits
    assert place.startswith("spear/sampling.py:") and place.endswith(" nonzero")


def test_outside_of_its_context_the_device_is_out_of_reach():
    with FakeDevice():
        x = GRID.to(DEVICE)
    with pytest.raises(RuntimeError, match="outside of `with FakeDevice"):
        x + 1
