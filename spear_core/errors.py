"""What is refused, and why: every error names what must be, what was given and what to do."""

import torch


class InputError(ValueError):
    """The input cannot be attacked as it is; the base of all errors below."""


class InputTypeError(InputError, TypeError):
    """An argument is of the wrong kind: no tensor, an integer tensor, no module."""


class UnknownLayer(InputError):
    """The named layer does not exist, or is no linear layer with a bias."""


class MissingGradient(InputError):
    """The gradients lack what the attack needs, or nothing reached the layer."""


class NotLowRank(InputError):
    """The gradient has full rank: what was sent is no plain gradient of a small batch."""


class RankSaturated(InputError):
    """The batch does not fit the layer: its rank is as large as the layer allows."""


def check_generator(generator: object) -> None:
    """Refuse a source of randomness that is none, a seed for example."""
    if generator is not None and not isinstance(generator, torch.Generator):
        raise InputTypeError(f"generator must be a torch.Generator or None, got {type(generator).__name__}")
