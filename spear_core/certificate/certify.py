"""When is a result proven? Four parts, each of which a wrong batch would fail.

(a) The recovered batch gives the observed gradient of the attacked layer, to rounding.
(b) λ = 1: every zero of ∂L/∂Z is where the forward pass of the recovered sample says it must be. Where the loss is
    known to be cross-entropy, so does back-propagation: entries that it makes too small to tell from zero agree too.
(c) Every direction is unique: its zeros have rank b − 1 in L, even with two of them left out. (λ alone is no
    proof: two samples with the same activation pattern mix freely without touching it.)
(d) Where the rest of the network is known, replaying the client gives the gradient of every other layer.

What later layers say, (d) and their part in (c), is asked of the functions that the target brings along
(`search.Later`).
"""

import time
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from spear_core.certificate.record import Certificate, Replay
from spear_core.linalg import least_squares, masked_products
from spear_core.search import Budget, State, Step, Target
from spear_core.spear.low_rank import LowRank
from spear_core.spear.reconstruction import gradient_residual, reconstruct
from spear_core.spear.records import Reconstruction
from spear_core.spear.uniqueness import weigh
from spear_core.spear.zeros import zero_tolerance
from spear_core.tolerances import ALLOWED_ERROR, precision, replay_residual, rounding_residual

ONE_SIZE = 0.02  # relative spread of entries that are meant to be of one size


def certified(target: Target, state: State, budget: Budget, *, judged: bool = False) -> State:
    """The state, which must hold a batch, with its certificate, sharpened where that proves more; see `certify`."""
    began, found = time.perf_counter(), state.reconstruction
    assert found is not None
    check = partial(certify, target, judged=judged, generator=budget.generator)
    if target.later is None:
        certificate = check(found)
    else:
        found, certificate = target.later.sharpen(target, found, check, budget)
    state = replace(state, step=Step.CERTIFICATE, reconstruction=found, certificate=certificate)
    return state.timed("certificate", began)


def certify(
    target: Target,
    found: Reconstruction,
    *,
    judged: bool = False,
    known: Certificate | None = None,
    generator: torch.Generator | None = None,
) -> Certificate:
    """Check a reconstructed batch, which need not be complete.

    `judged`: the next layer's row space has judged every sample already, while it was searched for. `known`: a
    certificate of the same directions with coefficients that differ by rounding; what it says of them holds on.
    """
    problem, low_rank, later, k = target.problem, target.low_rank, target.later, len(found.coefficients)
    grads = found.output_grads if found.separated else None
    played = None
    if k == target.batch_size and later is not None:
        played = later.replay(target, found.preactivations, grads)
    output_grads = played.output_grads if played is not None and grads is None else found.output_grads
    if known is not None and known.unique_rows is not None and bool(known.unique_rows.all()):
        unique, independent, error = known.unique_rows, known.independent_rows, known.expected_error
    else:
        unique, independent, error = _told_apart(target, found, played, judged, generator)
    agreement = found.agreement
    if agreement is not None and played is not None:
        agreement = agreement | (_vanishing(low_rank, found, played) & played.loss.named[:, None])
    limit, residual = _limit(target), torch.inf
    if output_grads.isfinite().all():
        residual = gradient_residual(found, problem.attacked, None if found.separated else output_grads)
    if k == target.batch_size and residual > limit and later is not None and independent is not None:
        # judged as parts of the whole batch, which these rows are not
        independent = independent & later.witness(target.holding(k + 1), found.coefficients, generator)[0]
    certificate = Certificate(
        batch_size=target.batch_size,
        output_grads=output_grads,
        expected_error=error,
        limit=limit,
        gradient_residual=residual,
        agreeing_rows=None if agreement is None else agreement.all(dim=1),
        unique_rows=unique,
        independent_rows=independent,
        single_rows=_single(target, found, played),
        scale_confirmed=None if later is None else later.scale(target, found, played, limit, generator),
    )
    if played is None:
        return certificate
    loss = played.loss
    return replace(
        certificate,
        replay_residual=_replay_residual(played, found, limit),
        labels=loss.labels,
        # samples of one label and one pattern whose ∂L/∂z hardly differ send what their mean would send that many
        # times: their distance enters G squared, and rounding hides distances up to about its square root
        plural_rows=loss.plural & (low_rank.noise**0.5 > ALLOWED_ERROR),
        uneven=loss.uneven,
        copies=loss.copies,
    )


