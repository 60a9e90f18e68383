"""Which searches to run on a problem, and in which order: the only place that chooses a method."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from spear_core.attack.augmented import augmented
from spear_core.attack.causes import clipped_apart
from spear_core.attack.counting import CONVINCING, Count, count_samples, expected_rank, ranks
from spear_core.certificate.replay import replay
from spear_core.certificate.sharpen import sharpened
from spear_core.certificate.single import scale_confirmed, single_rows
from spear_core.consistency import noisy
from spear_core.consistency.search import CONSISTENCY
from spear_core.consistency.walk import REFLECT_FROM
from spear_core.consistency.witness import blur, witness
from spear_core.coupled import search as coupled
from spear_core.errors import InputError
from spear_core.fedavg.training import LocalTraining
from spear_core.halfspace.search import HALFSPACE
from spear_core.model.activations import name_of
from spear_core.problem import Problem
from spear_core.search import Budget, Later, Method, Splits, State, Step, Target
from spear_core.spear import closed_form
from spear_core.spear.low_rank import LowRank, split
from spear_core.spear.sampling import FEW_DRAWS, expected_draws
from spear_core.spear.search import SAMPLING
from spear_core.tolerances import precision

# rounding floor beyond which a gradient is no float32 one any more
NO_FLOAT32 = 16 * precision(torch.float32)


@dataclass(frozen=True)
class Plan:
    """The searches to run one after the other until one is certified."""

    methods: tuple[tuple[Method, int], ...]  # each with its b, the fastest first
    count: Count  # what the ranks say about b
    shared: bool = True  # whether the processes of a group search together

    def believes(self, state: State, best: State) -> bool:
        """Whether the end of a search counts; on the next layer's word alone, it must explain all gradients."""
        certificate = state.certificate
        explains = certificate is not None and certificate.reproduces
        first = best.reconstruction is None and state.batch_size == self.count.otherwise
        return state.step is Step.CERTIFICATE and (not first or explains)

    def is_settled(self, state: State, best: State) -> bool:
        """Whether no further method would do better than the last state of a search, or the best one of all."""
        certificate = state.certificate
        if state.solved or (certificate is not None and certificate.reproduces):
            return True
        # all samples are there and agree with the forward pass, although a later layer objects
        whole = certificate is not None and certificate.complete
        if self.count.otherwise is not None and whole and state.sparsity_match > CONVINCING:
            return True
        # all samples are there, of a gradient too noisy to prove them
        complete = best.certificate is not None and best.certificate.complete
        return complete and best.low_rank.noise > NO_FLOAT32


def prepared(
    problem: Problem, method: str, batch_size: int | None, training: LocalTraining | None, budget: Budget
) -> tuple[Target, State, Plan]:
    """What is attacked, the state after step 1, and the plan, from the options of `invert`.

    Refuses what no method can attack, and a rank that does not tell a batch.
    """
    began = time.perf_counter()
    differs = training is not None  # what was sent is a difference of weights, with their rounding
    if training is not None and training.is_gradient:
        training = None  # one step on all samples is η times the gradient
    if training is not None:
        _check_zeros(problem)
        method = "halfspace"  # what moved from step to step are the later layers: only the first one tells b
    moved = training is not None
    splits, low_rank = first_split(problem, method, batch_size, budget.generator, differs, moved)
    problem = splits.problem
    check_method(method, problem, low_rank.batch_size, splits)
    count = count_samples(low_rank, splits, method, batch_size)
    later = (
        Later(witness, blur, replay, sharpened, single_rows, scale_confirmed)
        if len(problem.layers) > 1
        else None
    )
    told = batch_size is not None and batch_size in ranks(low_rank, splits, batch_size)
    target = Target(problem, low_rank, count.batch_size, splits, later, told)
    state = replace(State.beginning(low_rank, count.batch_size), method=method).timed(Step.LOW_RANK, began)
    return target, state, _plan(target, method, batch_size, training, count)


def first_split(
    problem: Problem,
    method: str = "auto",
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
    differs: bool = False,  # of weights, not a gradient
    moved: bool = False,  # from step to step
) -> tuple[Splits, LowRank]:
    """What would be attacked, and its split; refuses gradients of which no factor is left."""
    if reason := clipped_apart(problem.layers):
        raise InputError(reason)
    splits, generator = Splits(problem), generator or torch.Generator().manual_seed(0)
    G, expected = problem.attacked.weight_grad, expected_rank(splits, method, batch_size)
    low_rank = split(G, batch_size, generator=generator, expected=expected, even=differs)
    # where weights move, the gradient of the bias is not that of one more input
    return (splits, low_rank) if moved else augmented(splits, low_rank, batch_size, generator)


