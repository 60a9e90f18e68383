"""The gradients of the front part, which the client has sent as well: do the pictures give them?

∂L/∂y of a sample is what the attacked layer hands back, Wᵀ ∂L/∂z, and the front part's gradients follow from it. Where
a unit is at its kink, rounding chose the side for the client, and may choose the other one here.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from spear_core.front.descent import normal
from spear_core.front.part import Front
from spear_core.model.parameters import strip
from spear_core.tolerances import LARGEST_ROUNDING

SIDES = 8  # points within the error of each sample, at which units are on other sides
TURNED = 1e-6  # relative change of a sample's gradient that is a unit's on its other side
PAYS = 0.9  # what it must leave of the misfit


def misfit(
    front: Front,
    inputs: Tensor,
    back: Tensor,
    errors: list[float],
    sent: Mapping[str, Tensor | None],
    generator: torch.Generator,
) -> float | None:
    """How far the replayed gradients are from those that were sent, relative, of the worst parameter.

    Args:
        front: the front part.
        inputs: of all samples of the batch, shape (b, *shape), float64.
        back: ∂L/∂y, shape (b, n), float64.
        errors: of the inputs, root mean square of their entries.
        sent: gradients by name.
        generator: source of the points around each sample.

    Returns:
        None where it cannot be asked: no gradient of the front part was sent, or other parts use its values.
    """
    taken = front.section.taken()
    names = [name for name in taken if sent.get(strip(name)) is not None]
    if not names or not front.alone:
        return None
    goal = [_float(sent[strip(name)]) for name in names]
    given = {name: taken[name].detach().to(torch.float64).requires_grad_(True) for name in names}

    def of(x: Tensor, i: int) -> list[Tensor]:
        y = front.section.run(x[None], torch.float64, given)
        return list(torch.autograd.grad(y, list(given.values()), back[i][None]))

    each = [of(x, i) for i, x in enumerate(inputs)]
    missing = [sum(parts[1:], parts[0]) - g for parts, g in zip(zip(*each), goal)]
    # biases may cancel: what counts beside a sum is what was summed
    sizes = [
        torch.stack([g.norm(), *(part.norm() for part in parts)]).max() for parts, g in zip(zip(*each), goal)
    ]

    def worst(left: list[Tensor]) -> float:
        return max(float(m.norm() / size) for m, size in zip(left, sizes) if size > 0)

    for i, x in enumerate(inputs):
        if worst(missing) <= LARGEST_ROUNDING:
            break
        for offset in normal(x.new_zeros(SIDES, *x.shape), generator):
            other = of(x + errors[i] * offset, i)
            change = [new - old for new, old in zip(other, each[i])]
            if all(float(c.norm()) <= TURNED * float(size) for c, size in zip(change, sizes)):
                continue
            turned = [m + c for m, c in zip(missing, change)]
            if worst(turned) < PAYS * worst(missing):
                missing, each[i] = turned, other
    return worst(missing)


def _float(gradient: Tensor | None) -> Tensor:
    assert gradient is not None
    return gradient.to(torch.float64)