def _told_apart(
    target: Target,
    found: Reconstruction,
    played: Replay | None,
    judged: bool,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Part (c) for each row: whether it is unique, whether it is proven on its own, and its expected error.

    One proof must do, with its own error: that of all directions, by their zeros or by back-propagation, which holds
    for a complete batch; or that of one row, by the next layer. Where there is none, the error is infinite.
    """
    low_rank, k = target.low_rank, len(found.coefficients)
    nobody = torch.zeros(k, dtype=torch.bool, device=found.coefficients.device)
    nothing = torch.full_like(nobody, torch.inf, dtype=torch.float64)
    if judged and k:
        assert target.later is not None  # the next layer has judged them
        own_error = target.later.blur(target, found.coefficients, generator) / found.inputs.abs().max()
        return ~nobody, ~nobody, torch.maximum(expected_error(low_rank, found, None), own_error)
    if target.batch_size == k == 1:  # one direction, which nothing could mix with
        error = torch.maximum(expected_error(low_rank, found, None), _among_rows(target, found, played))
        return ~nobody, nobody, error
    unique, error = nobody, nothing
    if found.agreement is not None:
        zeros, sines = weigh(low_rank, found.directions, generator=generator), None
        unique = zeros.firm
        if played is not None and not unique[played.loss.named].all():
            sines = torch.where(unique | ~played.loss.named, 0.0, played.only())
            unique = unique | (sines > 0)
        if k == target.batch_size and found.separated and bool(unique.all()):
            error = expected_error(low_rank, found, zeros.rows, sines)
            # back-propagation holds the others
            fitted = torch.where(zeros.firm, zeros.directions, found.directions)
            return unique, nobody, error + _off_zeros(target, found, fitted)
    if not k or target.later is None:
        return unique, nobody, error
    independent, own_error = target.later.witness(target, found.coefficients, generator)
    own_error = torch.maximum(expected_error(low_rank, found, None), own_error / found.inputs.abs().max())
    return unique | independent, independent, torch.where(independent, own_error, nothing)


def _single(target: Target, found: Reconstruction, played: Replay | None) -> Tensor:
    """Which rows are one sample each, if they are proven: of b terms d_i x_iᵀ of a gradient of rank b none is a sum."""
    if target.told or target.later is None:
        return torch.full_like(found.lengths, target.told, dtype=torch.bool)
    told = (None, None) if played is None else (played.loss, played.fewest)
    return target.later.single(target, found, *told)


def _limit(target: Target) -> float:
    """Relative residual up to which a gradient, or the update of one step, counts as reproduced."""
    problem, low_rank = target.problem, target.low_rank
    limit = rounding_residual(max(low_rank.noise, precision(problem.attacked.weight_grad.dtype) / 16))
    return max(limit, replay_residual(problem.weight_rounding())) if low_rank.even else limit


def _off_zeros(target: Target, found: Reconstruction, fitted: Tensor) -> Tensor:
    """How far rows are from those of the null vectors of their zeros, relative to the largest input, shape (k,).

    Samples that were found by other means fit their zeros as well as rounding asks, and not better.
    """
    off = reconstruct(target.forward, fitted).inputs - found.inputs
    return off.abs().amax(dim=1) / found.inputs.abs().max()


def _among_rows(target: Target, found: Reconstruction, played: Replay | None) -> Tensor:
    """How far the one row x = Gᵀ g / gᵀ g moves without the heaviest row of G, relative to its largest entry, (1,).

    The others tell rounding from noise: of a row that outweighs them, the spectrum shows nothing. Where there are none,
    or where all entries are of one size, as signs are and the first step of Adam is, later layers must confirm x.
    """
    layer = target.problem.attacked
    G, g = layer.weight_grad.to(torch.float64), layer.bias_grad.to(torch.float64)
    others = g.masked_fill(g.abs() == g.abs().max(), 0)
    sizes = G[G != 0].abs()
    if not others.any() or sizes.max() - sizes.min() <= ONE_SIZE * sizes.max():
        return found.lengths.new_full((1,), torch.inf if played is None else 0.0)
    apart = others @ G / others.square().sum() - found.inputs[0]
    return (apart.abs().max() / found.inputs.abs().max())[None]


def _vanishing(low_rank: LowRank, found: Reconstruction, played: Replay) -> Tensor:
    """Active units whose ∂L/∂z back-propagation, too, finds too small to tell from zero, shape (k, m).

    Among b m entries some are so small by chance. Of a wrong direction, back-propagation knows nothing of the zero; and
    a fitted loss is no witness (`OutputErrors.named`).
    """
    limit = zero_tolerance(low_rank, found.directions).T * found.lengths.abs()[:, None]
    tiny = (found.output_grads.abs() <= limit) & (played.output_grads.abs() <= limit)
    return tiny & (found.preactivations > 0)


def _replay_residual(played: Replay, found: Reconstruction, limit: float) -> float:
    """The worst of the other layers, and of G = (∂L/∂Z) Xᵀ with the replayed ∂L/∂Z, which each sample must match.

    Rounding blurs a sample's ∂L/∂z = L q where Q = C⁻¹ is ill-conditioned, and blurs the inputs that the replayed
    ∂L/∂Z tells where that matrix is. Either one is this equation, and one of the two must hold.
    """
    if not found.separated:
        return played.residual
    own = found.output_grads
    error = (played.output_grads - own).norm(dim=1) / own.norm(dim=1)
    if not error.max() <= limit:
        low_rank, c = found.low_rank, found.coefficients
        sizes = low_rank.singular_values[: low_rank.batch_size]  # ‖c R‖ = ‖c ∘ S‖
        told = least_squares(played.output_grads.T, low_rank.factor)
        error = torch.minimum(error, ((told - c) * sizes).norm(dim=1) / (c * sizes).norm(dim=1))
    return max(played.residual, float(error.max()))


def expected_error(
    low_rank: LowRank, found: Reconstruction, zeros: Tensor | None, sines: Tensor | None = None
) -> Tensor:
    """What rounding may have done to each row of a complete batch, relative to the inputs' largest entry, shape (k,).

    x_i = c_i R with c_i the i-th row of Q⁻¹, so the error of R comes in times ‖c_i‖; and errors δQ of the
    directions move Xᵀ by −Q⁻¹ δQ Xᵀ. δq_k is the rounding of q_k's zeros, in each singular direction v of their rows
    over its singular value: what c_i · v = 0 hides from sample i may be as blurred as it likes. `zeros` says which
    entries of L Q̄ are zero, shape (m, k), where the directions come from zeros. Where back-propagation holds q_k
    instead, `sines` says how firmly, shape (k,), elsewhere 0.
    """
    if not len(found.coefficients):
        return found.lengths
    largest = found.inputs.abs().max()
    from_rows = found.coefficients.norm(dim=1) * low_rank.entry_noise / largest
    if low_rank.batch_size == 1 or zeros is None:
        return from_rows
    tolerance, L = zero_tolerance(low_rank, found.directions) / low_rank.zero_margin, low_rank.factor
    rounding = torch.where(zeros, tolerance, 0.0).norm(dim=0) * found.lengths
    by_zeros = torch.ones_like(zeros[0]) if sines is None else sines == 0
    blurred, tiny = torch.zeros_like(found.lengths), torch.finfo(torch.float64).tiny
    for gram, size in zip(masked_products(L, L, zeros[:, by_zeros]), rounding[by_zeros], strict=True):
        values, vectors = torch.linalg.eigh(gram)  # the first is q_k itself
        mixed = (found.coefficients @ vectors[:, 1:]).square() / values[1:].clamp_min(tiny)
        blurred += size**2 * mixed.sum(dim=1)
    if sines is not None and not bool(by_zeros.all()):
        apart = (tolerance.norm(dim=0) * found.lengths)[~by_zeros] / sines[~by_zeros]
        blurred += apart.square().sum() * found.coefficients.square().sum(dim=1)
    return from_rows + blurred.sqrt()
