"""Clients whose first two samples may resemble each other."""

from dataclasses import replace
from functools import lru_cache

import torch

from spear_widgets.kit.scene import Scene, of_batch, scene

NEAR = 0.02  # noise on the copy of a sample, in standard deviations of the data
TWINS = (
    ("as it comes", "none"),
    ("1 and 2 nearly equal", "near"),
    ("1 and 2 with one activation pattern", "same"),
)


@lru_cache(maxsize=16)
def client_with(name: str, batch_size: int, width: int, seed: int, twins: str = "none") -> Scene:
    """A client, whose first two samples may be twins.

    Args:
        name: of the data.
        batch_size: b ≥ 2.
        width: m.
        seed: of data and weights.
        twins: "none"; "near", sample 2 is sample 1 plus a little noise; "same", so little that no unit of the
            attacked layer tells the two apart. Their labels differ, as they do for two pictures of two things.

    Raises:
        ValueError: another kind of twins.
    """
    if twins not in dict(TWINS).values():
        raise ValueError(f'twins must be "none", "near" or "same", got {twins!r}')
    stage = scene(name, batch_size, width, seed)
    noise = NEAR * torch.randn(stage.batch.inputs.shape[1], generator=torch.Generator().manual_seed(0))
    labels = stage.batch.labels.clone()
    labels[1] = (labels[0] + 1) % stage.batch.classes
    while twins != "none":
        inputs = stage.batch.inputs.clone()
        inputs[1] = inputs[0] + noise
        stage = of_batch(replace(stage.batch, inputs=inputs, labels=labels), width=width, seed=seed)
        pattern = stage.preactivations > 0
        if twins == "near" or torch.equal(pattern[0], pattern[1]):
            break
        noise = noise / 2
    return stage
