"""Affine maps beside a linear layer, such as BatchNorm in eval mode, folded into it and its gradient."""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from spear_core.model.activations import Effect
from spear_core.problem import LinearLayer


@dataclass(frozen=True)
class Affine:
    """s ∘ z + t, one factor and one shift per unit."""

    scale: Tensor  # s, shape (m,)
    shift: Tensor  # t, shape (m,)
    modules: tuple[str, ...] = ()  # names of those that make it up

    @classmethod
    def of(cls, effect: Effect, modules: tuple[str, ...], before: Self | None) -> Self:
        """The map of a probed effect, after another map if there is one."""
        s, t = effect.scale, effect.shift
        assert s is not None and t is not None
        if before is None:
            return cls(s, t, modules)
        return cls(s * before.scale, s * before.shift + t, before.modules + modules)


def fold_after(layer: LinearLayer, affine: Affine, *, own_bias: bool) -> LinearLayer:
    """One layer for u = s (W x + β) + t: W' = s W, β' = s β + t, ∂L/∂W' = ∂L/∂W / s, ∂L/∂β' = ∂L/∂β / s."""
    s, t = affine.scale, affine.shift
    inverse = torch.where(s == 0, 0.0, 1 / s).to(layer.weight_grad.dtype)
    return replace(
        layer,
        weight=s[:, None] * layer.weight,
        bias=s * layer.bias + t,
        weight_grad=inverse[:, None] * layer.weight_grad,
        bias_grad=inverse.to(layer.bias_grad.dtype) * layer.bias_grad if own_bias else layer.bias_grad,
    )


def fold_before(layer: LinearLayer, affine: Affine) -> LinearLayer:
    """One layer for W (s y + t) + β: W' = W s, β' = β + W t, ∂L/∂W' = (∂L/∂W − ∂L/∂β tᵀ) / s."""
    s, t = affine.scale, affine.shift
    inverse = torch.where(s == 0, 0.0, 1 / s)
    centred = layer.weight_grad - torch.outer(layer.bias_grad, t.to(layer.bias_grad.dtype))
    return replace(
        layer,
        weight=layer.weight * s,
        bias=layer.bias + layer.weight.to(t.dtype) @ t,
        weight_grad=(centred * inverse).to(layer.weight_grad.dtype),
    )
