"""How an attack moves: a method takes what is attacked, a state and a budget, and yields better states.

Every method is a `Search`, and brings its own conclusion for the case that it is stopped. `attack.plan` chooses among
them, `attack.driver` runs them; a widget that steps through an attack steps through the same states.
"""

import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from spear_core.certificate.record import Certificate, OutputErrors, Replay
from spear_core.problem import Problem
from spear_core.spear.low_rank import FIRST_RANK, LowRank, split
from spear_core.spear.records import Forward, Pool, Reconstruction

T = TypeVar("T")


class Step(StrEnum):
    """What a state is the result of."""

    LOW_RANK = "low rank"
    SAMPLING = "sampling"
    HALFSPACE = "halfspace"
    CONSISTENCY = "consistency"
    SELECTION = "selection"
    CERTIFICATE = "certificate"


@dataclass(frozen=True)
class State:
    """One moment of an attack. Later states hold all that earlier ones found.

    Attributes:
        step: what was done last.
        low_rank: step 1, the split of the gradient.
        pool: steps 2 and 3, the directions that passed the filter.
        samples_drawn: candidates tested so far, or random starts of the methods that do not draw.
        chosen: step 4, positions in the pool.
        reconstruction: step 5, the batch that the chosen directions give.
        certificate: what could be proven about it.
        seconds: time by step.
        method: how the directions were found, in words; several are joined by "+".
        notes: why the search stopped early, in words.
        batch_size: b; the rank of the split, unless a later layer tells of more samples than inputs.
        ended: by the time limit or an interruption, after which nothing more is begun.
    """

    step: Step
    low_rank: LowRank
    pool: Pool
    samples_drawn: int = 0
    chosen: tuple[int, ...] = ()
    reconstruction: Reconstruction | None = None
    certificate: Certificate | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    method: str = "sampling"
    notes: tuple[str, ...] = ()
    batch_size: int = 0
    ended: bool = False

    def __post_init__(self) -> None:
        """b is the rank of the split unless said otherwise."""
        if not self.batch_size:
            object.__setattr__(self, "batch_size", self.low_rank.batch_size)

    @classmethod
    def beginning(cls, low_rank: LowRank, batch_size: int = 0) -> "State":
        """After step 1."""
        pool = Pool.empty(low_rank.batch_size, low_rank.factor.device)
        return cls(Step.LOW_RANK, low_rank, pool, batch_size=batch_size)

    @property
    def sparsity_match(self) -> float:
        """λ of the best batch so far, 0 before there is one."""
        return 0.0 if self.reconstruction is None else self.reconstruction.sparsity_match

    @property
    def proven(self) -> int:
        """How many rows are proven, see `Certificate.proven_rows`."""
        return 0 if self.certificate is None else int(self.certificate.proven_rows.sum())

    @property
    def proven_coefficients(self) -> Tensor:
        """c_i of the rows that are proven, shape (k, b)."""
        if self.reconstruction is None or self.certificate is None:
            return self.low_rank.factor.new_zeros(0, self.low_rank.batch_size)
        return self.reconstruction.coefficients[self.certificate.proven_rows]

    @property
    def solved(self) -> bool:
        """Whether all b rows are proven, so that no search would find another batch."""
        certificate = self.certificate
        return certificate is not None and certificate.complete and bool(certificate.proven_rows.all())

    @property
    def certified(self) -> bool:
        """Whether all b rows are certified, each as one sample."""
        return self.solved and self.certificate is not None and bool(self.certificate.certified_rows.all())

    def timed(self, step: str, began: float) -> "State":
        """The state with the time since `began`, of `time.perf_counter()`, added to a step."""
        spent = self.seconds.get(step, 0.0) + time.perf_counter() - began
        return replace(self, seconds={**self.seconds, step: spent})

    def noted(self, *notes: str) -> "State":
        """The state with more to say."""
        return replace(self, notes=(*self.notes, *notes))


@dataclass(frozen=True)
class Splits:
    """The splits of the layers behind the attacked one, each computed once: several steps ask for them.

    Attributes:
        problem: what the server sees.
    """

    problem: Problem
    _known: dict[tuple[int, int | None], LowRank] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def behind(self, problem: Problem) -> "Splits":
        """The same splits for a problem of the same weight gradients."""
        same = Splits(problem)
        object.__setattr__(same, "_known", self._known)
        return same

    def of(self, place: int, batch_size: int | None = None, *, expected: int = FIRST_RANK) -> LowRank:
        """The split of one layer's weight gradient.

        Args:
            place: of the layer in the chain, the attacked one being 0.
            batch_size: rank of the split; by default the numerical rank.
            expected: a rank that is likely, see `low_rank.split`.
        """
        for (known_place, asked), known in self._known.items():
            if known_place == place and batch_size in (asked, known.batch_size):
                return known
        generator = torch.Generator().manual_seed(0)
        found = split(
            self.problem.layers[place].weight_grad, batch_size, generator=generator, expected=expected
        )
        self._known[place, batch_size] = found
        return found


