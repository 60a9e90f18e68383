"""In how many directions a sample can move without breaking the relations of its layers."""

import torch

from spear_core.client import data, gradients, networks
from spear_core.model.layers import read_problem
from spear_core.study import landscape
from spear_widgets.kit.scene import ACTIVATIONS

WIDTH, DEPTH, RELATIONS = 20, 6, (1, 2, 3)


def free_directions(batch_size: int, activation: str) -> list[int]:
    """For one, two and three relations: the free directions of the freest sample of a batch of digits, m = 20."""
    digits = data.load("digits", batch_size, generator=torch.Generator().manual_seed(0))
    inputs = digits.inputs.double()
    model = networks.fully_connected(
        inputs.shape[1],
        WIDTH,
        DEPTH,
        activation=ACTIVATIONS[activation],
        generator=torch.Generator().manual_seed(1),
    ).double()
    problem = read_problem(model, gradients(model, inputs, digits.labels))
    return [max(landscape.free_directions(problem, inputs, k)) for k in RELATIONS]
