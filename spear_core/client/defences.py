"""What a client may do to its gradients before it sends them: `grads` → gradients, by parameter name.

Noise and clipping are in `spear_core.client`, since clipping needs every example's own gradient.
"""

from collections.abc import Mapping

import torch
from torch import Tensor


def quantised(grads: Mapping[str, Tensor], bits: int) -> dict[str, Tensor]:
    """Every entry rounded to the nearest of 2^bits − 1 evenly spaced values, from −max|g| to max|g|, zero among them.

    Each parameter has its own scale.

    Raises:
        ValueError: if bits is below 2.

    >>> quantised({"weight": torch.tensor([-1.0, 0.2, 0.6])}, bits=2)["weight"].tolist()
    [-1.0, 0.0, 1.0]
    """
    if bits < 2:
        raise ValueError(f"bits must be at least 2, got {bits}")
    levels = 2 ** (bits - 1) - 1
    sent = {}
    for name, grad in grads.items():
        step = grad.abs().max() / levels
        sent[name] = (grad / step).round() * step if step > 0 else grad.clone()
    return sent


def sparsified(grads: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Top-k: only the largest entries by magnitude are kept, the others set to zero.

    The share holds for each parameter, and one entry is always kept.

    Raises:
        ValueError: if the share is not above 0 and at most 1.

    >>> sparsified({"bias": torch.tensor([-3.0, 1.0, 2.0, 0.5])}, share=0.5)["bias"].tolist()
    [-3.0, 0.0, 2.0, 0.0]
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, got {share}")
    sent = {}
    for name, grad in grads.items():
        flat = grad.flatten()
        kept = flat.abs().topk(max(1, round(share * flat.numel()))).indices
        sent[name] = torch.zeros_like(flat).index_put((kept,), flat[kept]).reshape(grad.shape)
    return sent


def rounded(grads: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Sent in a shorter floating-point format, as `torch.bfloat16`, and read again in the format of the gradients.

    Raises:
        ValueError: if it is no floating-point format.

    >>> rounded({"bias": torch.tensor([1.0001])}, torch.bfloat16)["bias"].tolist()
    [1.0]
    """
    if not dtype.is_floating_point:
        raise ValueError(f"dtype must be a floating-point format, got {dtype}")
    return {name: grad.to(dtype).to(grad.dtype) for name, grad in grads.items()}


def withheld(grads: Mapping[str, Tensor], prefixes: tuple[str, ...]) -> dict[str, Tensor]:
    """Without the gradients of some layers, by prefixes of their names: hidden from the server, or frozen.

    >>> sorted(withheld({"0.weight": torch.ones(1), "2.weight": torch.ones(1)}, ("0.",)))
    ['2.weight']
    """
    return {name: grad for name, grad in grads.items() if not name.startswith(prefixes)}
