"""When is a result proven? Four parts, each of which a wrong batch would fail.

(a) The recovered batch gives the observed gradient of the attacked layer, to rounding.
(b) λ = 1: every zero of ∂L/∂Z is where the forward pass of the recovered sample says it must be. Where the loss is
    known to be cross-entropy, so does back-propagation: entries that it makes too small to tell from zero agree too.
(c) Every direction is unique: its zeros have rank b − 1 in L, even with two of them left out. (λ alone is no
    proof: two samples with the same activation pattern mix freely without touching it.)
(d) Where the rest of the network is known, replaying the client gives the gradient of every other layer.

And rounding must not have been amplified beyond what "exact" allows: near-duplicates can be found and still
be blurred. A row that weighs as much as several stands for copies, or for samples that float32 cannot tell from copies
and between which it lies: it is not certified.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from spear_core.certificate.output_errors import OutputErrors
from spear_core.certificate.replay import Replay, replay
from spear_core.consistency.witness import judge, told_by_patterns
from spear_core.problem import Problem
from spear_core.spear.low_rank import LowRank
from spear_core.spear.reconstruction import Reconstruction, gradient_residual
from spear_core.spear.sparsity import zero_tolerance
from spear_core.spear.zeros import masked_grams, weigh
from spear_core.tolerances import (
    ALLOWED_ERROR,
    noise_per_entry,
    precision,
    replay_residual,
    rounding_residual,
    weight_rounding,
)

GRADIENT, ZEROS = "gradient reproduced", "zeros agree (λ = 1)"
UNIQUE, REPLAY = "samples unique", "client replayed"


@dataclass(frozen=True)
class Certificate:
    """What was checked, and what came out.

    Attributes:
        batch_size: b; the batch is complete if it has so many rows.
        gradient_residual: (a), relative.
        limit: relative residual up to which a gradient counts as reproduced to rounding.
        agreeing_rows: (b), whether all units of a sample agree with the forward pass, shape (k,); None where
            zeros say nothing.
        unique_rows: (c), whether nothing but this sample fits its equations, shape (k,).
        independent_rows: whether a sample is proven on its own, by the next layer's row space, shape (k,).
        replay_residual: (d), relative; NaN where it could not be replayed.
        expected_error: what rounding may have done to each row, relative to the largest input, shape (k,).
        labels: class of each sample, −1 where no single one explains it (see `OutputErrors`), or None.
        output_grads: (∂L/∂Z)ᵀ, shape (k, m).
        plural_rows: which rows may stand for several samples, and lie between them, shape (k,).
        uneven: whether cross-entropy explains each sample with a factor of its own only.
        copies: labels of all copies of a sample that is in the batch several times with different ones, by row.
    """

    batch_size: int
    gradient_residual: float
    limit: float
    agreeing_rows: Tensor | None
    unique_rows: Tensor
    independent_rows: Tensor
    replay_residual: float
    expected_error: Tensor
    labels: Tensor | None
    output_grads: Tensor
    plural_rows: Tensor
    uneven: bool = False
    copies: dict[int, tuple[int, ...]] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether all b samples are there."""
        return len(self.unique_rows) == self.batch_size

    @property
    def sharp_rows(self) -> Tensor:
        """Whether rounding was not amplified beyond what "exact" allows, shape (k,)."""
        return self.expected_error <= ALLOWED_ERROR

    @property
    def parts(self) -> dict[str, bool | None]:
        """The parts by name: True, False, or None where a part could not be checked."""
        agree, replayed = self.agreeing_rows, self.replay_residual
        return {
            GRADIENT: self.complete and self.gradient_residual <= self.limit,
            ZEROS: None if agree is None else self.complete and bool(agree.all()),
            UNIQUE: self.complete and bool(self.unique_rows.all()),
            REPLAY: None if replayed != replayed else replayed <= self.limit,
        }

    @property
    def certified_rows(self) -> Tensor:
        """Which rows are proven, shape (k,).

        Rows of a complete batch share one matrix Q, so one wrong direction voids all. Of an incomplete one, or where
        some directions are not unique, those count that are proven on their own.
        """
        alone = self.independent_rows & self.unique_rows & self.sharp_rows
        if not self.complete:
            return alone
        failed = {name for name, part in self.parts.items() if part is False}
        own = alone if failed == {UNIQUE} else torch.full_like(alone, not failed)
        return own & self.sharp_rows & ~self.plural_rows

    @property
    def notes(self) -> tuple[str, ...]:
        """What failed, in words."""
        if not self.complete:
            return ()
        k = len(self.unique_rows)
        disagree = 0 if self.agreeing_rows is None else int((~self.agreeing_rows).sum())
        reasons = {
            GRADIENT: f"the recovered batch gives a gradient that is off by {self.gradient_residual:.1e}",
            ZEROS: f"λ < 1 in {disagree} of {k} samples: "
            "wrong directions, weights that do not match this gradient, or noise on it",
            UNIQUE: f"{int((~self.unique_rows).sum())} of {k} samples are not unique: "
            "too similar to others to tell apart by their zeros",
            REPLAY: f"replaying the client misses the other layers by {self.replay_residual:.1e}",
        }
        notes = [reasons[name] for name, part in self.parts.items() if part is False]
        if not self.sharp_rows.all():
            blurred = int((~self.sharp_rows).sum())
            notes.append(
                f"rounding is amplified beyond exactness in {blurred} of {k} samples (near-duplicates?)"
            )
        if self.plural_rows.any():
            notes.append(
                f"{int(self.plural_rows.sum())} of {k} samples weigh as much as several of the others: copies of one, "
                "or samples so alike that this gradient shows one row between them"
            )
        elif self.uneven:
            notes.append(
                "samples weigh differently: one may be in the batch several times, which inputs cannot tell "
                "from gradients that were clipped one by one"
            )
        notes += [
            f"sample {row} is in the batch {len(labels)} times, with labels {', '.join(map(str, labels))}"
            for row, labels in self.copies.items()
        ]
        odd = 0 if self.labels is None else int((self.labels < 0).sum()) - len(self.copies)
        if odd:
            notes.append(f"the loss of {odd} of {k} samples is not that of one label")
        return tuple(notes)


