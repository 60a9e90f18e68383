"""Candidates for the directions of an update: random starts, and sparse directions.

Training carries units across their kinks, so among the rows that a sample's scores make most surely zero there are
strays. One set of rows without any is enough (`random_candidates`), or a fit that strays do not pull (`sparse`).
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from spear_core.fedavg.robust import robust_solution
from spear_core.halfspace.alternation import alternate, labels, project
from spear_core.linalg import orthogonal_complement, units
from spear_core.search import Budget
from spear_core.spear.sampling import draw_directions
from spear_core.spear.sparsity import COARSE_ZERO

SUREST = (0.1, 0.15, 0.25, 0.35)  # share of the rows taken for zeros, look by look
TRUSTED = 0.15  # share of the rows that sets are drawn from
DRAWS = 64  # null vectors per candidate


def random_candidates(rows: Tensor, space: Tensor, count: int, budget: Budget) -> Tensor:
    """Unit columns from random starts: what each look of the alternation gives, and the best of random sets."""
    generator = budget.generator
    z = space @ torch.randn(space.shape[1], count, generator=generator).to(space)
    looks = []
    for share in SUREST:
        looks.append(alternate(rows, space, z, round(share * len(rows)), generator=generator))
        z = project(space, labels(rows @ looks[-1]))
        if budget.late:
            return looks[-1]
    return units(torch.cat([*looks[1:], _sparsest(rows, z, generator)], dim=1).to(torch.float64))


def _sparsest(rows: Tensor, scores: Tensor, generator: torch.Generator | None) -> Tensor:
    """For each column of scores: of null vectors of random trusted rows, the one with the most zeros, (b, K)."""
    m, b = rows.shape
    trusted = min(m, max(2 * b, round(TRUSTED * m)))
    best = []
    for surest in scores.topk(trusted, dim=0, largest=False).indices.T:
        inside = normalize(rows[surest], dim=1, eps=torch.finfo(rows.dtype).tiny)
        drawn = draw_directions(inside, DRAWS, generator=generator).directions
        drawn = torch.nan_to_num(drawn / drawn.norm(dim=1, keepdim=True), nan=1.0)
        entries = (rows @ drawn.T).abs()
        best.append(drawn[(entries < COARSE_ZERO * entries.mean(dim=0)).sum(dim=0).argmax()])
    return torch.stack(best, dim=1)


def sparse(rows: Tensor, c: Tensor) -> Tensor:
    """The unit q whose entries A q are mostly zero and a few strays, for its length along c, shape (b, 1)."""
    free = orthogonal_complement(c)
    q = c - free @ robust_solution(rows @ free, rows @ c)
    return q / q.norm()
