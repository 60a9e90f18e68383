"""Units so near their kinks that rounding decided on which side they were: the simulated client tries both.

The samples are known up to rounding, and with them every z. Where z is nearer to zero than that, ReLU may have been on
the other side in the client; and one unit on the wrong side in one step moves the whole update by far more than
rounding. Such units are few, so they are mirrored, z ← −z, one after the other, as long as the replay comes closer.
"""

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from spear_core.fedavg.training import Client

Kink = tuple[int, int, int, int]  # step, layer, sample, unit

MOST_MIRRORED = 4
TRIES = 16  # units, the nearest first, that are tried at each of these


def replayed_residuals(
    client: Client,
    inputs: Tensor,
    labels: Tensor,
    schedule: Tensor,
    *,
    limit: float,
    reach: float,
    deadline: float = float("inf"),
) -> list[float]:
    """How far each layer's replayed update is off, with units mirrored where rounding allows it and the update asks it.

    Inputs, labels and schedule are those of `Client.train`. Rounding may move z by `reach`, relative to the layer's
    root mean square; a residual of `limit` is enough; after the deadline no further unit is tried.
    """

    # every z exists inside the replay only, which therefore looks for the units and mirrors them on its way
    def replay(mirrored: Sequence[Kink]) -> tuple[list[float], list[Kink], Sequence[Kink]]:
        """Residuals, the units within reach that are not mirrored, the nearest first, and those that are."""
        near: list[tuple[float, Kink]] = []

        def look(step: int, layer: int, z: Tensor) -> Tensor:
            size, sign = z.abs() / z.square().mean().sqrt(), torch.ones_like(z)
            for sample, unit in ((size <= reach) & (schedule[step] > 0)[:, None]).nonzero().tolist():
                if (kink := (step, layer, sample, unit)) not in mirrored:
                    near.append((float(size[sample, unit]), kink))
            for *place, sample, unit in mirrored:
                if place == [step, layer]:
                    sign[sample, unit] = -1
            return z * sign

        residuals = client.residuals(client.train(inputs, labels, schedule, look=look))
        return residuals, [kink for _, kink in sorted(near)], mirrored

    # the unit whose mirror image brings the replay closest, and from there the next one
    best = replay(())
    for _ in range(MOST_MIRRORED):
        residuals, near, mirrored = best
        if not max(residuals) > limit:
            break
        tried = [replay((*mirrored, kink)) for kink in near[:TRIES] if time.monotonic() < deadline]
        best = min([best, *tried], key=lambda one: max(one[0]))
        if best[0] is residuals:
            break
    return best[0]
