"""The attack: from a gradient to the batch behind it.

`states` is the attack, a generator of immutable states; `invert` and `invert_layer` drain it. Whatever steps
through the attack, a widget for example, steps through this code.
"""

import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from spear_core.attack.batch_norm import Frozen, frozen
from spear_core.attack.diagnose import attackable
from spear_core.attack.driver import run
from spear_core.attack.inversion import Inversion, as_inversion
from spear_core.attack.options import check_options
from spear_core.attack.plan import prepared
from spear_core.attack.progress import reporter
from spear_core.attack.scale import other_scale
from spear_core.attack.through import onwards
from spear_core.fedavg.training import LocalTraining, local_training
from spear_core.model.checks import check_layer
from spear_core.model.reading import read
from spear_core.problem import Problem
from spear_core.search import Budget, State
from spear_core.spear.records import Pool
from spear_core.spear.sampling import Draw

Progress = bool | Callable[[State], None]
Example = Tensor | tuple[Any, ...] | dict[str, Any] | None


@torch.inference_mode(False)
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
    example_input: Example = None,
    buffers: Mapping[str, Any] | None = None,
    input_shape: Sequence[int] | None = None,
) -> Inversion:
    """Recover the batch behind the gradients of a model, exactly where it can be proven.

    In every process of a `torch.distributed` group: one result, searched for together (`attack.distributed`).

    Args:
        model: any module with an `nn.Linear` followed by an activation; it is left as it is.
        gradients: by parameter name, or in the order of `model.parameters()`.
        layer: dotted name of the `nn.Linear` whose inputs are wanted; by default the first.
        batch_size: b; by default the numerical rank of the gradient.
        method: "sampling" is SPEAR; "halfspace" is polynomial; "consistency" uses the next layer, too, and needs no
            ReLU; "auto" takes the fastest that applies, and what one leaves, the next one finishes.
        generator: on the CPU, source of all randomness; by default one with seed 0, so that a call repeats itself.
        max_samples: candidates to test before giving up, in each process.
        time_limit: seconds after which to return the best so far.
        progress: True for a progress bar, or a function that is called with every `State`.
        local_steps: for a FedAvg update in place of gradients (see `spear_core.client.update`): how many it took.
        lr: its learning rate, for an update.
        local_batch_size: samples per step, for an update; by default all.
        example_input: for the model's forward, a tensor, tuple or dict, where the model cannot be traced.
        buffers: the client's after its step, by name, where BatchNorm was in training mode (`attack.batch_norm`).
        input_shape: of one input of the network, as (1, 28, 28): `Inversion.network_inputs` is then sought as well.

    Returns:
        The batch, with what could be proven about it. Stopped by a limit or Ctrl-C, the best so far: flagged.

    Raises:
        ValueError: bad input, named, before any work; see `spear_core.errors`.

    >>> from spear_core.client import data, gradients, networks
    >>> batch = data.load("photos", 4, size=16, generator=torch.Generator().manual_seed(0))
    >>> model = networks.fully_connected(768, width=100, generator=torch.Generator().manual_seed(1))
    >>> invert(model, gradients(model, batch.inputs, batch.labels)).certified
    True
    """
    check_options(method, batch_size, max_samples, time_limit, generator, input_shape)
    training = local_training(local_steps, lr, local_batch_size)
    reading = read(model, gradients, example_input)
    options = {"batch_size": batch_size, "method": method, "generator": generator, "max_samples": max_samples}
    if buffers is not None:
        client = frozen(reading, buffers, layer, batch_size, training, input_shape)
        return _normalised(client, layer, time_limit, progress, **options)
    problem = attackable(reading, layer, method if training is None else "auto")
    onward = onwards(reading, layer, problem, input_shape, training, generator, time_limit)
    return onward(_drained(problem, time_limit, progress, training=training, **options))


@torch.inference_mode(False)
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

    Of a single sample it does not matter what follows.

    Takes ∂L/∂W of shape (m, n), ∂L/∂β (m,), W (m, n) and β (m,); the options are those of `invert`.

    Returns:
        As `invert`; labels are None, since they are decided in later layers.

    Raises:
        ValueError: bad input, named, before any work.
    """
    check_options(method, batch_size, max_samples, time_limit, generator)
    problem = Problem((check_layer(weight_grad, bias_grad, weight, bias),))
    options = {"batch_size": batch_size, "method": method, "generator": generator, "max_samples": max_samples}
    return as_inversion(_drained(problem, time_limit, progress, **options), problem)


def states(
    problem: Problem,
    *,
    batch_size: int | None = None,
    method: str = "auto",
    generator: torch.Generator | None = None,
    max_samples: int | None = None,
    deadline: float = float("inf"),
    training: LocalTraining | None = None,
    listen: Callable[[Draw, Tensor, Pool], None] | None = None,
) -> Generator[State, None, None]:
    """The attack, step by step: what `invert` drains. The last state is the result.

    Takes what the server sees, as `spear_core.model.layers.read_problem` makes it from a model; the options of
    `invert`; the `time.monotonic()` after which to stop; what the client did, if the "gradients" are an update; and
    who wants to hear of every draw, as a `study.trace.Trace` does.
    """
    budget = Budget(generator or torch.Generator().manual_seed(0), max_samples, deadline, listen)
    target, state, plan = prepared(problem, method, batch_size, training, budget)
    yield state
    last = yield from run(plan, target, state, budget)
    if training is None and not last.ended and (other := other_scale(target, last, budget)):
        rescaled, note = other
        target, state, plan = prepared(rescaled, method, batch_size, training, budget)
        again = yield from run(plan, target, state, budget)
        yield again.noted(note) if again.solved else replace(last, ended=again.ended)


def _normalised(
    client: Frozen, layer: str | None, time_limit: float | None, progress: Progress, **options: Any
) -> Inversion:
    """The result for a client whose BatchNorms were in training mode: once more with what the first batch tells."""
    deadline = None if time_limit is None else time.monotonic() + time_limit

    def attempt(problem: Problem, method: str) -> tuple[Inversion, bool]:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        state = _drained(problem, left, progress, **options | {"method": method})
        return as_inversion(state, problem), state.ended

    method = options["method"]
    problem = client.problem(attackable(client.reading, layer, method))
    # until the spread of the inputs is known, only their row space is: what needs no more comes first
    row_space_only = method == "auto" and not client.determined and len(problem.layers) > 1
    found, ended = attempt(problem, "consistency" if row_space_only else method)
    if client.attacked is not None and len(found.inputs) == client.attacked.batch_size and not ended:
        again, _ = attempt(client.problem(attackable(client.refined(found.inputs), layer, method)), method)
        found = again if len(again.inputs) == len(found.inputs) else found
    return client.concluded(found)


def _drained(problem: Problem, time_limit: float | None, progress: Progress, **options: Any) -> State:
    """The last state, which is the result."""
    deadline = float("inf") if time_limit is None else time.monotonic() + time_limit
    steps = states(problem, deadline=deadline, **options)
    state = next(steps)  # the split: an interruption before it has nothing to hand back
    with reporter(progress) as report:
        try:
            for state in steps:
                report(state)
        except KeyboardInterrupt as interruption:  # while reporting; the driver knows what to do with it
            with suppress(KeyboardInterrupt):  # thrown back where there is nothing left to stop
                state = [steps.throw(interruption), *steps][-1]
    return state
