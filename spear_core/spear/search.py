"""SPEAR's search: sample, filter, select, reconstruct, certify, until the batch is proven.

The loop of the paper, complete, on top of the five steps:

>>> import torch
>>> from spear_core.spear.low_rank import split
>>> from spear_core.spear.records import Forward, Pool
>>> from spear_core.spear.sampling import chunk_sizes, draw_directions, live_rows
>>> from spear_core.spear.selection import greedy, select
>>> from spear_core.spear.sparsity import filter_directions, passes_first_stage
>>> from spear_core.spear.zeros import default_threshold
>>> def spear(layer, generator):
...     low_rank = split(layer.weight_grad, generator=generator)  # step 1: G = L R, and b
...     b, L, forward = low_rank.batch_size, low_rank.factor, Forward.of(low_rank, layer)
...     rows = L[live_rows(L)]
...     rows = (rows / rows.norm(dim=1, keepdim=True)).to(torch.float32)
...     pool, tau = Pool.empty(b, L.device), default_threshold(low_rank)
...     for size in chunk_sizes(b):
...         draw = draw_directions(rows, size, generator=generator)  # step 2: null vectors of b − 1 rows
...         kept = draw.directions[passes_first_stage(draw, rows, generator=generator)]  # step 3: enough zeros?
...         pool = filter_directions(kept, low_rank, pool, threshold=tau, generator=generator)
...         if len(greedy(pool)) == b:
...             *_, best = select(pool, forward)  # steps 4 and 5: swap until λ = 1, scale, invert
...             if best.sparsity_match == 1:
...                 return best.reconstruction.inputs
>>> from spear_core.client import data, gradients, networks
>>> from spear_core.problem import LinearLayer
>>> batch = data.load("photos", 4, size=16, generator=torch.Generator().manual_seed(0))
>>> model = networks.fully_connected(768, width=100, generator=torch.Generator().manual_seed(1))
>>> sent = gradients(model, batch.inputs, batch.labels)
>>> layer = LinearLayer(sent["0.weight"], sent["0.bias"], model[0].weight.detach(), model[0].bias.detach())
>>> found = spear(layer, torch.Generator().manual_seed(0))
>>> bool((torch.cdist(found, batch.inputs.double()).amin(dim=0) < 1e-3).all())
True

`search` is that loop for every day: it starts from what other methods have proven, completes the last samples without
luck (`completion`), gives up, and certifies.
"""

import time
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from spear_core.certificate.certify import certified
from spear_core.search import Budget, Method, State, Step, Target
from spear_core.spear.completion import Completion
from spear_core.spear.records import Forward, Pool
from spear_core.spear.sampling import chunk_sizes, draw_directions, expected_draws, live_rows
from spear_core.spear.selection import greedy, select
from spear_core.spear.sparsity import filter_directions, join, passes_first_stage
from spear_core.spear.zeros import default_threshold, null_space
from spear_core.tolerances import EXPLAINED_FLOOR, precision

PATIENCE = 64  # times the expected number of draws, after which the search gives up
LAST_SWAPS = (2.0, 0.3)  # seconds for the last selection, after an interruption and past a time limit
MINIMUM_DRAWS = 2**22  # below that many draws the search never gives up: they take a second or two
NOISY_DRAWS = 2**18  # the same of a gradient so noisy that no find could be proven
EXCHANGE = 2**16  # draws between two exchanges of processes: they take a few milliseconds


