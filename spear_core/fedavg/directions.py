"""Directions from the update of several local steps (FedAvg): the zeros that survive training.

The update of the first layer is still a product, W₀ − W_T = η Σ_t (∂L/∂Z_t)ᵀ Xᵀ = L R, with one column η Σ_t ∂L/∂z_i(t)
per sample, and that column is exactly zero where the unit stays inactive in sample i through all steps. So
SPEAR's zeros are there, only fewer: units near zero change sides while the client trains. Therefore only the
rows with the most negative scores are trusted (`candidates`). The rest is the half-space alternation
(`halfspace`).
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from spear_core.fedavg.candidates import SUREST, random_candidates, sparse
from spear_core.halfspace.alternation import scoring_space
from spear_core.halfspace.confirm import with_independent
from spear_core.halfspace.search import FEWEST_WALKERS
from spear_core.linalg import orthogonal_complement, orthonormal
from spear_core.search import Budget, Target
from spear_core.spear.low_rank import LowRank
from spear_core.spear.reconstruction import reconstruct
from spear_core.spear.records import Forward
from spear_core.spear.sparsity import FULLY_EXPLORED, explored_spaces
from spear_core.spear.uniqueness import weigh
from spear_core.spear.zeros import fit, zeros_of
from spear_core.tolerances import SAME_DIRECTION

WALKERS = 2  # per missing sample
MOST_INSIDE = 4  # directions inside shared spaces that one round looks at, or a few more
ACTIVE = 0.3  # of the rms of z; a unit above that at the start is hardly inactive in all later steps
CONTRADICTIONS = 0.04  # share of its zeros that may be at such units before a direction is refused
LENIENT = 3  # rounds without a find, after which what chance may have pinned down is taken as well
DESPERATE = 6  # and after which the last sample's direction need not be unique
STARTS_PER_SAMPLE = 60  # default budget


def rounds(target: Target, budget: Budget) -> Iterator[tuple[Tensor, Tensor, int]]:
    """Find the directions of all samples, round by round; by default from 60 random starts per sample.

    Yields:
        After each round, at least one: q_i as unit columns, shape (b, k); whether the zeros of each leave no other
        direction, shape (k,); random starts so far. What is not unique was left over when all others were known, and
        rests on them. Whoever is not content with a complete batch may go on: directions that are zero where their
        sample seems active are looked for anew.
    """
    low_rank, forward, generator = target.low_rank, target.forward, budget.generator
    L, b = low_rank.factor, low_rank.batch_size
    scores, rows = scoring_space(forward), L.to(torch.float32)
    known, refused = L.new_zeros(b, 0), L.new_zeros(b, 0)
    limit = budget.max_samples or STARTS_PER_SAMPLE * b
    starts = idle = 0
    explored: list[Tensor] = []
    while True:
        # random starts in the space that the samples found leave for z
        space = orthonormal(scores @ orthogonal_complement(known)).to(rows)
        count = max(FEWEST_WALKERS, WALKERS * (b - known.shape[1]))
        candidates = random_candidates(rows, space, count, budget)
        if budget.late:
            if not starts:
                yield known, torch.zeros(0, dtype=torch.bool, device=L.device), 0
            return
        found = weigh(low_rank, fit(low_rank, candidates), generator=generator)
        more = _joined(known, refused, found.directions[:, found.unique & (found.firm | (idle >= LENIENT))])
        # similar samples, told apart inside the spaces that their shared zeros leave
        inside = L.new_zeros(b, 0)
        mixed = found.pick(found.shared)
        for few in explored_spaces(low_rank, mixed, explored, largest=FULLY_EXPLORED, generator=generator):
            inside = torch.cat([inside, few], dim=1)
            if inside.shape[1] >= MOST_INSIDE or budget.late:
                break
        apart = weigh(low_rank, inside, generator=generator)
        more = _joined(more, refused, apart.directions[:, apart.firm])
        # the last one, which the others determine
        if more.shape[1] == b - 1:
            last = weigh(low_rank, fit(low_rank, _last(low_rank, scores, more)), generator=generator)
            more = _joined(more, refused, last.directions[:, last.firm | (idle >= DESPERATE)])
        idle = idle + 1 if more.shape[1] == known.shape[1] else 0
        known, starts = more, starts + count
        yield known, weigh(low_rank, known, generator=generator).unique, starts
        # who goes on was not content: what contradicts its own sample is refused for good
        if known.shape[1] == b:
            wrong = _disagree(low_rank, forward, known)
            refused = torch.cat([refused, known[:, wrong]], dim=1)
            known = known[:, ~wrong]
        if starts >= limit or budget.late or known.shape[1] == b:
            return


def _joined(known: Tensor, refused: Tensor, new: Tensor) -> Tensor:
    """Known directions and those new ones that are independent of them and were not refused, at most b."""
    again = ((refused.T @ new).abs() > 1 - SAME_DIRECTION).any(dim=0)
    return with_independent(known, new[:, new.isfinite().all(dim=0) & ~again])


def _last(low_rank: LowRank, scores: Tensor, known: Tensor) -> Tensor:
    """The direction that is left when b − 1 are known: they give c of the last sample, and so its zeros.

    c · q_i = 0 leaves one line and c · ḡ = 1 its sign (scores are M c). Few of its rows may be zero, so
    several shares of them are tried; column, shape (b, 1), or none.
    """
    L, c = low_rank.factor, orthogonal_complement(known)[:, :1]
    z = (scores @ c)[:, 0]
    best, most = c[:, :0], 0
    for side in (z, -z):
        for share in (*SUREST, 0.5):
            q = sparse(L[side.topk(round(share * len(z)), largest=False).indices], c)
            zeros = int(zeros_of(low_rank, q).sum())
            best, most = (q, zeros) if zeros > most else (best, most)
    return best


def _disagree(low_rank: LowRank, forward: Forward, known: Tensor) -> Tensor:
    """Which of b directions are zero where their sample is clearly active at the start, shape (b,).

    Such a unit has a gradient from the first step that the sample is in. A mixture of two samples spoils the
    inputs of these two only.
    """
    z = reconstruct(forward, known).preactivations.T
    zeros = zeros_of(low_rank, known)
    active = z > ACTIVE * z.square().mean(dim=0).sqrt()
    return (zeros & active).sum(dim=0) > CONTRADICTIONS * zeros.sum(dim=0)
