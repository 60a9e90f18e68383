"""The options of an attack, checked at the public door before any work."""

import numpy as np
import torch

from spear_core.errors import InputError, check_generator

METHODS = ("auto", "sampling", "halfspace", "consistency")


def check_options(
    method: str = "auto",
    batch_size: int | None = None,
    max_samples: int | None = None,
    time_limit: float | None = None,
    generator: torch.Generator | None = None,
    input_shape: object = None,
) -> None:
    """Refuse options of `invert` that make no sense, before any work.

    The generator must be on the CPU, so that one seed means one result on every device.

    Raises:
        InputError: naming the option, what it must be and what it is.

    >>> check_options("newton")
    Traceback (most recent call last):
    spear_core.errors.InputError: method must be "auto", ... or "consistency", got 'newton'
    """
    if not isinstance(method, str) or method not in METHODS:
        names = ", ".join(f'"{name}"' for name in METHODS[:-1])
        raise InputError(f'method must be {names} or "{METHODS[-1]}", got {method!r}')
    for name, count in (("batch_size", batch_size), ("max_samples", max_samples)):
        if count is not None and (not _is_whole(count) or count < 1):
            raise InputError(f"{name} must be a whole number from 1 on, or None, got {count!r}")
    if time_limit is not None and not _is_seconds(time_limit):
        raise InputError(f"time_limit must be a number of seconds from 0 on, or None, got {time_limit!r}")
    if input_shape is not None and not _is_shape(input_shape):
        must = "the sizes of one input, as (1, 28, 28), or None"
        raise InputError(f"input_shape must be {must}, got {input_shape!r}")
    check_generator(generator)
    if generator is not None and generator.device.type != "cpu":
        raise InputError(f"generator must be on the CPU, got one on {generator.device}")


def _is_seconds(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and bool(value >= 0)


def _is_shape(value: object) -> bool:
    return isinstance(value, tuple | list) and bool(value) and all(_is_whole(v) and v > 0 for v in value)


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