def search(target: Target, before: State, budget: Budget) -> Iterator[State]:
    """Steps 2 to 5 as a generator of states; see `spear_core.search.Search`.

    Args:
        target: the attacked layer, followed by ReLU.
        before: what another method has proven leaves a smaller space to search.
        budget: by default, `PATIENCE` times the draws that theory expects.

    Yields:
        A state after every chunk of candidates and every improvement of the selection; the last one holds the
        certificate of the best batch, proven or not, and the reason for stopping if it is not.
    """
    low_rank, generator, b = target.low_rank, budget.generator, target.low_rank.batch_size
    least = NOISY_DRAWS if low_rank.noise > EXPLAINED_FLOOR * precision(torch.float32) else MINIMUM_DRAWS
    limit = budget.max_samples or max(least, int(PATIENCE * expected_draws(b)))
    state, space = _beginning(target, before)
    rows = _live_rows(low_rank.factor @ space)
    drawn, settled_at, completion = 0, limit, Completion(target.forward)
    for size in chunk_sizes(space.shape[1]):
        began = time.perf_counter()
        draw = draw_directions(rows, min(size, limit - drawn), generator=generator)
        passed = draw.directions[:, 0].isfinite()
        if space.shape[1] > 1:  # in one dimension every row is the direction, and none is left to test it on
            passed = passes_first_stage(draw, rows, generator=generator)
        candidates = draw.directions[passed] @ space.T.to(rows.dtype)
        drawn += (size := len(draw.directions))
        tau = default_threshold(low_rank)
        sampled = filter_directions(
            candidates, low_rank, state.pool, threshold=tau, generator=generator, deadline=budget.deadline
        )
        if budget.listen is not None:
            budget.listen(draw, passed, sampled)
        pool = completion.advance(sampled, drawn, generator=generator, deadline=budget.deadline)
        grown = int(pool.unique.sum()) > int(state.pool.unique.sum()) or len(pool) > len(sampled)
        state = replace(state, step=Step.SAMPLING, pool=pool, samples_drawn=state.samples_drawn + size)
        state = state.timed(Step.SAMPLING, began)
        yield state
        if (grown or state.reconstruction is None) and len(greedy(pool)) == b:
            for better in selected(target, state, budget):
                state = better
                yield state
            if state.solved:
                return
            if bool(pool.unique[list(state.chosen)].all()):
                # b unique directions are all there are; a little longer, in case one is a stray
                settled_at = min(settled_at, 4 * drawn)
                if state.sparsity_match == 1:
                    return
        if budget.late or drawn >= min(limit, settled_at):
            break
    yield from conclude(target, replace(state, notes=_reasons(drawn, limit, budget)), budget)


def _beginning(target: Target, before: State) -> tuple[State, Tensor]:
    """The state to start from, and the space that is left: c_k · q_i = 0, what is found is orthogonal to the rest."""
    proven = before.proven_coefficients
    pool = pool_of(proven, target.forward, before.pool)
    method = f"{before.method}+sampling" if len(pool) else "sampling"
    state = replace(before, method=method, pool=pool, reconstruction=None, certificate=None)
    return state, torch.linalg.svd(proven, full_matrices=True)[2][len(proven) :].T


def _live_rows(factor: Tensor) -> Tensor:
    """Rows that some sample activates, of length one, in float32: what survives is fitted in float64."""
    rows = factor[live_rows(factor)]
    return (rows / rows.norm(dim=1, keepdim=True)).to(torch.float32)


def pool_of(coefficients: Tensor, forward: Forward, pool: Pool) -> Pool:
    """A pool with the directions of known samples: the null vector of the rows in which each is inactive."""
    low_rank = forward.low_rank
    for z in forward.preactivations(coefficients):
        kernel = null_space(low_rank, z < 0)
        if kernel.shape[1] == 1:
            pool = join(kernel, low_rank, pool, default_threshold(low_rank))
    return pool


def _reasons(drawn: int, limit: int, budget: Budget) -> tuple[str, ...]:
    if budget.late:
        return (f"stopped at the time limit after {drawn:,} draws",)
    return (f"stopped after {drawn:,} draws",) if drawn >= limit else ()


def conclude(target: Target, state: State, budget: Budget) -> Iterator[State]:
    """Make the best of what was found so far: select, reconstruct and certify, whatever is missing.

    Args:
        target: the attacked layer and what follows it.
        state: any state, for example the last one before an interruption.
        budget: the last selection has `LAST_SWAPS` seconds, fewer if its deadline has passed.
    """
    if len(state.pool) and not state.solved:
        deadline = time.monotonic() + LAST_SWAPS[budget.late]
        yield from selected(target, state, replace(budget, deadline=deadline))
    else:
        yield replace(state, step=Step.CERTIFICATE)


def selected(target: Target, state: State, budget: Budget) -> Iterator[State]:
    """Steps 4 and 5 on the pool of a state; the certificate last."""
    began = time.perf_counter()
    for selection in select(state.pool, target.forward, deadline=budget.deadline):
        state = replace(
            state,
            step=Step.SELECTION,
            chosen=selection.chosen,
            reconstruction=selection.reconstruction,
            certificate=None,
        )
        yield state
    yield certified(target, state.timed(Step.SELECTION, began), budget)


SAMPLING = Method("sampling", search, conclude, exchange_every=EXCHANGE)
