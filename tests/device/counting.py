"""How often the host waits for the device: in a walk, in a chunk of draws, in a round of each search."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import gelu

from spear_core.attack.inversion import Inversion
from spear_core.consistency import walk as consistency
from spear_core.consistency.affine import Pair, Space
from spear_core.coupled import walk as coupled
from spear_core.halfspace import alternation, readout
from spear_core.search import Budget, State
from spear_core.spear.records import Pool
from spear_core.spear.sampling import draw_directions
from spear_core.spear.sparsity import filter_directions, passes_first_stage
from tests.core.zoo import seeded
from tests.device.cases import Case
from tests.device.fake import DEVICE, FakeDevice

M, B, WALKERS, STEPS = 40, 6, 8, 100


@dataclass(frozen=True)
class Round:
    """What happened up to a state of an attack.

    Attributes:
        step: of the state.
        waits: by operation and place.
        uploads: the same.
    """

    step: str
    waits: Counter[str]
    uploads: Counter[str]


def rounds(case: Case) -> tuple[Inversion, list[Round]]:
    """An attack on the fake device, and its rounds: the first includes all that comes before, the last what follows."""
    seen = []
    with FakeDevice() as device:

        def look(state: State) -> None:
            seen.append(Round(state.step, device.waits.copy(), device.uploads.copy()))
            device.waits.clear(), device.uploads.clear()

        return case.invert(DEVICE, progress=look), seen


def waits_of(action: Callable[[], object]) -> Counter[str]:
    """The waits of one action by operation and place, on the fake device that is entered meanwhile."""
    with FakeDevice() as device:
        action()
        return device.waits.copy()


def _on_device(*shape: int) -> Tensor:
    return torch.randn(shape, generator=seeded()).to(DEVICE)


def _basis(columns: int, rows: int = M) -> Tensor:
    return torch.linalg.qr(_on_device(rows, columns))[0]


def _alternate() -> Tensor:
    return consistency.alternate(_basis(B), _basis(B), _on_device(B, WALKERS), STEPS)


def _reflect() -> Tensor:
    return consistency.reflect(_basis(B), _basis(B), _on_device(B, WALKERS), STEPS, 0.9)


def _reflect_affine() -> Tensor:
    pair = Pair(gelu, Space(_on_device(M), _basis(B)), Space(_on_device(M), _basis(B)))
    return consistency.reflect_affine(pair, _on_device(M, WALKERS), STEPS, 0.9)


def _coupled() -> tuple[Tensor, ...]:
    spaces = tuple(Space(_on_device(rows), _basis(B, rows)) for rows in (M, 2 * M, M))
    walkers = _on_device(2, M, WALKERS), _on_device(2, M, WALKERS)
    return coupled.walk(spaces, *walkers, steps=STEPS, deadline=math.inf)


def _halfspace() -> Tensor:
    return alternation.alternate(_basis(B), _basis(B), _on_device(M, WALKERS), M // 3, generator=seeded())


def _readout() -> Tensor:
    return readout.arrived(_basis(B), _basis(B), _on_device(M, 3), _on_device(M, WALKERS), Budget(seeded()))


def _chunk() -> None:
    factor, pool = _basis(B), Pool.empty(B, DEVICE)
    draw = draw_directions(factor, 32 * B, generator=seeded())
    candidates = draw.directions[passes_first_stage(draw, factor, generator=seeded())]
    assert not len(candidates)  # so that the split is not needed
    filter_directions(candidates, None, pool, threshold=1.0)


WALKS = {
    f"consistency: alternate, {STEPS} steps": _alternate,
    f"consistency: reflect, {STEPS} steps": _reflect,
    f"consistency: reflect_affine, {STEPS} steps": _reflect_affine,
    f"coupled: walk, {STEPS} steps": _coupled,
    f"half-spaces: alternate, {alternation.STEPS} steps": _halfspace,
    f"half-spaces: with the output layer, reflections and {readout.OWN_STEPS} steps": _readout,
    "sampling: a chunk of draws that all fail the first stage": _chunk,
}


def most(seen: list[Round]) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """The waits until the first round is over, in the longest round after that, and from then on."""
    first, *later = [one.waits for one in seen if one.step == seen[0].step]
    after = [one.waits for one in seen if one.step != seen[0].step]
    return first, max(later, key=Counter.total, default=Counter()), sum(after, Counter())
