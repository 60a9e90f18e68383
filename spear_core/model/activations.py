"""What follows a layer, found by probing: identity, affine per unit (BatchNorm in eval mode), elementwise.

Probing asks what a piece of the model does to numbers, not what it is called, so a module, a function, a
method, an in-place variant and five lines of arithmetic that amount to ReLU are all ReLU.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from spear_core.model.section import Section, random_devices

PROBE_ROUNDING = 256.0  # rounding errors by which two ways to compute the same may differ
PROBE_RANGE = 4.0  # standard deviation of the probes: beyond the kinks of ReLU6 and hard tanh

Elementwise = Callable[[Tensor], Tensor]

KNOWN: dict[str, Elementwise] = {
    "ReLU": torch.relu,
    "LeakyReLU": F.leaky_relu,
    "ReLU6": F.relu6,
    "ELU": F.elu,
    "SELU": F.selu,
    "GELU": F.gelu,
    "GELU (tanh)": lambda z: F.gelu(z, approximate="tanh"),
    "SiLU": F.silu,
    "Mish": F.mish,
    "Softplus": F.softplus,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "hard tanh": F.hardtanh,
    "hard sigmoid": F.hardsigmoid,
    "hard swish": F.hardswish,
}


@dataclass(frozen=True)
class Effect:
    """What a section of a model does to a batch of vectors.

    It is of kind "identity", "affine" (s ∘ z + t, the same for every sample), "elementwise" (one function for every
    unit), "random" (no two runs alike) or "other".
    """

    kind: str
    scale: Tensor | None = None  # s, shape (m,), where affine
    shift: Tensor | None = None  # t, shape (m,), where affine
    function: Elementwise | None = None  # where elementwise
    name: str = ""  # of the function, where it is a known one


def probe(section: Section, shape: tuple[int, ...], device: torch.device) -> Effect:
    """What a section of a model does, judged by what comes out for made-up inputs of a shape (…, m)."""
    dtype = torch.float32 if device.type == "mps" else torch.float64
    z = PROBE_RANGE * torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(0))
    z = z.to(device)

    @torch.no_grad()
    def apply(value: Tensor) -> Tensor:
        return section.run(value.clone(), dtype)

    try:
        y = apply(z)
        with torch.random.fork_rng(devices=random_devices(z)):
            torch.rand(1, device=device)  # so that the second run meets other random numbers
            again = apply(z)
        if not isinstance(y, Tensor) or y.shape != z.shape or not y.is_floating_point():
            return Effect("other")
        if not torch.equal(y, again):
            return Effect("random")
        return _deterministic(section, apply, z, y)
    except Exception:  # what follows need not take such an input at all
        return Effect("other")


def name_of(function: Elementwise) -> str:
    """What a known elementwise function is called; "an elementwise function" for others."""
    z = torch.linspace(-8, 8, 65, dtype=torch.float64)
    with torch.no_grad():
        return _known(z, function(z.clone())) or "an elementwise function"


def _known(z: Tensor, y: Tensor) -> str:
    """The name of the known function that gives y from z; empty if none does."""
    return next((name for name, function in KNOWN.items() if _close(function(z), y)), "")


def _deterministic(section: Section, apply: Elementwise, z: Tensor, y: Tensor) -> Effect:
    if _close(y, z):
        return Effect("identity")
    # sample by sample and unit by unit: other values elsewhere must change nothing here
    mask = (torch.rand(z.shape, generator=torch.Generator().manual_seed(1)) < 1 / 3).to(z.device)
    if not all(_close(apply(torch.where(keep, z, z.flip(0) + 1))[keep], y[keep]) for keep in (mask, ~mask)):
        return Effect("other")
    # an affine map may differ from unit to unit, any other function must be the same for all
    shift = apply(torch.zeros_like(z)).flatten(0, -2)[0]
    scale = apply(torch.ones_like(z)).flatten(0, -2)[0] - shift
    if _close(scale * z + shift, y):
        return Effect("affine", scale, shift)
    if not _close(apply(z.roll(1)).roll(-1), y):
        return Effect("other")
    name = _known(z, y)
    return Effect("elementwise", function=KNOWN.get(name) or _on_any_shape(section, z.shape), name=name)


def _on_any_shape(section: Section, shape: torch.Size) -> Elementwise:
    """An elementwise section of a model, for tensors of any shape, cut into blocks of the one it was probed with."""

    def function(z: Tensor) -> Tensor:
        if not z.numel():
            return z.clone()
        blocks = F.pad(z.reshape(-1), (0, -z.numel() % shape.numel())).reshape(-1, *shape)
        result = torch.stack([section.run(block.clone(), z.dtype) for block in blocks])
        return result.reshape(-1)[: z.numel()].reshape(z.shape)

    return function


def _close(a: Tensor, b: Tensor) -> bool:
    # what the model computes in float32 regardless of its input is known to float32 only
    eps = torch.finfo(torch.float32 if torch.float32 in (a.dtype, b.dtype) else torch.float64).eps
    scale = b.abs().clamp_min(1.0) if b.numel() else b
    return a.shape == b.shape and bool(((a - b).abs() <= PROBE_ROUNDING * eps * scale).all())
