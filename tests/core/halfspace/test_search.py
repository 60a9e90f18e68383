"""Half-spaces: one layer alone gives the batch, and what its zeros prove is counted right."""

import itertools

import pytest
import torch

import spear_core
from spear_core import client
from spear_core.client import data
from spear_core.client.networks import fully_connected
from spear_core.halfspace import search as halfspace
from spear_core.halfspace.alternation import scoring_space, smallest_singular
from spear_core.halfspace.confirm import is_halfspace
from spear_core.linalg import orthonormal
from spear_core.search import Budget
from spear_core.spear.low_rank import LowRank
from spear_core.spear.uniqueness import pinning, shared_kernel, weigh
from spear_core.study import metrics
from tests.core.attacked import gaussian, photos
from tests.core.zoo import seeded

ROWS, SHARED, OWN, LATENT = 400, 150, 12, 8


@pytest.mark.parametrize(("b", "m", "seed"), [(12, 200, 0), (24, 400, 3), (40, 400, 2)])
def test_one_layer_alone_gives_the_batch(b, m, seed, dtype):
    batch = data.load("photos", b, size=16, generator=seeded(seed), dtype=dtype)
    model = fully_connected(768, m, 3, generator=seeded(seed)).to(dtype)
    sent = client.gradients(model, batch.inputs, batch.labels)
    known = [p.detach() for p in model[0].parameters()]
    found = spear_core.invert_layer(
        sent["0.weight"], sent["0.bias"], *known, method="halfspace", time_limit=60, batch_size=b
    )
    assert found.certified and found.method == "halfspace"
    assert metrics.compare(found.inputs, batch.inputs).psnr.min() >= metrics.EXACT_DB


def test_what_is_sought_apart_from_a_known_direction_is_not_that_direction():
    """Of two null vectors of the surest rows, one known, the inverse iteration finds the other one."""
    L = torch.linalg.qr(torch.randn(60, 5, generator=seeded()))[0]
    first, second = torch.linalg.qr(torch.randn(5, 2, generator=seeded(1)))[0].T
    L[:20] -= L[:20] @ torch.outer(first, first) + L[:20] @ torch.outer(second, second)
    scores = torch.ones(60, 1)
    scores[:20] = -1
    known = (first + 0.1 * second)[:, None]
    known = known / known.norm()
    left = torch.linalg.qr(known, mode="complete")[0][:, 1:]
    q = smallest_singular(L, scores, 20, torch.ones(5, 1), left)
    plane = torch.stack([first, second], dim=1)
    assert float((plane.T @ q).norm()) > 1 - 1e-4  # a null vector
    assert abs(float(known.T @ q)) < 1e-2  # and not the known one


def test_rows_that_pin_are_those_without_which_the_rest_lose_a_rank():
    rows = torch.randn(30, 4, dtype=torch.float64, generator=seeded())
    rows[:, 0] = 0
    rows[3, 0] = 1.0  # alone
    rows[:, 1] = 0
    rows[[7, 9], 1] = 1.0  # the two together
    whitened = torch.linalg.qr(rows)[0].T
    lost = torch.zeros(30, dtype=torch.bool)
    for taken in [*itertools.combinations(range(30), 1), *itertools.combinations(range(30), 2)]:
        kept = [j for j in range(30) if j not in taken]
        alone = len(taken) == 2 and 3 in taken  # which says nothing about the other
        if not alone and torch.linalg.matrix_rank(rows[kept]) < 4:
            lost[list(taken)] = True
    assert pinning(whitened).equal(lost)


def family(alike: int, by_chance: int, seed: int = 0) -> tuple[LowRank, torch.Tensor, torch.Tensor]:
    """A few similar samples, and a mixture of them that is zero on a few more rows than pick it.

    Returns:
        The split, the direction of the first sample, and that of the mixture.
    """
    generator = seeded(seed)
    columns = torch.randn(ROWS, LATENT, dtype=torch.float64, generator=generator)
    columns[:SHARED, :alike] = 0  # zeros that they have in common
    for k in range(alike):
        columns[SHARED + OWN * k :][:OWN, k] = 0  # and own ones
    for k in range(alike, LATENT):
        columns[torch.randperm(ROWS, generator=generator)[: ROWS // 2], k] = 0
    mixture = torch.zeros(LATENT, dtype=torch.float64)
    mixture[:alike] = torch.tensor([1.0, -0.7, 0.4, -0.5])[:alike]
    rows, last = slice(-by_chance, None), alike - 1
    columns[rows, last] = -(columns[rows, :last] @ mixture[:last]) / mixture[last]
    factor, triangle = torch.linalg.qr(columns)
    directions = triangle @ torch.stack([torch.eye(LATENT, dtype=torch.float64)[0], mixture], dim=1)
    values = torch.cat([torch.ones(LATENT), torch.full((8,), 1e-8)]).to(torch.float64)
    split = LowRank(factor, torch.eye(LATENT, 50, dtype=torch.float64), values, 1e-8, complete=True)
    return split, *(directions / directions.norm(dim=0)).split(1, dim=1)


@pytest.mark.parametrize("seed", [0, 1, 3, 4])
def test_a_mixture_of_four_with_a_few_more_zeros_is_not_firm(seed):
    low_rank, sample, mixture = family(4, by_chance=7, seed=seed)
    judged = weigh(low_rank, torch.cat([sample, mixture], dim=1), generator=seeded())
    assert judged.unique.tolist() == [True, True]  # no two rows pin the mixture
    assert judged.firm.tolist() == [True, False]


def test_a_row_that_pins_a_mixture_alone_leaves_the_plane_of_the_two():
    low_rank, _, mixture = family(3, by_chance=3)
    zeros = (low_rank.factor @ mixture).abs()[:, 0] < 1e-12
    zeros[ROWS - 1] = False  # of the three rows two are left, of which each is needed
    kernel, rows = shared_kernel(low_rank, zeros)
    assert kernel.shape[1] == 3 and int(rows.sum()) == SHARED


def test_patterns_of_samples_are_half_spaces_and_those_of_mixtures_are_not(device):
    case = gaussian(6, device=device)
    scores = scoring_space(case.target.forward)
    space = orthonormal(scores).to(torch.float32)
    zeros = case.zeros
    both = zeros[:, :3] & zeros[:, 3:]
    masks = torch.cat([zeros, both], dim=1)
    assert is_halfspace(space, masks, torch.ones_like(masks), 0.01).tolist() == [True] * 6 + [False] * 3


def test_the_search_leaves_at_most_what_completion_finds():
    case = photos(10, 150)
    *_, (directions, _) = halfspace.rounds(case.target, Budget(seeded()))
    Q = case.directions(case.low_rank)
    assert directions.shape[1] >= 10 - halfspace.LAST
    assert float((Q.T @ directions).abs().amax(dim=0).min()) > 1 - 1e-9