def _plan(
    target: Target, method: str, batch_size: int | None, training: LocalTraining | None, count: Count
) -> Plan:
    if training is not None:
        # scipy's optimisation comes along, half a second to import
        from spear_core.fedavg.search import fedavg

        return Plan(((fedavg(training), target.batch_size),), count, shared=False)
    told = batch_size is not None and method in ("auto", "consistency")
    if told and noisy.is_noisy(target.problem, target.low_rank):
        return Plan(((noisy.NOISY, target.batch_size),), count, shared=False)
    if method == "auto" and target.batch_size == 1:
        return Plan(((closed_form.CLOSED_FORM, 1),), count, shared=False)
    order = _order(target, method, count)
    return Plan(tuple((found, b) for name, b in order for found in _methods(name, target, b)), count)


def _order(target: Target, method: str, count: Count) -> list[tuple[str, int]]:
    """Names of the searches, each with its b; the fastest first."""
    problem, b = target.problem, count.batch_size
    if method != "auto":
        return [(method, b)]
    if target.crowded:  # the zeros of layer 1 cannot tell more samples than inputs
        return [("consistency", b)]
    if count.otherwise is not None:  # consistency takes the next layer at its word
        order = [("halfspace", b), ("consistency", count.otherwise)]
        order.insert(0 if expected_draws(b) < FEW_DRAWS else 2, ("sampling", b))
        cheap = count.otherwise < REFLECT_FROM * len(problem.attacked.bias)
        return [("consistency", count.otherwise), *order] if cheap else order
    usable = {name for name, obstacle in obstacles(problem, b, target.splits).items() if not obstacle}
    return [(name, b) for name in ("consistency", "halfspace", "sampling") if name in usable]


def _methods(name: str, target: Target, batch_size: int) -> list[Method]:
    """What goes by a name: near half the width, where the equations of two layers run out, several layers at once."""
    b = target.low_rank.batch_size
    if name == "consistency" and batch_size == b == target.splits.of(1, expected=b).batch_size:
        if coupled.pays(target.problem, batch_size):
            return [coupled.COUPLED]
        if coupled.sharpens(target.problem, batch_size):
            return [CONSISTENCY, coupled.COUPLED]
    return [{"consistency": CONSISTENCY, "halfspace": HALFSPACE, "sampling": SAMPLING}[name]]


def obstacles(problem: Problem, rank: int = 0, splits: Splits | None = None) -> dict[str, str]:
    """What stands in the way of each method; an empty string where nothing does.

    Of a gradient of rank 1, nothing stands in the way of the closed form, which "auto" takes. `splits` are those of
    the layers behind, to see whether they tell so many samples apart.

    Sampling and the half-spaces live on the exact zeros that ReLU leaves in ∂L/∂Z. Consistency needs none,
    but the gradient of the layer that takes σ(Z).
    """
    layer, direct = problem.attacked, {closed_form.NAME: ""} if rank == 1 else {}
    if layer.activation is None:
        none = dict.fromkeys(("sampling", "halfspace", "consistency"), "no elementwise activation follows")
        return direct | none
    zeros = "" if layer.has_relu else f"it needs the zeros of ReLU, and {name_of(layer.activation)} follows"
    chain = "" if problem.layers[1:] else "it needs the gradient of a linear layer right after the activation"
    if splits is not None and not chain and (told := splits.of(1, expected=rank).batch_size) < rank:
        outputs = len(problem.layers[1].bias)
        room = f": {outputs} outputs tell no more samples apart" if outputs <= rank else ""
        chain = f"the next layer's gradient is of rank {told}, below b = {rank}{room}"
    return direct | {"sampling": zeros, "halfspace": zeros, "consistency": chain}


def check_method(method: str, problem: Problem, rank: int = 0, splits: Splits | None = None) -> None:
    """Refuse a method, one of `options.METHODS`, that cannot work on a problem, and name those that can.

    Of rank 1, "auto" works on any layer; a method that is named is refused as always.
    """
    if method == "auto" and rank == 1:
        return
    found = obstacles(problem, rank, splits)
    found.pop(closed_form.NAME, None)
    usable = [f'"{name}"' for name, obstacle in found.items() if not obstacle]
    if (method == "auto" and usable) or not found.get(method, "auto"):
        return
    where = f" on layer {problem.attacked.name!r}" if problem.attacked.name else ""
    if usable:
        raise InputError(
            f'method{where} must be "auto" or {" or ".join(usable)}, got "{method}": {found[method]}'
        )
    raise InputError(f"a method must apply{where}, got none that does: {in_words(found)}")


def _check_zeros(problem: Problem) -> None:
    """Refuse several local steps where the method that inverts them, which is not the caller's choice, cannot work."""
    if obstacle := obstacles(problem)["halfspace"]:
        raise InputError(f"local_steps must be 1 or None on layer {problem.attacked.name!r}: {obstacle}")


def in_words(found: Mapping[str, str]) -> str:
    """Obstacles as one line, methods with the same one together."""
    together = {
        reason: [name for name in found if found[name] == reason] for reason in found.values() if reason
    }
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in together.items())
