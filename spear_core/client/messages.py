"""What an honest client sends: the gradients of its loss on its private batch, or what it makes of them.

Plain gradients (FedSGD), the update of several local steps (FedAvg), and gradients that were clipped example by
example and noised (DP-SGD, Abadi et al. 2016, arXiv:1607.00133).
"""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from spear_core.errors import check_generator

Loss = Callable[[Tensor, Tensor], Tensor]


def gradients(
    model: nn.Module, inputs: Tensor, targets: Tensor, loss: Loss = F.cross_entropy
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


def update(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    loss: Loss = F.cross_entropy,
    *,
    steps: int,
    lr: float,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """The FedAvg message of a client: its weights before minus after several steps of gradient descent.

    θ₀ − θ_T = η Σ_t ∂L_t/∂θ(θ_t) points the way a gradient does; one step makes it η times the gradient.

    Args:
        model: any module; it is left as it is, buffers included.
        inputs: as in `gradients`, like the next two.
        targets: see there.
        loss: see there.
        steps: T ≥ 1, local steps in all.
        lr: η, the learning rate of plain gradient descent.
        batch_size: samples per step; by default all. The data is gone through epoch by epoch; the last
            minibatch of an epoch is smaller where they do not come out even.
        generator: shuffles the data before every epoch; by default it stays in order.

    Returns:
        θ₀ − θ_T by parameter name, in the dtype of the parameters; those that no loss reaches are left out.

    Raises:
        ValueError: if there is no step or no sample per step.

    >>> model, inputs = nn.Linear(3, 2), torch.ones(4, 3)
    >>> sent = update(model, inputs, torch.tensor([0, 1, 0, 0]), steps=5, lr=0.1)
    >>> {name: tuple(change.shape) for name, change in sent.items()}
    {'weight': (2, 3), 'bias': (2,)}
    """
    if steps < 1 or (batch_size is not None and batch_size < 1):
        raise ValueError(f"steps and batch_size must be at least 1, got {steps} and {batch_size}")
    before = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    weights = dict(before)
    for _, rows in zip(range(steps), minibatches(len(inputs), batch_size, generator)):
        leaves = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
        output = functional_call(model, {**leaves, **buffers}, (inputs[rows],))
        found = torch.autograd.grad(loss(output, targets[rows]), list(leaves.values()), allow_unused=True)
        for name, grad in zip(leaves, found, strict=True):
            if grad is not None:
                weights[name] = weights[name] - lr * grad
    return {name: start - weights[name] for name, start in before.items() if weights[name] is not start}


def minibatches(
    count: int, size: int | None = None, generator: torch.Generator | None = None
) -> Iterator[Tensor]:
    """Row numbers of one minibatch after the other, of `size` or all `count` samples, epoch after epoch, without end.

    A generator shuffles every epoch; by default rows stay in order.
    """
    check_generator(generator)
    while True:
        order = torch.arange(count) if generator is None else torch.randperm(count, generator=generator)
        yield from order.split(size or count)


def clipped(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    loss: Loss = F.cross_entropy,
    *,
    norm: float,
    noise_multiplier: float = 0.0,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """The message of DP-SGD: every example's gradient clipped, all averaged, gaussian noise added.

    g_i ← g_i min(1, C / ‖g_i‖), ‖·‖ over all parameters; sent is (Σ g_i + N(0, σ² C²)) / b, as Opacus does it.

    For models whose output for one sample does not depend on the others, and a loss that is an average over samples;
    otherwise as `gradients`. C = `norm` is the largest norm that an example's gradient keeps; σ = `noise_multiplier`,
    where 0 clips only, and the noise comes from a CPU `generator`.
    """
    total: dict[str, Tensor] = {}
    for i in range(len(inputs)):
        example = gradients(model, inputs[i : i + 1], targets[i : i + 1], loss)
        length = torch.stack([grad.norm() for grad in example.values()]).norm()
        factor = (norm / length.clamp_min(torch.finfo(length.dtype).tiny)).clamp_max(1)
        for name, grad in example.items():
            total[name] = total.get(name, 0) + factor * grad
    return {
        name: (grad + noise_multiplier * norm * _gaussian(grad, generator)) / len(inputs)
        for name, grad in total.items()
    }


def noised(
    grads: Mapping[str, Tensor], relative: float, *, generator: torch.Generator | None = None
) -> dict[str, Tensor]:
    """Gradients with gaussian noise on every entry, of a deviation relative to the rms of each parameter's gradient."""
    return {
        name: grad + relative * grad.square().mean().sqrt() * _gaussian(grad, generator)
        for name, grad in grads.items()
    }


def _gaussian(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Drawn on the CPU, so that one seed means one message on every device."""
    check_generator(generator)
    return torch.randn(like.shape, dtype=like.dtype, generator=generator).to(like.device)
