"""From the rows that an attack has found on to the network's own inputs, and what is proven of these."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from spear_core.attack.inversion import Inversion, as_inversion
from spear_core.fedavg.training import LocalTraining
from spear_core.front.bound import Exactness, bound
from spear_core.front.descent import Event
from spear_core.front.gradients import misfit
from spear_core.front.part import Front, front_of
from spear_core.front.search import Pictures, rounding_limit, search
from spear_core.model.reading import Reading, choose
from spear_core.problem import Problem
from spear_core.search import Budget, State
from spear_core.tolerances import LARGEST_ROUNDING

ENDED = "network inputs are not sought: the attack was stopped before"
MOVED = "the front part moved in several local steps: network inputs are not sought"


def onwards(
    reading: Reading,
    layer: str | None,
    problem: Problem,
    input_shape: Sequence[int] | None,
    training: LocalTraining | None,
    generator: torch.Generator | None,
    time_limit: float | None,
    watch: Callable[[Event, Tensor, Tensor], None] = lambda *_: None,
) -> Callable[[State], Inversion]:
    """What makes of the attack's last state the result, with the network's inputs where their shape is given.

    Takes the options of `invert`, and refuses before the search what does not fit; `watch` is told as by `Budget`.

    Raises:
        InputError: a shape that does not fit the model.
    """
    if input_shape is None:
        return lambda state: as_inversion(state, problem)
    shape = tuple(map(int, input_shape))
    front = front_of(reading, choose(reading, layer)[0], shape, problem.attacked.weight_grad)
    if training is not None and not training.is_gradient:
        front = replace(front, obstacle=MOVED)
    # a seed, not the generator: its state may differ between processes that have searched together
    seed = 0 if generator is None else generator.initial_seed()
    deadline = float("inf") if time_limit is None else time.monotonic() + time_limit
    budget = Budget(torch.Generator().manual_seed(seed), deadline=deadline, watch=watch)

    def onward(state: State) -> Inversion:
        inversion = as_inversion(state, problem)
        obstacle = ENDED if state.ended else front.obstacle or _too_few(reading, front, inversion.batch_size)
        if obstacle:
            return replace(inversion, notes=(*inversion.notes, obstacle))
        found = _through(inversion, front, problem, reading.gradients, budget)
        if (proven := found.network_inputs_certified) is None or proven.any() or budget.late:
            return found
        told = bound(reading.traced, front, reading.gradients, found.batch_size)
        vague = told is not None and told.rank is not None and told.rank < told.unknowns
        return replace(found, notes=(*found.notes, str(told))) if vague else found

    return onward


def _too_few(reading: Reading, front: Front, batch_size: int) -> str:
    """Why no search is begun: fewer numbers pass than an input has; empty if enough do."""
    found = bound(reading.traced, front, reading.gradients, batch_size, look=False)
    if found is None or found.passed >= found.unknowns:
        return ""
    if found.exactness is Exactness.CANNOT:
        return str(found)
    return (
        f"network inputs are not sought: {found.passed:,} numbers pass for the {found.unknowns:,} of an input"
    )


def _through(
    inversion: Inversion, front: Front, problem: Problem, sent: Mapping[str, Tensor | None], budget: Budget
) -> Inversion:
    """The result with the network's inputs, each of them proven or not; stopped, as far as it came."""
    if not len(inversion.inputs):
        return inversion
    began, target = time.perf_counter(), inversion.inputs.to(torch.float64)
    limit, rows = rounding_limit(inversion.inputs.dtype), len(target)
    inputs = target.new_zeros(rows, *front.shape)
    pictures = Pictures(inputs, target.new_full((rows,), float("inf")))
    notes: list[str] = []
    try:
        search(front, target, limit, budget, pictures)
        proven, told = _proven(inversion, front, problem, sent, budget, pictures)
        notes += told
    except KeyboardInterrupt:
        proven = torch.zeros_like(inversion.certified_rows)
        notes.append("interrupted on the way to the network's inputs")
    if budget.late:
        notes.append("the time limit was reached on the way to the network's inputs")
    untouched = pictures.rest.isinf()
    pictures.inputs[untouched] = float("nan")
    return replace(
        inversion,
        network_inputs=pictures.inputs.to(inversion.inputs.dtype),
        network_inputs_certified=proven,
        network_inputs_found=int((pictures.rest <= limit).sum()),
        seconds={**inversion.seconds, "front part": time.perf_counter() - began},
        notes=(*inversion.notes, *notes),
    )


def _proven(
    inversion: Inversion,
    front: Front,
    problem: Problem,
    sent: Mapping[str, Tensor | None],
    budget: Budget,
    pictures: Pictures,
) -> tuple[Tensor, list[str]]:
    """Which of the network's inputs are proven, and notes on the others."""
    rows, proofs = len(inversion.inputs), pictures.proofs
    good = [at in proofs and not proofs[at].missing for at in range(rows)]
    proven = torch.tensor(good, device=inversion.certified_rows.device) & inversion.certified_rows
    reasons = Counter(proof.missing for proof in proofs.values() if proof.missing)
    lost = int((pictures.rest > rounding_limit(inversion.inputs.dtype)).sum())
    reasons["no input was found that gives the features"] = lost
    reasons["there was no time left for it"] = rows - lost - len(proofs)
    notes = [
        f"{count} of {rows} network inputs are not proven: {why}" for why, count in reasons.items() if count
    ]
    if not proven.any():
        return proven, notes
    if not (inversion.certified and all(good)):
        return proven, [
            *notes,
            "the gradients of the front part were not compared: that takes the whole batch",
        ]
    assert budget.generator is not None
    W = problem.attacked.weight[:, : inversion.inputs.shape[1]].to(torch.float64)
    errors = [proofs[at].error * float(pictures.inputs[at].abs().max()) for at in range(rows)]
    back = inversion.output_grads.to(torch.float64) @ W
    found = misfit(front, pictures.inputs, back, errors, sent, budget.generator)
    if found is not None and found > LARGEST_ROUNDING:
        notes.append(f"network inputs are not proven: they miss the front part's gradients by {found:.0e}")
        proven = torch.zeros_like(proven)
    return proven, notes
