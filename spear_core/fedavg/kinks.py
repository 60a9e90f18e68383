"""Units so near their kinks that rounding decided on which side they were: the simulated client tries both.

The samples are known up to rounding, and with them every z. Where z is nearer to zero than that, ReLU may have been on
the other side in the client; and one unit on the wrong side in one step moves the whole update by far more than
rounding. Such units are few, so they are mirrored, z ← −z, one after the other, as long as the replay comes closer.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from spear_core.fedavg.training import Client

Kink = tuple[int, int, int, int]  # step, layer, sample, unit

MOST_MIRRORED = 4
TRIES = 16  # units, the nearest first, that are tried at each of these


def replayed_residuals(
    client: Client, inputs: Tensor, labels: Tensor, schedule: Tensor, *, limit: float, reach: float
) -> list[float]:
    """How far each layer's replayed update is off, with units mirrored where rounding allows it and the update asks it.

    Args:
        client: the simulated client.
        inputs: c in the basis V, shape (b, b).
        labels: shape (b,).
        schedule: weight of every sample in every step, shape (T, b).
        limit: residual at which to be content.
        reach: how far rounding may move z, relative to the layer's root mean square.
    """
    mirrored: list[Kink] = []
    residuals, near = _replay(client, inputs, labels, schedule, mirrored, reach)
    while max(residuals) > limit and len(mirrored) < MOST_MIRRORED and near:
        tried = [
            (_replay(client, inputs, labels, schedule, [*mirrored, kink], reach), kink)
            for kink in near[:TRIES]
        ]
        (better, nearer), kink = min(tried, key=lambda one: max(one[0][0]))
        if not max(better) < max(residuals):
            break
        residuals, near = better, nearer
        mirrored.append(kink)
    return residuals


def _replay(
    client: Client, inputs: Tensor, labels: Tensor, schedule: Tensor, mirrored: Sequence[Kink], reach: float
) -> tuple[list[float], list[Kink]]:
    """Residuals, and the units within reach of their kinks that are not mirrored yet, the nearest first."""
    near: list[tuple[float, Kink]] = []

    def look(step: int, layer: int, z: Tensor) -> Tensor:
        size = z.abs() / z.square().mean().sqrt()
        for sample, unit in ((size <= reach) & (schedule[step] > 0)[:, None]).nonzero().tolist():
            if (kink := (step, layer, sample, unit)) not in mirrored:
                near.append((float(size[sample, unit]), kink))
        sign = torch.ones_like(z)
        for at in mirrored:
            if at[:2] == (step, layer):
                sign[at[2], at[3]] = -1
        return z * sign

    residuals = client.residuals(client.train(inputs, labels, schedule, look=look))
    return residuals, [kink for _, kink in sorted(near)]
