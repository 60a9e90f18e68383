"""Step 5, once more: a complete batch, sharpened by the gradients of all layers.

Samples are found one by one, each from a part of what was sent, and rounding grows where the parts are barely enough
(b close to half the width). Once activation patterns and labels are known, the gradient of every layer is a smooth
function of the coefficients C of the batch, X = C R. Gauss–Newton's steps on all of them at once, by conjugate
gradients through the client's own forward and backward pass, bring the rounding back to that of the gradient.

A small step says nothing of directions in which none was made. So the same steps are tried where the truth is known, on
gradients of the sharpened batch itself, from starts as far off as the first one may have been: what contracts too
little, and what blows rounding up, leaves them apart.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from spear_core.certificate.backprop import in_row_space
from spear_core.certificate.record import Certificate
from spear_core.search import Budget, Target
from spear_core.spear.reconstruction import from_coefficients
from spear_core.spear.records import Reconstruction
from spear_core.spear.zeros import zero_tolerance
from spear_core.tolerances import ALLOWED_ERROR

NEARLY = 1e-2  # relative distance of the replayed gradients up to which a batch is worth sharpening
PASSES = 18  # Gauss–Newton steps at most; each brings what the one before has left out
STEPS = 24  # of conjugate gradients for each; more of them fit the rounding itself
SHORTER = (1.0, 0.5, 0.25)
AT_KINK = 1e-3  # |z| below which a unit may be on either side, relative to the largest of a sample
CLEAR = 16.0  # times what rounding may leave of a zero, in a direction that is blurred itself
SETTLED = 1e-3  # of the first residual, at which they end
TRIES = 3  # starts from which the sharpened batch is sought again
MARGIN = 4.0  # times the farthest end of three tries, which the true error may exceed by chance
NEAR_ENOUGH = 0.8 * ALLOWED_ERROR / MARGIN  # distance at which a try ends

Gradients = list[Tensor]  # of weights, then of biases, layer by layer, in units of the observed ones
Slope = tuple[Callable[[Tensor], Gradients], Callable[[Gradients], Tensor]]  # products with J and Jᵀ


def sharpened(
    target: Target, found: Reconstruction, check: Callable[..., Certificate], budget: Budget
) -> tuple[Reconstruction, Certificate]:
    """A batch with its certificate; sharper, if rounding alone stands between the two and more of it is proven then.

    `check` is `certify`.
    """
    certificate = check(found)
    if certificate.labels is None or not _worth_it(certificate):
        return found, certificate
    unit = float(found.inputs.abs().max()) * found.inputs.shape[1] ** 0.5  # length of a row of error 1
    try:
        client = Client.of(target, certificate.labels, budget, _sides(found))
        start = found.coefficients * client.scale
        end, passes = client.settled(start)
    except RuntimeError as missing:
        if "is not implemented" not in str(missing):
            raise
        return found, certificate  # an activation without a second derivative, as the library's hard sigmoid
    sharp = from_coefficients(target.forward, end / client.scale, found.directions)
    better = check(sharp, known=certificate)
    proven, told = certificate.certified_rows.sum(), better.expected_error.isfinite()
    if replace(better, expected_error=torch.where(told, 0.0, torch.inf)).certified_rows.sum() <= proven:
        return found, certificate
    # as far off as the proof of a row admits, and as it was seen to be
    off = torch.maximum(better.expected_error.masked_fill(~told, 0.0) * unit, (end - start).norm(dim=1))
    error = MARGIN / unit * client.left(end, off, NEAR_ENOUGH * unit, passes)
    error += sharp.coefficients.norm(dim=1) * target.low_rank.entry_noise / sharp.inputs.abs().max()
    better = replace(better, expected_error=better.expected_error.minimum(error.where(told, torch.inf)))
    return (sharp, better) if better.certified_rows.sum() > proven else (found, certificate)


def _worth_it(certificate: Certificate) -> bool:
    """Whether a batch is whole, each row of one label, nearly explains all layers, and is not proven already."""
    labels, replayed, proven = certificate.labels, certificate.replay_residual, certificate.certified_rows
    if not certificate.complete or labels is None or bool((labels < 0).any()):
        return False
    plural = torch.zeros_like(proven) if certificate.plural_rows is None else certificate.plural_rows
    return replayed is not None and replayed <= NEARLY and not bool((proven | plural).all())


def _sides(found: Reconstruction) -> Tensor | None:
    """Which units of a ReLU layer are active, (b, m): near its kink ∂L/∂z says it, which rounding moves less than z.

    None where ∂L/∂z does not say it, as without ReLU.
    """
    if found.agreement is None:
        return None
    entries, z = (found.low_rank.factor @ found.directions).abs().T, found.preactivations
    tolerance = zero_tolerance(found.low_rank, found.directions).T
    near = z.abs() <= AT_KINK * z.abs().amax(dim=1, keepdim=True)
    active = (entries > CLEAR * tolerance) | ((entries > tolerance) & (z > 0))
    return torch.where(near, active, z > 0)


@dataclass(frozen=True)
class Client:
    """The client's gradients as functions of its batch, whose rows c S are those of X in a basis of the row space."""

    exact: Callable[[Tensor], Gradients]  # in float64
    rough: Callable[[Tensor], Gradients]  # the same in float32, for the slope
    observed: Gradients
    scale: Tensor  # S
    budget: Budget  # no pass begins after its deadline

    @classmethod
    def of(cls, target: Target, labels: Tensor, budget: Budget, sides: Tensor | None = None) -> "Client":
        """Of a client that knows these labels, and whose loss is cross-entropy up to a factor.

        `sides` says which units of the attacked layer, a ReLU one, are active, shape (b, m); otherwise z says it.
        """
        layers, scale = in_row_space(target)
        parameters = [layer.weight for layer in layers] + [layer.bias for layer in layers]
        observed = [layer.weight_grad for layer in layers] + [layer.bias_grad for layer in layers]
        sizes = [g.norm() for g in observed]  # rounding is relative: every layer counts alike

        def client(dtype: torch.dtype) -> Callable[[Tensor], Gradients]:
            own = [p.detach().to(dtype, copy=True).requires_grad_() for p in parameters]

            @torch.enable_grad()
            def gradients(c: Tensor) -> Gradients:
                y = c
                for at, (layer, weight, bias) in enumerate(zip(layers, own, own[len(layers) :])):
                    z = y @ weight.T + bias
                    if at == 0 and sides is not None:
                        y = z * sides.to(dtype)
                    else:
                        y = z if layer.activation is None else layer.activation(z.clone())
                loss = F.cross_entropy(y, labels, reduction="sum")
                sent = torch.autograd.grad(loss, own, create_graph=dtype == torch.float32)
                return [g / size.to(dtype) for g, size in zip(sent, sizes, strict=True)]

            return gradients

        wanted = [g / size for g, size in zip(observed, sizes, strict=True)]
        return cls(client(torch.float64), client(torch.float32), wanted, scale, budget)

    def missing(self, batch: Tensor) -> Gradients:
        """What a batch leaves of the observed gradients, divided by the one factor that explains most."""
        sent = self.exact(batch)
        factor = _inner(sent, self.observed) / _inner(sent, sent)
        return [w / factor - s for s, w in zip(sent, self.observed)]

    def settled(self, batch: Tensor) -> tuple[Tensor, int]:
        """The batch after steps that explain more each, and how many these were."""
        least, taken = self.missing(batch), 0
        for _ in range(PASSES):
            # the slope need not be sharp: what a step leaves out, the next one finds in what is missing
            size, slope = _norm(least), _slope(self.rough, batch)
            step = _least_squares(slope, least)
            for shorten in SHORTER:  # a whole step may carry a unit across its kink
                tried = self.missing(batch + shorten * step)
                if _norm(tried) < size:
                    batch, least, taken = batch + shorten * step, tried, taken + 1
                    break
            else:
                break
            if self.budget.late:
                break
        return batch, taken

    def left(self, batch: Tensor, off: Tensor, enough: float, passes: int = PASSES) -> Tensor:
        """How far as many passes end from a batch that is the truth, to first order, (b,).

        Rows start `off` by so much, (b,), in random directions and in those that the try before left most of; once all
        are near `enough`, a try ends. What the batch leaves of the observed gradients is their rounding, its signs
        drawn anew.
        """
        slope, rounding, sent = _slope(self.rough, batch), self.missing(batch), self.exact(batch)
        generator, worst, apart = (
            torch.Generator().manual_seed(0),
            torch.zeros_like(off),
            torch.zeros_like(batch),
        )
        for _ in range(TRIES):
            noise = [r * torch.randn(r.shape, generator=generator).sign().to(r) for r in rounding]
            random = torch.randn(batch.shape, generator=generator).to(batch)
            apart = off[:, None] * (F.normalize(random, dim=1) + F.normalize(apart, dim=1))
            for _ in range(passes):
                if self.budget.late or bool((apart.norm(dim=1) < enough).all()):
                    break
                wanted = [r - c for r, c in zip(noise, slope[0](apart.to(torch.float32)), strict=True)]
                factor = _inner(sent, wanted) / _inner(sent, sent)
                apart = apart + _least_squares(slope, [w - s * factor for s, w in zip(sent, wanted)])
            worst = torch.maximum(worst, apart.norm(dim=1))
        return worst + torch.inf if self.budget.late else worst