@dataclass(frozen=True)
class Later:
    """What the layers behind the attacked one say, as functions of rooms further up, which a target brings along.

    Attributes:
        witness: of (target, coefficients, generator): samples that the next layer proves, and errors, root mean square.
        blur: the same errors alone, of samples that the next layer has proven while they were searched for.
        replay: of (target, pre-activations of all samples as rows, ∂L/∂z as far as it is known): the client played
            again, or None where that cannot be.
        sharpen: of (target, batch, check, budget): the batch and its certificate, better where all layers prove more.
        single: of (target, batch, output errors, fewest active units): which rows, if proven, are one sample each.
        scale: of (target, batch, replay, limit of its residual, generator): does anybody object to another scale?
    """

    witness: Callable[["Target", Tensor, torch.Generator | None], tuple[Tensor, Tensor]]
    blur: Callable[["Target", Tensor, torch.Generator | None], Tensor]
    replay: Callable[["Target", Tensor, Tensor | None], Replay | None]
    sharpen: Callable[
        ["Target", Reconstruction, Callable[..., Certificate], "Budget"], tuple[Reconstruction, Certificate]
    ]
    single: Callable[["Target", Reconstruction, OutputErrors | None, Tensor | None], Tensor]
    scale: Callable[["Target", Reconstruction, Replay | None, float, torch.Generator | None], bool]


@dataclass(frozen=True)
class Target:
    """What is attacked; made once, so that what follows from it is computed once.

    Attributes:
        problem: the attacked layer and what follows it.
        low_rank: the split of its gradient.
        batch_size: b; by default the rank of the split.
        splits: of the layers behind.
        later: whom to ask about the layers behind; None where there are none.
        told: whether the caller gave b, and a gradient has that rank: every sample is one of its b terms then.
    """

    problem: Problem
    low_rank: LowRank
    batch_size: int = 0
    splits: Splits = field(default=cast(Splits, None), repr=False)
    later: Later | None = None
    told: bool = False
    _made: dict[Hashable, object] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """What was not given follows from the problem."""
        object.__setattr__(self, "batch_size", self.batch_size or self.low_rank.batch_size)
        object.__setattr__(self, "splits", self.splits or Splits(self.problem))

    @property
    def forward(self) -> Forward:
        """The attacked layer in the row space of its gradient."""
        return self.once("forward", lambda: Forward.of(self.low_rank, self.problem.attacked))

    @property
    def crowded(self) -> bool:
        """Whether there are more samples than layer 1 can tell apart (b > rank)."""
        return self.batch_size > self.low_rank.batch_size

    def holding(self, batch_size: int) -> "Target":
        """The same target as if it held so many samples; what was made of it is not made again."""
        other = replace(self, batch_size=batch_size)
        object.__setattr__(other, "_made", self._made)
        return other

    def once(self, what: Hashable, make: Callable[[], T]) -> T:
        """What `make` returns, made at the first call only.

        Args:
            what: to know it by; with b, where it depends on that.
            make: makes it.
        """
        if what not in self._made:
            self._made[what] = make()
        return cast(T, self._made[what])


@dataclass(frozen=True)
class Budget:
    """How long a search may go on, its randomness, and who listens.

    Attributes:
        generator: CPU generator, source of all randomness.
        max_samples: candidates or starts after which to give up; None leaves it to the method.
        deadline: `time.monotonic()` after which to stop.
        listen: told of every chunk of draws, which passed the first stage, and the pool; see `study.trace`.
        watch: told what has moved which pictures to where; see `study.forming`.
    """

    generator: torch.Generator | None = None
    max_samples: int | None = None
    deadline: float = float("inf")
    listen: Callable[[Any, Tensor, Pool], None] | None = None
    watch: Callable[[Any, Tensor, Tensor], None] = lambda *_: None

    @property
    def late(self) -> bool:
        """Whether the deadline has passed."""
        return time.monotonic() >= self.deadline


# Yields better and better states; the last one holds the certificate of the best batch, proven or not
Search = Callable[[Target, State, Budget], Iterator[State]]


@dataclass(frozen=True)
class Method:
    """A way to find the samples.

    Attributes:
        name: as `invert` takes it and results show it.
        search: from what earlier methods have left on.
        conclude: makes the best of what a stopped search has found.
        finds_samples: whether it finds samples one by one; otherwise it collects directions in a pool.
        exchange_every: starts between two exchanges of processes that search together, at least.
    """

    name: str
    search: Search
    conclude: Search
    finds_samples: bool = False
    exchange_every: int = 1


def stopped_late(budget: Budget, missing: int, tried: str) -> tuple[str, ...]:
    """The note of a search that the time limit stopped with samples missing, and what it had tried; else none."""
    return (f"stopped at the time limit after {tried}",) if missing > 0 and budget.late else ()
