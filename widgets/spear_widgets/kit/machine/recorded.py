"""A run of `spear_core.states` by SPEAR's own sampling, with every draw of it, and what a page needs to play it."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

import spear_core
from spear_core.certificate.record import Part
from spear_core.certificate.words import notes
from spear_core.errors import InputError
from spear_core.search import State
from spear_core.spear.reconstruction import reconstruct
from spear_core.spear.sampling import expected_draws, live_rows
from spear_core.spear.sparsity import COARSE_ZERO, FIRST_ROWS
from spear_core.spear.zeros import default_threshold
from spear_core.study.metrics import compare
from spear_core.study.trace import Draws, Fate, Trace, joined
from spear_core.tolerances import SAME_DIRECTION
from spear_widgets.kit.drawing import as_bytes
from spear_widgets.kit.samples import developing, sample_pictures
from spear_widgets.kit.scene import Scene

MOST_DRAWS = 100_000  # after which the search gives up
VALUES = 40  # singular values that are shown, at most
TILES = 192  # columns of G that are shown
ASKED = (
    (Part.GRADIENT, "does the batch give the gradient that was sent?"),
    (Part.ZEROS, "are the zeros where the forward pass puts them?"),
    (Part.UNIQUE, "does nothing else fit these zeros?"),
    (Part.REPLAY, "do all later layers agree?"),
)


@dataclass(frozen=True)
class Recorded:
    """A run.

    Attributes:
        stage: the client and what the server sees of it.
        states: all states of the attack.
        draws: every draw; None where the attack refused.
        directions: unit columns that were in the pool, in the order in which they came, those of draws first (b, p).
        refusal: why, in words; empty if it did not.
    """

    stage: Scene
    states: tuple[State, ...]
    draws: Draws | None
    directions: Tensor
    refusal: str = ""

    @property
    def last(self) -> State:
        """The result."""
        return self.states[-1]


@lru_cache(maxsize=4)
def recorded(stage: Scene) -> Recorded:
    """Run SPEAR's sampling on what a client sent, and listen."""
    trace = Trace()
    try:
        run = spear_core.states(stage.problem, method="sampling", max_samples=MOST_DRAWS, listen=trace.hear)
        states = tuple(run)
    except InputError as refusal:
        return Recorded(stage, (), None, trace.found, str(refusal))
    return Recorded(stage, states, trace.draws(), joined(trace.found, states[-1].pool.directions))


# ---------------------------------------------------------------- what the page gets
def sent(run: Recorded) -> dict[str, Any]:
    """The run as arrays and texts, see machine.js; `refusal` alone where there was none."""
    if run.draws is None:
        return {"refusal": run.refusal}
    low_rank, stage = run.last.low_rank, run.stage
    b = low_rank.batch_size
    return {
        "refusal": "",
        "b": b,
        "L": low_rank.factor.to(torch.float32),
        "R": low_rank.rows.to(torch.float32),
        "tiles": tiles(stage.layer.weight_grad),
        "columns": stage.layer.weight_grad.shape[1],
        "values": low_rank.singular_values[: min(VALUES, 3 * b)],
        "floor": float(low_rank.floor),
        "live": live_rows(low_rank.factor),
        "least": default_threshold(low_rank) * len(low_rank.factor),
        "first": min(FIRST_ROWS, len(low_rank.factor)),
        "expected": expected_draws(b),
        "photo": developing(stage.batch),
        "truth": as_bytes(sample_pictures(stage.batch, stage.batch.inputs)),
        "weights": stage.true_q,
        "draws": drawn(run),
        "pool": pooled(run),
        "result": result(run),
    }


def tiles(gradient: Tensor) -> Tensor:
    """G for the eye: some of its columns, each entry as a share of a typical large one, int8 (m, ≤ `TILES`)."""
    columns = torch.linspace(0, gradient.shape[1] - 1, min(TILES, gradient.shape[1])).long()
    shown = gradient[:, columns].to(torch.float64)
    shares = (shown / shown.abs().quantile(0.98)).clamp(-1, 1)
    return (127 * shares).round().to(torch.int8)


