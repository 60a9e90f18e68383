"""Weight norm undone: W = g v/‖v‖ in the place of g and v, and the gradient of W from theirs.

∂L/∂g is the part of ∂L/∂W along v/‖v‖, and ‖v‖/g ∂L/∂v is the rest of it: nothing is lost, unless g is zero.
"""

from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from spear_core.model.graph import unwrap
from spear_core.model.parameters import strip
from spear_core.model.symbolic import replicate

Named = dict[str, Tensor | None]


def without_weight_norm(model: nn.Module, gradients: Named) -> tuple[nn.Module, Named]:
    """A replica with plain weights, and their gradients; where one is missing or some g is zero, all as it was."""
    root, result = replicate(unwrap(model)), dict(gradients)
    for name, module in root.named_modules():
        lists = dict(module.parametrizations) if is_parametrized(module) else {}
        if [type(step).__name__ for steps in lists.values() for step in steps.children()] != ["_WeightNorm"]:
            continue
        ((own, pair),) = lists.items()
        of_g, of_v = (strip(f"{name}.parametrizations.{own}.original{place}") for place in (0, 1))
        along, rest = result.get(of_g), result.get(of_v)
        g, v = pair.original0.detach().double(), pair.original1.detach().double()
        if along is None or rest is None or g.count_nonzero() < g.numel():
            continue
        over = [dim for dim in range(v.dim()) if g.dim() == 0 or g.shape[dim] == 1]
        norm = v.square().sum(dim=over, keepdim=g.dim() > 0).sqrt()
        del module._modules["parametrizations"], result[of_g], result[of_v]
        module.__class__ = type(module).__mro__[1]  # PyTorch's own for it has the weight as a property
        module._parameters[own] = nn.Parameter((g * v / norm).to(pair.original1.dtype))
        result[strip(f"{name}.{own}")] = (norm / g * rest + along * v / norm).to(rest.dtype)
    return (model, gradients) if result.keys() == gradients.keys() else (root, result)