def _slope(function: Callable[[Tensor], Gradients], at: Tensor) -> Slope:
    """The Jacobian of gradients by the batch, in float32, recorded once."""
    at = at.to(torch.float32).detach().requires_grad_()
    values = function(at)
    u = [torch.zeros_like(v, requires_grad=True) for v in values]
    with torch.enable_grad():  # Jᵀ u is linear in u, so its own derivative is J
        (transposed,) = torch.autograd.grad(_inner(values, u), at, create_graph=True)

    @torch.enable_grad()
    def forward(change: Tensor) -> Gradients:
        return list(torch.autograd.grad((transposed * change).sum(), u, retain_graph=True))

    @torch.enable_grad()
    def backward(change: Gradients) -> Tensor:
        return torch.autograd.grad(_inner(values, change), at, retain_graph=True)[0]

    return forward, backward


def _least_squares(slope: Slope, wanted: Gradients) -> Tensor:
    """The change of the batch that comes closest to changing its gradients by `wanted`, to first order (CGLS)."""
    forward, backward = slope
    unit = _norm(wanted)
    residual = [(part / unit).to(torch.float32) for part in wanted]
    s = along = backward(residual)
    step, size = torch.zeros_like(s), s.square().sum()
    first = size
    for _ in range(STEPS):
        change = forward(along)
        length = size / _inner(change, change)
        step = step + length * along
        residual = [r - length * part for r, part in zip(residual, change, strict=True)]
        s = backward(residual)
        new_size = s.square().sum()
        if new_size <= SETTLED**2 * first:
            break
        along, size = s + along * (new_size / size), new_size
    return unit * step.to(torch.float64)


def _norm(tensors: Gradients) -> float:
    return float(_inner(tensors, tensors)) ** 0.5


def _inner(left: Gradients, right: Gradients) -> Tensor:
    """The scalar product; given as `grad_outputs` instead, the first call would import a computer algebra system."""
    return torch.stack([(a * b).sum() for a, b in zip(left, right, strict=True)]).sum()
