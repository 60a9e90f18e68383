"""When is a result proven? Four parts, each of which a wrong batch would fail.

(a) The recovered batch gives the observed gradient of the attacked layer, to rounding.
(b) λ = 1: every zero of ∂L/∂Z is where the forward pass of the recovered sample says it must be.
(c) Every direction is unique: its zeros have rank b − 1 in L, even with two of them left out. (λ alone is no
    proof: two samples with the same activation pattern mix freely without touching it.)
(d) Where the rest of the network is known, replaying the client gives the gradient of every other layer.

And rounding must not have been amplified beyond what "exact" allows: near-duplicates can be found and still
be blurred.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from spear_core.low_rank import LowRank
from spear_core.problem import Problem
from spear_core.reconstruction import Reconstruction, gradient_residual
from spear_core.replay import Replay, replay
from spear_core.sparsity import is_unique, null_space, zero_tolerance
from spear_core.tolerances import ALLOWED_ERROR, ZERO_MARGIN, noise_per_entry, rounding_residual


@dataclass(frozen=True)
class Certificate:
    """What was checked, and what came out.

    Attributes:
        gradient_residual: (a), relative.
        agreeing_rows: (b), whether all units of a sample agree with the forward pass, shape (k,).
        unique_rows: (c), whether a sample's direction is unique, shape (k,).
        replay_residual: (d), relative; NaN where it could not be replayed.
        expected_error: what rounding may have done to each row, relative to the size of the inputs, shape (k,).
        gradient_matches: (a) to rounding.
        replay_matches: (d) to rounding; None where it could not be replayed.
        complete: whether all b samples are there.
        labels: class of each sample, or None.
    """

    gradient_residual: float
    agreeing_rows: Tensor
    unique_rows: Tensor
    replay_residual: float
    expected_error: Tensor
    gradient_matches: bool
    replay_matches: bool | None
    complete: bool
    labels: Tensor | None

    @property
    def sharp_rows(self) -> Tensor:
        """Whether rounding was not amplified beyond what "exact" allows, shape (k,)."""
        return self.expected_error <= ALLOWED_ERROR

    @property
    def parts(self) -> dict[str, bool | None]:
        """The parts by name: True, False, or None where a part could not be checked."""
        return {
            "gradient reproduced": self.gradient_matches and self.complete,
            "zeros agree (λ = 1)": self.complete and bool(self.agreeing_rows.all()),
            "directions unique": self.complete and bool(self.unique_rows.all()),
            "client replayed": self.replay_matches,
        }

    @property
    def certified_rows(self) -> Tensor:
        """Which rows are proven. Rows share one matrix Q, so one wrong direction voids all, shape (k,)."""
        proven = all(part is not False for part in self.parts.values())
        return self.sharp_rows & proven

    @property
    def notes(self) -> tuple[str, ...]:
        """What failed, in words."""
        reasons = {
            "gradient reproduced": f"the recovered batch gives a gradient that is off by {self.gradient_residual:.1e}",
            "zeros agree (λ = 1)": f"λ < 1 in {int((~self.agreeing_rows).sum())} samples: "
            "wrong directions, or weights that do not match this gradient",
            "directions unique": f"{int((~self.unique_rows).sum())} directions are not unique: "
            "samples too similar to tell apart by their zeros",
            "client replayed": f"replaying the client misses the other layers by {self.replay_residual:.1e}",
        }
        notes = [reasons[name] for name, part in self.parts.items() if part is False] if self.complete else []
        if self.complete and not self.sharp_rows.all():
            notes.append(f"rounding is amplified in {int((~self.sharp_rows).sum())} near-duplicate samples")
        return tuple(notes)


def certify(
    problem: Problem, low_rank: LowRank, found: Reconstruction, *, generator: torch.Generator | None = None
) -> Certificate:
    """Check a reconstructed batch.

    Args:
        problem: the attacked layer and what follows it.
        low_rank: the split of its gradient.
        found: the batch; it need not be complete.
        generator: CPU generator, for the columns that are compared.
    """
    layer = problem.attacked
    complete = len(found.inputs) == low_rank.batch_size
    zeros = (low_rank.factor @ found.directions).abs() <= zero_tolerance(low_rank, found.directions)
    played = replay(problem, found.preactivations) if complete else None
    residual = gradient_residual(found, layer, generator=generator)
    limit = rounding_residual(low_rank.noise)
    played_residual = _replay_residual(played, found)
    return Certificate(
        gradient_residual=residual,
        agreeing_rows=found.agreement.all(dim=1),
        unique_rows=torch.tensor([is_unique(low_rank, column) for column in zeros.T], device=zeros.device),
        replay_residual=played_residual,
        expected_error=expected_error(low_rank, found, zeros),
        gradient_matches=residual <= limit,
        replay_matches=None if played is None else played_residual <= limit,
        complete=complete,
        labels=None if played is None or played_residual > limit else played.labels,
    )


def _replay_residual(played: Replay | None, found: Reconstruction) -> float:
    """The worst of the other layers, and of ∂L/∂z itself, which each sample must match on its own."""
    if played is None:
        return torch.nan
    error = (played.output_grads - found.output_grads).norm(dim=1) / found.output_grads.norm(dim=1)
    return max(played.residual, float(error.max()))


def expected_error(low_rank: LowRank, found: Reconstruction, zeros: Tensor) -> Tensor:
    """What rounding in G may have done to each recovered row, relative to the inputs' largest entry, shape (k,).

    x_i = c_i R with c_i the i-th row of Q⁻¹, so the error of R comes in times ‖c_i‖; and errors δQ of the
    directions move Xᵀ by −Q⁻¹ δQ Xᵀ, where δq_i is the rounding of its zeros over their second singular value.

    Args:
        low_rank: the split of G.
        found: the batch.
        zeros: which entries of L Q̄ are zero, shape (m, k).
    """
    m, n = low_rank.factor.shape[0], low_rank.rows.shape[1]
    largest = found.inputs.abs().max()
    S = low_rank.singular_values[: low_rank.batch_size]
    floor = max(low_rank.floor, torch.finfo(torch.float64).eps * float(S[0]))
    amplified = found.coefficients.norm(dim=1)
    from_rows = amplified * noise_per_entry(floor, (m, n))
    if low_rank.batch_size == 1:
        return from_rows / largest
    tolerance = zero_tolerance(low_rank, found.directions) / ZERO_MARGIN
    turned = torch.stack(
        [tolerance[rows, k].norm() / null_space(low_rank, rows)[1][1] for k, rows in enumerate(zeros.T)]
    )
    directions_error = (found.lengths * turned).norm()
    return from_rows / largest + amplified * directions_error
