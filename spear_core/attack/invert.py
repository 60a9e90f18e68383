"""The steps in order: from a gradient to the batch behind it.

`states` is the attack, a generator of immutable states; `invert` and `invert_layer` drain it. Whatever steps
through the attack, a widget for example, steps through this code.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from spear_core.attack.counting import CONVINCING, Count, count_samples, expected_rank
from spear_core.attack.distributed import Team, shared_states
from spear_core.attack.inversion import Inversion, restore_precision
from spear_core.attack.options import check_options
from spear_core.attack.plan import check_method, obstacles
from spear_core.attack.progress import reporter
from spear_core.certificate.certify import GRADIENT, REPLAY
from spear_core.consistency.noisy import is_noisy, noisy_states
from spear_core.consistency.states import certified, consistency_states, spans_batch
from spear_core.fedavg.search import fedavg_states
from spear_core.fedavg.training import LocalTraining, local_training
from spear_core.halfspace.states import halfspace_states
from spear_core.model.checks import check_layer
from spear_core.model.layers import read_problem
from spear_core.problem import Problem
from spear_core.search import State
from spear_core.spear.low_rank import LowRank, split
from spear_core.spear.search import conclude, sampling_states, timed
from spear_core.spear.sparsity import Pool
from spear_core.study import theory
from spear_core.tolerances import precision

SEARCHES = {"consistency": consistency_states, "halfspace": halfspace_states, "sampling": sampling_states}

FEW_DRAWS = 1e5  # sampling that is expected to take no more is done within a second
NOISY = 16 * precision(torch.float32)  # rounding floor beyond which a gradient is no float32 one any more

Progress = bool | Callable[[State], None]


def invert(
    model: nn.Module,
    gradients: Mapping[str, Any] | Iterable[Any],
    layer: str | None = None,
    *,
    batch_size: int | None = None,
    method: str = "auto",
    generator: torch.Generator | None = None,
    max_samples: int | None = None,
    time_limit: float | None = None,
    progress: Progress = False,
    local_steps: int | None = None,
    lr: float | None = None,
    local_batch_size: int | None = None,
) -> Inversion:
    """Recover the batch behind the gradients of a model, exactly where it can be proven.

    Called in every process of an initialised `torch.distributed` group, with the same arguments, the processes
    search together and return the same result (`spear_core.attack.distributed`).

    Args:
        model: any module with an `nn.Linear` followed by an activation; it is left as it is.
        gradients: by parameter name, or in the order of `model.parameters()`.
        layer: dotted name of the `nn.Linear` whose inputs are wanted; by default the first.
        batch_size: b; by default the numerical rank of the gradient.
        method: "sampling" is SPEAR; "halfspace" does the same in polynomial time; "consistency" uses the next
            layer as well, and needs no ReLU; "auto" takes the fastest that applies, and what one leaves,
            the next one finishes.
        generator: CPU generator, source of all randomness; by default a new one with seed 0, so that the
            same call gives the same result.
        max_samples: candidates to test before giving up, in each process.
        time_limit: seconds after which to return the best so far.
        progress: True for a progress bar, or a function that is called with every `State`.
        local_steps: for a FedAvg update, weights before minus after, in the place of the gradients: how many
            steps the client took (see `spear_core.client.update`).
        lr: its learning rate, for an update.
        local_batch_size: samples per step, for an update; by default all.

    Returns:
        The batch, with what could be proven about it. Stopped by a limit or by Ctrl-C, the best so far:
        flagged.

    Raises:
        ValueError: bad input, named, before any work; see `spear_core.errors`.

    >>> import spear_core
    >>> from spear_core import client
    >>> from spear_core.client import data, networks
    >>> batch = data.load("photos", 4, size=16, generator=torch.Generator().manual_seed(0))
    >>> model = networks.fully_connected(768, width=100, generator=torch.Generator().manual_seed(1))
    >>> inversion = spear_core.invert(model, client.gradients(model, batch.inputs, batch.labels))
    >>> inversion.certified, tuple(inversion.inputs.shape)
    (True, (4, 768))
    """
    check_options(method, batch_size, max_samples, time_limit, generator)
    training = local_training(local_steps, lr, local_batch_size)
    problem = read_problem(model, gradients, layer)
    return _drain(problem, batch_size, method, generator, max_samples, time_limit, progress, training)


def invert_layer(
    weight_grad: Tensor,
    bias_grad: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    batch_size: int | None = None,
    method: str = "auto",
    generator: torch.Generator | None = None,
    max_samples: int | None = None,
    time_limit: float | None = None,
    progress: Progress = False,
) -> Inversion:
    """Recover the batch from one linear layer that ReLU follows, without knowing the rest of the network.

    Args:
        weight_grad: ∂L/∂W, shape (m, n).
        bias_grad: ∂L/∂β, shape (m,).
        weight: W, shape (m, n).
        bias: β, shape (m,).
        batch_size: as in `invert`, like all that follow.
        method: see `invert`.
        generator: see `invert`.
        max_samples: see `invert`.
        time_limit: see `invert`.
        progress: see `invert`.

    Returns:
        As `invert`; labels are None, since they are decided in later layers.

    Raises:
        ValueError: bad input, named, before any work.
    """
    check_options(method, batch_size, max_samples, time_limit, generator)
    problem = Problem((check_layer(weight_grad, bias_grad, weight, bias),))
    return _drain(problem, batch_size, method, generator, max_samples, time_limit, progress)


def states(
    problem: Problem,
    *,
    batch_size: int | None = None,
    method: str = "auto",
    generator: torch.Generator | None = None,
    max_samples: int | None = None,
    deadline: float = float("inf"),
    training: LocalTraining | None = None,
) -> Iterator[State]:
    """The attack, step by step: what `invert` drains.

    Args:
        problem: what the server sees; `spear_core.model.layers.read_problem` makes it from a model.
        batch_size: b; by default the numerical rank.
        method: see `invert`.
        generator: CPU generator.
        max_samples: candidates to test before giving up.
        deadline: `time.monotonic()` after which to stop.
        training: what the client did, if the "gradients" are a FedAvg update.

    Yields:
        States; the last one is the result.
    """
    generator = generator or torch.Generator().manual_seed(0)
    began = time.perf_counter()
    differs = training is not None  # what was sent is a difference of weights, with their rounding
    if training is not None and training.is_gradient:
        training = None  # one step on all samples is η times the gradient
    if training is not None:
        method = "halfspace"  # what moved from step to step are the later layers: only the first one tells b
    check_method(method, problem)
    low_rank = split(
        problem.attacked.weight_grad,
        batch_size,
        generator=generator,
        expected=expected_rank(problem, method, batch_size),
        even=differs,
    )
    count = count_samples(low_rank, problem, method, batch_size)
    pool = Pool.empty(low_rank.batch_size, low_rank.factor.device)
    state = State("low rank", low_rank, pool, batch_size=count.batch_size, method=method)
    state = timed(state, "low rank", began)
    yield state
    if training is not None:
        yield from fedavg_states(
            problem,
            low_rank,
            state,
            training,
            generator=generator,
            max_samples=max_samples,
            deadline=deadline,
        )
        return
    if batch_size is not None and method in ("auto", "consistency") and is_noisy(problem, low_rank):
        yield from noisy_states(problem, low_rank, state, generator=generator, deadline=deadline)
        return
    best, team = state, Team.gather(generator)
    for name, b in _plan(method, problem, low_rank, count):

        def search(before: State, generator: torch.Generator, name: str = name) -> Iterator[State]:
            return SEARCHES[name](
                problem, low_rank, before, generator=generator, max_samples=max_samples, deadline=deadline
            )

        before = replace(best, batch_size=b)
        if team is None:
            steps = search(before, generator)
        else:
            steps = shared_states(search, before, problem, team, deadline=deadline)
        for step in steps:
            state = step
            yield state
        best = max(state, best, key=_worth)
        late = time.monotonic() >= deadline if team is None or team.alone else team.stopped
        explained = count.otherwise is not None and _convinces(state)
        if state.certified or explained or late or _as_good_as_noise_allows(best) or _replays(state):
            break
    if count.note and not best.certified:
        best = replace(best, notes=(*best.notes, count.note))
    if best is not state:
        yield best


def _plan(method: str, problem: Problem, low_rank: LowRank, count: Count) -> list[tuple[str, int]]:
    """The searches to run one after the other until one is certified, each with its b; the fastest first."""
    b = count.batch_size
    if method != "auto":
        return [(method, b)]
    usable = [name for name, obstacle in obstacles(problem).items() if not obstacle]
    if b > low_rank.batch_size:  # the zeros of layer 1 cannot tell more samples than inputs
        usable = ["consistency"]
    elif count.otherwise is not None:  # consistency takes the next layer at its word, so it is not the first
        plan = [("halfspace", b), ("consistency", count.otherwise)]
        plan.insert(0 if theory.expected_draws(b) < FEW_DRAWS else 2, ("sampling", b))
        return plan
    elif "consistency" in usable and not spans_batch(problem, low_rank):
        usable.remove("consistency")
    return [(name, b) for name in SEARCHES if name in usable]


def _convinces(state: State) -> bool:
    """Whether all samples are there and agree with the forward pass, although a later layer objects."""
    certificate = state.certificate
    return certificate is not None and certificate.complete and state.sparsity_match > CONVINCING


def _as_good_as_noise_allows(state: State) -> bool:
    """Whether all samples are there, of a gradient too noisy to prove them: no other method would do better."""
    complete = state.certificate is not None and state.certificate.complete
    return complete and state.low_rank.noise > NOISY


def _replays(state: State) -> bool:
    """Whether the batch gives the gradients of all layers, so that no other method could find another one."""
    certificate = state.certificate
    return certificate is not None and all(certificate.parts[part] is True for part in (GRADIENT, REPLAY))


def _worth(state: State) -> tuple[int, float]:
    """How good a result is: proven rows first, then λ."""
    return state.proven, state.sparsity_match if state.reconstruction is not None else -1.0


def _drain(
    problem: Problem,
    batch_size: int | None,
    method: str,
    generator: torch.Generator | None,
    max_samples: int | None,
    time_limit: float | None,
    progress: Progress,
    training: LocalTraining | None = None,
) -> Inversion:
    deadline = float("inf") if time_limit is None else time.monotonic() + time_limit
    steps = states(
        problem,
        batch_size=batch_size,
        method=method,
        generator=generator,
        max_samples=max_samples,
        deadline=deadline,
        training=training,
    )
    best = state = next(steps)  # the split: an interruption before it has nothing to hand back
    with reporter(progress) as report:
        try:
            for state in steps:
                best = max(state, best, key=_worth) if state.step == "certificate" else best
                report(state)
        except KeyboardInterrupt:
            if state.step == "consistency":
                state = certified(state, problem)
            elif state.step != "certificate":
                *_, state = conclude(state, problem)
            state = max(state, best, key=_worth)  # an earlier method may have proven more
            state = replace(state, notes=(*state.notes, "interrupted"))
    return as_inversion(state, problem)


def as_inversion(state: State, problem: Problem) -> Inversion:
    """The result that a state amounts to; of the last state, the result of the attack."""
    like = problem.attacked.weight_grad
    m, n = like.shape
    b = state.batch_size
    found, certificate = state.reconstruction, state.certificate
    if found is None or certificate is None:
        empty = torch.zeros(0, dtype=torch.bool, device=like.device)
        return Inversion(
            inputs=restore_precision(empty.new_zeros(0, n, dtype=torch.float64), like),
            output_grads=restore_precision(empty.new_zeros(0, m, dtype=torch.float64), like),
            labels=None,
            batch_size=b,
            certified=False,
            certified_rows=empty,
            sparsity_match=0.0,
            gradient_residual=1.0,
            samples_drawn=state.samples_drawn,
            seconds=state.seconds,
            method=state.method,
            notes=(*state.notes, *problem.notes, f"none of the {b} samples was found"),
        )
    missing, proven = b - len(found.coefficients), certificate.certified_rows
    guesses = "; the others are guesses" if not proven.all() else ""
    notes = (f"{missing} of {b} samples are missing{guesses}",) if missing else ()
    return Inversion(
        inputs=restore_precision(found.inputs, like),
        output_grads=restore_precision(certificate.output_grads, like),
        labels=certificate.labels,
        batch_size=b,
        certified=state.certified,
        certified_rows=certificate.certified_rows,
        sparsity_match=found.sparsity_match,
        gradient_residual=certificate.gradient_residual,
        samples_drawn=state.samples_drawn,
        seconds=state.seconds,
        method=state.method,
        notes=(*state.notes, *problem.notes, *notes, *certificate.notes),
    )