def drawn(run: Recorded) -> dict[str, Any]:
    """All draws: numbers, rows (units of the layer), candidates, zeros of L q, fates, members of `directions`.

    Zeros are counted as the first stage does, in float32; those of a candidate that was fitted, as the pool does.
    """
    draws, low_rank = run.draws, run.last.low_rank
    assert draws is not None
    L, live = low_rank.factor.to(torch.float32), live_rows(low_rank.factor)
    entries = (draws.directions @ L[live].T).abs()
    coarse = COARSE_ZERO * entries.mean(dim=1, keepdim=True)
    zeros = (entries < coarse).sum(dim=1) + len(L) - len(live)
    exact = run.stage.zero(run.directions).sum(dim=0)
    same = (draws.directions.to(torch.float64) * run.directions.T[draws.members]).sum(
        dim=1
    ).abs() > 1 - SAME_DIRECTION
    zeros = torch.where(
        same & (draws.fates >= Fate.KNOWN) & (draws.members >= 0), exact[draws.members], zeros
    )
    return {
        "count": draws.count,
        "numbers": draws.numbers,
        "sets": live[draws.sets].numpy().astype("uint16"),
        "leftOut": draws.left_out.to(torch.uint8),
        "q": draws.directions,
        "zeros": zeros,
        "fates": draws.fates.to(torch.uint8),
        "members": draws.members,
    }


def pooled(run: Recorded) -> dict[str, Any]:
    """The directions found: as rows, their zeros, whether unique, and how the best choice of them changed."""
    directions, pool = run.directions, run.last.pool
    low_rank = run.last.low_rank
    zeros = run.stage.zero(directions).sum(dim=0)
    place = _places(directions, pool.directions)
    unique = torch.zeros(directions.shape[1], dtype=torch.bool)
    unique[place] = pool.unique
    choices = [state for state in run.states if state.reconstruction is not None and state.chosen]
    matches = [
        {
            "chosen": _places(directions, _chosen(state)).tolist(),
            "match": state.sparsity_match,
        }
        for state in choices
    ]
    alike = (directions.T @ run.stage.true_directions).abs()
    best, sample = alike.max(dim=1)
    sample = torch.where(best > 1 - SAME_DIRECTION, sample, -1)
    return {
        "q": directions.T.contiguous(),
        "zeros": zeros,
        "unique": unique,
        "choices": matches,
        "samples": sample if low_rank.batch_size == alike.shape[1] else torch.full_like(sample, -1),
    }


def _chosen(state: State) -> Tensor:
    assert state.reconstruction is not None
    return state.reconstruction.directions


def _places(directions: Tensor, some: Tensor) -> Tensor:
    """Which of the directions each of some is."""
    return (some.T @ directions).abs().argmax(dim=1) if some.shape[1] else torch.zeros(0, dtype=torch.int64)


def result(run: Recorded) -> dict[str, Any]:
    """The batch, compared with the private one, and the certificate."""
    last, truth = run.last, run.stage.batch.inputs.to(torch.float64)
    certificate = last.certificate
    found = last.reconstruction
    if found is None and last.pool.directions.shape[1]:
        found = reconstruct(run.stage.forward, last.pool.directions)
    rows = truth[:0] if found is None else found.inputs.nan_to_num()
    score = compare(rows, truth)
    error = torch.full_like(truth, torch.inf)
    there = score.order >= 0
    error[there] = rows[score.order[there]] - truth[there]
    parts = {} if certificate is None else certificate.parts
    claims = [] if certificate is None else [bool(row) for row in certificate.certified_rows]
    return {
        "coefficients": torch.zeros(0, last.low_rank.batch_size) if found is None else found.coefficients,
        "lengths": torch.zeros(0) if found is None else found.lengths,
        "order": score.order,
        "psnr": [float(value) for value in score.psnr.clamp(-99, 999)],
        "errors": error.abs().clamp(1e-9, 1e3).log10().to(torch.float32),
        "match": last.sparsity_match,
        "parts": [[str(part), parts.get(part), asked] for part, asked in ASKED],
        "rows": claims,
        "certified": last.certified,
        "draws": last.samples_drawn,
        "seconds": sum(last.seconds.values()),
        "notes": [*(notes(certificate) if certificate is not None else ()), *last.notes],
    }