def certify(
    problem: Problem,
    low_rank: LowRank,
    found: Reconstruction,
    *,
    batch_size: int | None = None,
    judged: bool = False,
    known: Certificate | None = None,
    generator: torch.Generator | None = None,
) -> Certificate:
    """Check a reconstructed batch.

    Args:
        problem: the attacked layer and what follows it.
        low_rank: the split of its gradient.
        found: the batch; it need not be complete.
        batch_size: b; by default the rank of the split.
        judged: whether every sample was already judged by the next layer's row space (`consistency`).
        known: of the same directions with coefficients that differ by rounding; what it says of them holds on.
        generator: CPU generator, for the inverse iterations of the next layer's proof.
    """
    layer, b = problem.attacked, batch_size or low_rank.batch_size
    k = len(found.coefficients)
    separated = bool(found.directions.isfinite().all())
    grads = found.output_grads if separated else None
    played = replay(problem, found.preactivations, grads) if k == b else None
    output_grads = played.output_grads if played is not None and not separated else found.output_grads
    if known is not None and bool(known.unique_rows.all()):
        unique, independent, error = known.unique_rows, known.independent_rows, known.expected_error
    else:
        unique, independent, error = _told_apart(problem, low_rank, found, played, b, judged, generator)
    agreement = found.agreement
    if agreement is not None and played is not None:
        agreement = agreement | (_vanishing(low_rank, found, played) & played.loss.named[:, None])
    agree = None if agreement is None else agreement.all(dim=1)
    complete_grads = output_grads.isfinite().all()
    limit = _limit(problem, low_rank)
    return Certificate(
        batch_size=b,
        gradient_residual=gradient_residual(found, layer, None if separated else output_grads)
        if complete_grads
        else torch.inf,
        limit=limit,
        agreeing_rows=agree,
        unique_rows=unique,
        independent_rows=independent,
        replay_residual=_replay_residual(played, found, limit),
        expected_error=error,
        labels=None if played is None else played.loss.labels,
        plural_rows=torch.zeros_like(unique) if played is None else plural_rows(low_rank, played.loss),
        uneven=played is not None and played.loss.uneven,
        output_grads=output_grads,
        copies={} if played is None else played.loss.copies,
    )


