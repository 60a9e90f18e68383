"""Two answers side by side: are they equal to the precision they were computed in, and if not, how are they related?"""

from typing import Any

import torch
from torch import Tensor

Pair = tuple[Tensor, Tensor]  # wanted, yours


def as_tensor(value: Any) -> Tensor | None:
    """Numbers, arrays, and lists of them, of numpy or torch; None for anything else."""
    if isinstance(value, (list, tuple)) and any(isinstance(part, (list, tuple, Tensor)) for part in value):
        parts = [as_tensor(part) for part in value]
        same = {part.shape for part in parts if part is not None}
        return (
            torch.stack([part for part in parts if part is not None])
            if None not in parts and len(same) == 1
            else None
        )
    try:
        # a float of Python has 64 bits, which torch would cut to 32
        plain = isinstance(value, float) or (isinstance(value, (list, tuple)) and _holds_floats(value))
        tensor = torch.as_tensor(value, dtype=torch.float64 if plain else None).detach().cpu()
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None
    return None if tensor.is_complex() else tensor


def numbers(value: Any) -> Tensor:
    """An answer that must hold numbers, as a tensor.

    Raises:
        TypeError: it holds something else.
    """
    tensor = as_tensor(value)
    if tensor is None:
        raise TypeError(f"must be numbers, got {type(value).__name__}")
    return tensor


def _holds_floats(values: Any) -> bool:
    return (
        bool(values)
        and all(isinstance(v, (int, float)) for v in values)
        and any(isinstance(v, float) for v in values)
    )


def close(wanted: Any, yours: Any) -> bool:
    """Equal shape, and values equal to the precision of the coarser of the two; whole numbers exactly."""
    if isinstance(wanted, BaseException) or isinstance(yours, BaseException):
        return type(wanted) is type(yours)
    a, b = as_tensor(wanted), as_tensor(yours)
    if a is None or b is None:
        if isinstance(wanted, (list, tuple)) and isinstance(yours, (list, tuple)):
            return len(wanted) == len(yours) and all(map(close, wanted, yours))
        if (a is None) != (b is None):
            return False
        return type(wanted) is type(yours) and bool(wanted == yours)
    if a.shape != b.shape:
        return False
    exact = not a.is_floating_point()
    return near(a.double(), b.double(), 0.0 if exact else max(precision(wanted), precision(yours)))


def near(a: Tensor, b: Tensor, share: float) -> bool:
    """Whether all entries agree to a share of the largest one."""
    finite = a[a.isfinite()]
    limit = share * float(finite.abs().max()) if finite.numel() else 0.0
    return bool(((a == b) | ((a - b).abs() <= limit)).all())


def precision(value: Any) -> float:
    """How far off, relative to the largest entry, an answer of this type may be by rounding.

    A float of Python does not tell what it was computed in; people call `.item()` on 32 bits.
    """
    dtype = getattr(value, "dtype", None)
    if isinstance(value, float) or dtype is None:
        return 1e-5
    tensor = as_tensor(value)
    if tensor is None or tensor.dtype == torch.float64 or not tensor.is_floating_point():
        return 1e-8
    return max(1e-4, 4 * torch.finfo(tensor.dtype).eps)


def shape_hint(wanted: Any, yours: Any) -> str | None:
    """What a wrong shape or type says, in words; None if the shape is right."""
    a, b = as_tensor(wanted), as_tensor(yours)
    if a is None:
        return (
            None
            if isinstance(yours, type(wanted))
            else f"Return a {_type(wanted)}; yours is of type {_type(yours)}."
        )
    if b is None:
        return f"Return {_kind(a)}; yours is of type {_type(yours)}."
    if a.shape == b.shape:
        return None
    must = f"The shape must be {tuple(a.shape)}, yours is {tuple(b.shape)}"
    if a.ndim == 0:
        return f"{must}: one number is wanted.{_summary(a.double(), b.double())}"
    if a.ndim == 2 and b.shape == a.T.shape:
        right = close(a.T, b)
        return f"{must}: it is transposed{', and otherwise right.' if right else '.'}"
    if a.numel() == b.numel():
        right = near(a.double().flatten(), b.double().flatten(), 1e-4)
        return f"{must}: {'the right numbers, ' if right else ''}arranged otherwise."
    return f"{must}."


def _summary(wanted: Tensor, yours: Tensor) -> str:
    """What several numbers have to do with the one that is wanted."""
    if not yours.numel():
        return " Yours is empty."
    for word, value in (("mean", yours.mean()), ("sum", yours.sum()), ("first entry", yours.flatten()[0])):
        if near(wanted, value, 1e-4):
            return f" The {word} of yours is right."
    return ""


def _type(value: Any) -> str:
    return type(value).__name__


def _kind(value: Tensor) -> str:
    return "a number" if value.ndim == 0 else f"a tensor of shape {tuple(value.shape)}"


def describe(value: Any) -> str:
    """A value in a line or two: shape and the first few entries."""
    tensor = as_tensor(value)
    if tensor is None:
        return f"{type(value).__name__}: {str(value)[:80]}"
    if tensor.ndim == 0:
        return number(tensor.item())
    shown = ", ".join(map(number, tensor.flatten()[:4].tolist()))
    return f"shape {tuple(tensor.shape)}: {shown}{', …' if tensor.numel() > 4 else ''}"


def number(value: Any) -> str:
    """As many digits as tell right from wrong."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def difference(wanted: Any, yours: Any) -> str:
    """By how much an answer is off."""
    a, b = as_tensor(wanted), as_tensor(yours)
    if a is None or b is None or a.shape != b.shape:
        return "not comparable"
    return f"largest {float((a.double() - b.double()).abs().max()):.3g}" if a.numel() else "none"
