"""Step 5, once more: a complete batch, sharpened by the gradients of all layers.

Samples are found one by one, each from a part of what was sent, and rounding grows where the parts are barely enough
(b close to half the width). Once activation patterns and labels are known, the gradient of every layer is a smooth
function of the coefficients C of the batch, X = C R. Gauss–Newton's steps on all of them at once, by conjugate
gradients through the client's own forward and backward pass, bring the rounding back to that of the gradient.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from spear_core.certificate.backprop import in_row_space
from spear_core.certificate.record import Certificate
from spear_core.search import Target
from spear_core.spear.reconstruction import from_coefficients
from spear_core.spear.records import Reconstruction
from spear_core.tolerances import ALLOWED_ERROR

ROUNDS = 6  # at most; each brings what the one before has left out
CHANGE_MARGIN = 2.0  # errors after a round, in sizes of the change that it made
NEARLY = 1e-2  # relative distance of the replayed gradients up to which a batch is worth sharpening
PASSES = 2  # Gauss–Newton steps
STEPS = 24  # of conjugate gradients for each; more of them fit the rounding itself
SHORTER = (1.0, 0.5, 0.25)
SETTLED = 1e-3  # of the first residual, at which they end


def sharpened(
    target: Target, found: Reconstruction, check: Callable[..., Certificate]
) -> tuple[Reconstruction, Certificate]:
    """A batch with its certificate; sharper, if rounding alone stands between the two and more of it is proven then.

    What sharpening changes is what was wrong before, and shows how much may still be. `check` is `certify`.
    """
    certificate = check(found)
    labels, error, proven = certificate.labels, certificate.expected_error, certificate.certified_rows
    if labels is None or not _worth_it(certificate):
        return found, certificate
    sharp = found
    passes = 1 if bool(certificate.sharp_rows.all()) else PASSES
    for _ in range(ROUNDS):
        try:
            coefficients = sharpen(target, sharp.coefficients, labels, passes=passes)
        except RuntimeError as missing:
            if "is not implemented" not in str(missing):
                raise
            break  # an activation without a second derivative, as the library's hard sigmoid
        if torch.equal(coefficients, sharp.coefficients):
            break
        before, sharp = sharp, from_coefficients(target.forward, coefficients, found.directions, found.errors)
        change = (sharp.inputs - before.inputs).square().mean(dim=1).sqrt() / sharp.inputs.abs().max()
        error = torch.minimum(error, CHANGE_MARGIN * change)
        if bool((error <= ALLOWED_ERROR).all()):
            break
    better = replace(check(sharp, known=certificate), expected_error=error)
    return (sharp, better) if better.certified_rows.sum() > proven.sum() else (found, certificate)


def _worth_it(certificate: Certificate) -> bool:
    """Whether a batch is whole, each row of one label, nearly explains all layers, and is not proven already."""
    labels, replayed, proven = certificate.labels, certificate.replay_residual, certificate.certified_rows
    if not certificate.complete or labels is None or bool((labels < 0).any()):
        return False
    plural = torch.zeros_like(proven) if certificate.plural_rows is None else certificate.plural_rows
    return replayed is not None and replayed <= NEARLY and not bool((proven | plural).all())


@torch.enable_grad()
def sharpen(target: Target, coefficients: Tensor, labels: Tensor, *, passes: int = PASSES) -> Tensor:
    """C, shape (b, b), float64, that explains the gradients of all layers best, from one that nearly does.

    The loss is cross-entropy with these labels, up to a factor. C is the given one if nothing explains them better.
    """
    layers, scale = in_row_space(target)
    parameters = [layer.weight for layer in layers] + [layer.bias for layer in layers]
    observed = [layer.weight_grad for layer in layers] + [layer.bias_grad for layer in layers]
    sizes = [g.norm() for g in observed]  # rounding is relative: every layer counts alike

    def client(dtype: torch.dtype) -> Callable[[Tensor], list[Tensor]]:
        own = [p.detach().to(dtype, copy=True).requires_grad_() for p in parameters]

        def gradients(c: Tensor) -> list[Tensor]:
            y = c
            for layer, weight, bias in zip(layers, own, own[len(layers) :]):
                z = y @ weight.T + bias
                y = z if layer.activation is None else layer.activation(z.clone())
            loss = F.cross_entropy(y, labels, reduction="sum")
            sent = torch.autograd.grad(loss, own, create_graph=True)
            return [g / size.to(dtype) for g, size in zip(sent, sizes, strict=True)]

        return gradients

    exact, rough = client(torch.float64), client(torch.float32)
    wanted = [g / size for g, size in zip(observed, sizes, strict=True)]

    def missing(c: Tensor) -> list[Tensor]:
        sent = [g.detach() for g in exact(c)]
        factor = sum((s * w).sum() for s, w in zip(sent, wanted)) / sum(s.square().sum() for s in sent)
        return [w / factor - s for s, w in zip(sent, wanted)]

    best = coefficients * scale
    least = missing(best)
    for _ in range(passes):
        # the slope need not be sharp: what a step leaves out, the next one finds in what is missing
        size = _norm(least)
        wanted_change = [(part / size).to(torch.float32) for part in least]
        step = size * _least_squares(rough, best.to(torch.float32), wanted_change).to(torch.float64)
        for shorten in SHORTER:  # a whole step may carry a unit across its kink
            tried = missing(best + shorten * step)
            if _norm(tried) < size:
                best, least = best + shorten * step, tried
                break
        else:
            break
    return best / scale


def _norm(tensors: list[Tensor]) -> float:
    return float(torch.stack([t.norm() for t in tensors]).norm())


def _least_squares(function: Callable[[Tensor], list[Tensor]], at: Tensor, wanted: list[Tensor]) -> Tensor:
    """The change of `at` that comes closest to changing the function's values by `wanted`, to first order (CGLS)."""
    at = at.detach().requires_grad_()
    values = function(at)
    u = [torch.zeros_like(v, requires_grad=True) for v in values]
    # Jᵀ u is linear in u, so its own derivative is J: both passes are recorded once
    (transposed,) = torch.autograd.grad(_inner(values, u), at, create_graph=True)

    def forward(change: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad((transposed * change).sum(), u, retain_graph=True)

    def backward(change: list[Tensor]) -> Tensor:
        return torch.autograd.grad(_inner(values, change), at, retain_graph=True)[0]

    step, residual = torch.zeros_like(at), wanted
    s = along = backward(residual)
    size = first = s.square().sum()
    for _ in range(STEPS):
        change = forward(along)
        length = size / sum(part.square().sum() for part in change)
        step = step + length * along
        residual = [r - length * part for r, part in zip(residual, change, strict=True)]
        s = backward(residual)
        new_size = s.square().sum()
        if new_size <= SETTLED**2 * first:
            break
        along, size = s + along * (new_size / size), new_size
    return step.detach()


def _inner(left: list[Tensor], right: list[Tensor]) -> Tensor:
    """The scalar product; given as `grad_outputs` instead, the first call would import a computer algebra system."""
    return torch.stack([(a * b).sum() for a, b in zip(left, right, strict=True)]).sum()
