"""What an honest client sends: the gradients of its loss on its private batch."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def gradients(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
) -> dict[str, Tensor]:
    """The FedSGD message of a client: ∂L/∂θ for every parameter θ of the model.

    Args:
        model: any module; it is left as it is, `.grad` included.
        inputs: the private batch, shape (b, …), whatever the model takes.
        targets: what the loss takes, for cross-entropy the labels, shape (b,).
        loss: (output, targets) → scalar; by default cross-entropy, averaged over the batch.

    Returns:
        Gradients by parameter name, in the order of `model.parameters()`; parameters that the loss does not
        reach are left out.
    """
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    found = torch.autograd.grad(loss(model(inputs), targets), list(named.values()), allow_unused=True)
    return {name: grad for name, grad in zip(named, found, strict=True) if grad is not None}
