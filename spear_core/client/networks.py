"""Fully connected networks of any width, depth and activation, initialised from a generator."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from spear_core.errors import check_generator


def fully_connected(
    inputs: int,
    width: int | Sequence[int] = 400,
    depth: int = 6,
    classes: int = 10,
    *,
    activation: type[nn.Module] = nn.ReLU,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
) -> nn.Sequential:
    """Linear → activation, `depth` linear layers in all, with PyTorch's own initialisation.

    Args:
        inputs: n, the number of inputs.
        width: m, of every hidden layer, or a sequence with one width per hidden layer (depth then follows).
        depth: number of linear layers, the output layer included, at least 1.
        classes: number of outputs.
        activation: module class between the linear layers.
        generator: source of the weights.
        dtype: of the parameters.

    Raises:
        ValueError: if depth, a width, inputs or classes is below 1.

    >>> [tuple(p.shape) for p in fully_connected(12, width=40, depth=2, classes=5).parameters()]
    [(40, 12), (40,), (5, 40), (5,)]
    """
    check_generator(generator)
    hidden = [width] * (depth - 1) if isinstance(width, int) else list(width)
    sizes = [inputs, *hidden, classes]
    if depth < 1 or min(sizes) < 1:
        raise ValueError(f"depth and every layer size must be at least 1, got depth {depth}, sizes {sizes}")
    modules: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        # on "meta" it draws no random numbers; nn.utils.skip_init would do the same, and load sympy for it
        layer = nn.Linear(fan_in, fan_out, device="meta", dtype=dtype)
        bound = fan_in**-0.5  # what nn.Linear does by default
        for name, shape in (("weight", (fan_out, fan_in)), ("bias", (fan_out,))):
            values = torch.empty(shape, dtype=dtype).uniform_(-bound, bound, generator=generator)
            layer.register_parameter(name, nn.Parameter(values))
        modules += [layer, activation()]
    return nn.Sequential(*modules[:-1])