def _told_apart(
    problem: Problem,
    low_rank: LowRank,
    found: Reconstruction,
    played: Replay | None,
    batch_size: int,
    judged: bool,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Part (c) for each row: whether it is unique, whether it is proven on its own, and its expected error."""
    k = len(found.coefficients)
    separated = bool(found.directions.isfinite().all())
    zeros = None
    if found.agreement is not None and not judged:
        zeros = (low_rank.factor @ found.directions).abs() <= zero_tolerance(low_rank, found.directions)
    error = expected_error(low_rank, found, zeros)
    unique = torch.ones(k, dtype=torch.bool, device=found.coefficients.device)
    if zeros is not None:
        unique = weigh(low_rank, found.directions, generator=generator).firm
        if played is not None and not unique[played.loss.named].all():
            unique = unique | (told_by_patterns(problem, low_rank, found.preactivations) & played.loss.named)
    independent = torch.zeros_like(unique)
    if k and len(problem.layers) > 1 and not (bool(unique.all()) and k == batch_size and separated):
        independent, own_error = judge(problem, low_rank, found.coefficients, generator=generator)
        own_error = own_error / found.inputs.abs().max()
        # where its zeros do not pin a sample down, or not sharply, the next layer may; what the next layer
        # alone has found is as sharp as that layer makes it
        if zeros is None or not separated:
            error = own_error
        else:
            error = torch.where(independent, torch.minimum(own_error, error), error)
        unique = unique & independent if zeros is None else unique | independent
    elif k and judged:
        error = torch.maximum(error, _own_error(problem, low_rank, found, generator))
    return unique, independent, error


def plural_rows(low_rank: LowRank, loss: OutputErrors) -> Tensor:
    """Which rows may stand for several samples, shape (k,): those that weigh as much as several of one label.

    Samples of one label and one activation pattern whose ∂L/∂z hardly differ send what their mean would send that many
    times: their distance enters G squared. So rounding hides distances up to about its square root, which
    in float32 is more than "exact" allows, and in float64 is not.

    Args:
        low_rank: the split of G.
        loss: of the replayed batch.
    """
    return loss.plural if low_rank.noise**0.5 > ALLOWED_ERROR else torch.zeros_like(loss.plural)


def _limit(problem: Problem, low_rank: LowRank) -> float:
    """Relative residual up to which a gradient, or the update of one step, counts as reproduced."""
    layers = problem.layers
    limit = rounding_residual(max(low_rank.noise, precision(layers[0].weight_grad.dtype) / 16))
    if not low_rank.even:
        return limit
    rounding = weight_rounding([layer.weight for layer in layers], [layer.weight_grad for layer in layers])
    return max(limit, replay_residual(rounding))


def _own_error(
    problem: Problem, low_rank: LowRank, found: Reconstruction, generator: torch.Generator | None
) -> Tensor:
    """What rounding may have done to samples that the next layer's row space told, relative to the largest input."""
    inputs = found.inputs
    if found.errors is None:
        return judge(problem, low_rank, found.coefficients, generator=generator)[1] / inputs.abs().max()
    return found.errors * inputs.square().mean(dim=1).sqrt() / inputs.abs().max()


def _vanishing(low_rank: LowRank, found: Reconstruction, played: Replay) -> Tensor:
    """Active units whose ∂L/∂z back-propagation, too, finds too small to tell from zero, shape (k, m).

    Among b m entries some are so small by chance. Of a wrong direction, back-propagation knows nothing of the zero; and
    a fitted loss is no witness (`OutputErrors.named`).
    """
    limit = zero_tolerance(low_rank, found.directions).T * found.lengths.abs()[:, None]
    tiny = (found.output_grads.abs() <= limit) & (played.output_grads.abs() <= limit)
    return tiny & (found.preactivations > 0)


def _replay_residual(played: Replay | None, found: Reconstruction, limit: float) -> float:
    """The worst of the other layers, and of G = (∂L/∂Z) Xᵀ with the replayed ∂L/∂Z, which each sample must match.

    Rounding blurs a sample's ∂L/∂z = L q where Q = C⁻¹ is ill-conditioned, and blurs the inputs that the replayed
    ∂L/∂Z tells where that matrix is. Either one is this equation, and one of the two must hold.
    """
    if played is None:
        return torch.nan
    if not found.directions.isfinite().all():
        return played.residual
    own = found.output_grads
    error = (played.output_grads - own).norm(dim=1) / own.norm(dim=1)
    if not error.max() <= limit:
        low_rank, c = found.low_rank, found.coefficients
        sizes = low_rank.singular_values[: low_rank.batch_size]  # ‖c R‖ = ‖c ∘ S‖
        told = torch.linalg.lstsq(played.output_grads.T, low_rank.factor).solution
        error = torch.minimum(error, ((told - c) * sizes).norm(dim=1) / (c * sizes).norm(dim=1))
    return max(played.residual, float(error.max()))


def expected_error(low_rank: LowRank, found: Reconstruction, zeros: Tensor | None) -> Tensor:
    """What rounding may have done to each row, relative to the inputs' largest entry, shape (k,).

    x_i = c_i R with c_i the i-th row of Q⁻¹, so the error of R comes in times ‖c_i‖; and errors δQ of the
    directions move Xᵀ by −Q⁻¹ δQ Xᵀ. δq_k is the rounding of q_k's zeros, in each singular direction v of their rows
    over its singular value: what c_i · v = 0 hides from sample i may be as blurred as it likes.

    Args:
        low_rank: the split of G.
        found: the batch.
        zeros: which entries of L Q̄ are zero, shape (m, k), where the directions come from zeros; else None.
    """
    m, n = low_rank.factor.shape[0], low_rank.rows.shape[1]
    if not len(found.coefficients):
        return found.lengths
    largest = found.inputs.abs().max()
    S = low_rank.singular_values[: low_rank.batch_size]
    floor = max(low_rank.floor, torch.finfo(torch.float64).eps * float(S[0]))
    amplified = found.coefficients.norm(dim=1)
    from_rows = amplified * noise_per_entry(floor, (m, n)) / largest
    if low_rank.batch_size == 1 or zeros is None:
        return from_rows
    tolerance = zero_tolerance(low_rank, found.directions) / low_rank.zero_margin
    rounding = torch.where(zeros, tolerance, 0.0).norm(dim=0) * found.lengths
    blurred, tiny = torch.zeros_like(found.lengths), torch.finfo(torch.float64).tiny
    for gram, size in zip(masked_grams(low_rank.factor, zeros), rounding, strict=True):
        values, vectors = torch.linalg.eigh(gram)  # the first is q_k itself
        blurred += size**2 * (
            (found.coefficients @ vectors[:, 1:]).square() / values[1:].clamp_min(tiny)
        ).sum(dim=1)
    return from_rows + blurred.sqrt()
